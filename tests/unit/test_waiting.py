"""Why a document waits, in words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from refdesk.app.commands.waiting import why

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILURE = "The Document Service does not answer."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "queued, 12 ahead"),
        ({"ahead": 0}, "queued, nothing ahead"),
        ({"ahead": 1000, "ahead_at_least": True}, "queued, 1,000+ ahead"),
        ({"reason": "indexing"}, "being indexed"),
        (
            {"reason": "retrying", "attempts": 2, "next_try_at": "2026-01-01T12:00:14Z"},
            f"2 attempts failed, the next comes in 14 s: {FAILURE}",
        ),
        (
            {"reason": "part_away", "next_try_at": "2026-01-01T11:59:59Z"},
            f"a part is away, the next attempt comes now: {FAILURE}",
        ),
        ({"reason": "broker_away"}, "NATS has not taken it yet; 12 ahead"),
        ({"reason": "indexer_away"}, "no indexer is at work; 12 ahead"),
    ],
)
def test_every_reason_has_words(fields: dict[str, Any], words: str) -> None:
    """Its place, or what holds it up."""
    waiting = {"reason": "queued", "ahead": 12, "ahead_at_least": False, "attempts": 0, "next_try_at": None, **fields}
    assert why({"failure": FAILURE, "waiting": waiting}, now=NOW) == words


def test_before_the_service_has_said_it_is_queued() -> None:
    """As in the answer to a write."""
    assert why({"failure": None, "waiting": None}) == "queued"
