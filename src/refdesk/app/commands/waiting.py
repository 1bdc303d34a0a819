"""Why a document waits, in words for people."""

from datetime import UTC, datetime
from typing import Any


def why(document: dict[str, Any], *, now: datetime | None = None) -> str:
    """Of a pending document as the service shows it: its place, or what holds it up."""
    waiting = document.get("waiting")
    if waiting is None:
        return "queued"
    match waiting["reason"]:
        case "indexing":
            return "being indexed"
        case "retrying":
            failed = _count(waiting["attempts"], "attempt")
            return f"{failed} failed, the next {_next_try(waiting, now)}: {document['failure']}"
        case "part_away":
            return f"a part is away, the next attempt {_next_try(waiting, now)}: {document['failure']}"
        case "broker_away":
            return f"NATS has not taken it yet; {_ahead(waiting)}"
        case "indexer_away":
            return f"no indexer is at work; {_ahead(waiting)}"
        case _:
            return f"queued, {_ahead(waiting)}"


def _ahead(waiting: dict[str, Any]) -> str:
    more = "+" if waiting["ahead_at_least"] else ""
    return f"{waiting['ahead']:,}{more} ahead" if waiting["ahead"] else "nothing ahead"


def _next_try(waiting: dict[str, Any], now: datetime | None) -> str:
    left_s = (datetime.fromisoformat(waiting["next_try_at"]) - (now or datetime.now(UTC))).total_seconds()
    return f"comes in {left_s:.0f} s" if left_s >= 1 else "comes now"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
