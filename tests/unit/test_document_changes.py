"""What people send is brought to one safe form before anything is written."""

import pytest

from refdesk.contracts.documents import Document, title_of
from refdesk.documents.changes import Change, Limits, filename, is_id, new_id

LIMITS = Limits()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_ids_sort_by_the_time_they_were_made() -> None:
    """UUIDs of version 7, as hexadecimal digits; never the same twice."""
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(is_id(one) and one[12] == "7" and one[16] in "89ab" for one in ids)
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("a\r\nSet-Cookie: x.md", "aSet-Cookie: x.md"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("cafe\u0301.md", "caf\u00e9.md"),
        ("  ", None),
        ("..", None),
        ("folder/", None),
        (None, None),
        (".env", ".env"),
    ],
)
def test_a_filename_is_made_safe(given: str | None, safe: str | None) -> None:
    """No path, no control or direction characters."""
    assert filename(given, LIMITS) == safe


def test_a_long_filename_keeps_its_extension() -> None:
    """The media type is read from it."""
    name = filename("x" * 500 + ".docx", LIMITS)
    assert name is not None
    assert len(name) == LIMITS.filename_chars_max
    assert name.endswith("x.docx")


@pytest.mark.parametrize(("name", "title"), [("a.b.md", "a.b"), (".env", ".env"), ("README", "README"), (None, "")])
def test_a_title_comes_from_the_filename(name: str | None, title: str) -> None:
    """Without the extension."""
    assert title_of(name) == title


def test_readers_and_tags_have_one_form() -> None:
    """Order and repetition make no new version."""
    change = Change(readers=("hr", "everyone", "hr"), tags=(" b ", "a", "b")).checked(LIMITS)
    assert (change.readers, change.tags) == (("everyone", "hr"), ("a", "b"))
    assert Change(readers=()).checked(LIMITS).readers == ()


def test_the_fields_of_a_document_are_the_contract() -> None:
    """The columns that a change writes are fields that readers see."""
    fields = set(Document.__struct_fields__)
    assert set(Change(url="").over(dict.fromkeys(fields))) < fields
