"""Where a document is from and when it was changed, on its way into the index."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from refdesk.contracts.documents import ManifestEntry
from refdesk.contracts.events import DocumentChanged
from refdesk.index.chunks import SOURCES_MAX, sources_of
from refdesk.index.ledger.generations import Behind
from refdesk.indexing.pipeline import _facts
from refdesk.indexing.reembedding import _event

FIELDS: dict[str, Any] = {
    "document_id": "d", "version": 1, "content_sha256": "0", "media_type": "text/plain", "title": "Leave", "readers": ("hr",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("external_id", "sources"),
    [
        ("wiki/hr/leave.md", ("wiki", "wiki/hr")),
        ("leave.md", ()),
        ("/srv/leave.md", ("/srv",)),
        ("wiki//leave.md", ("wiki",)),
        ("file:///srv/wiki/leave.md", ("file:///srv", "file:///srv/wiki")),
        ("https://wiki.example/hr/leave", ("https://wiki.example", "https://wiki.example/hr")),
        ("", ()),
        (None, ()),
    ],
)
def test_sources_are_the_folders_of_an_external_id(external_id: str | None, sources: tuple[str, ...]) -> None:
    """From the outermost on; a document without folders is in none."""
    assert sources_of(external_id) == sources


def test_of_endless_folders_the_outer_ones_count() -> None:
    """No external id makes an entry of the index grow with its square."""
    assert len(sources_of("a/" * 10_000)) == SOURCES_MAX


def test_an_event_says_where_a_document_is_from_and_when_it_was_changed() -> None:
    """The day is that of Greenwich, wherever the event is from."""
    late = datetime(2026, 5, 1, 23, 30, tzinfo=timezone(timedelta(hours=-3)))
    facts = _facts(DocumentChanged(**FIELDS, external_id="wiki/leave.md", occurred_at=late))
    assert (facts.sources, facts.changed_on) == (("wiki",), date(2026, 5, 2))


def test_a_new_generation_is_told_the_same() -> None:
    """Not the day on which it is built."""
    changed = datetime(2026, 5, 1, tzinfo=UTC)
    entry = ManifestEntry(
        **FIELDS, deleted=False, state="indexed", filename=None, url=None, tags=(), external_id="wiki/leave.md",
        updated_at=changed, changed_seconds_ago=1.0,
    )  # fmt: skip
    event = _event(Behind("d", 1, False), entry)
    assert isinstance(event, DocumentChanged)
    assert (event.external_id, event.occurred_at) == ("wiki/leave.md", changed)
