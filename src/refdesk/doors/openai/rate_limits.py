"""What is left of a caller's limits, in the headers that OpenAI's clients and gateways read. Without Valkey there are none."""

from refdesk.answering.usage.budget import Pace, Room

MINUTE_S, HOUR_S = 60, 3600


def rate_limit_headers(pace: Pace | None) -> dict[str, str]:
    """``requests`` are those of this minute; ``tokens`` those of the cap with the least left, be it a day's or month's."""
    if pace is None:
        return {}
    headers = _of("requests", pace.requests)
    return headers if pace.tokens is None else headers | _of("tokens", pace.tokens)


def _of(kind: str, room: Room) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(room.limit),
        f"x-ratelimit-remaining-{kind}": str(room.left),
        f"x-ratelimit-reset-{kind}": _duration(room.resets_in_s),
    }


def _duration(seconds: int) -> str:
    """As OpenAI writes it: ``42s``, ``6m0s``, ``11h2m5s``."""
    hours, minutes = f"{seconds // HOUR_S}h", f"{seconds % HOUR_S // MINUTE_S}m"
    shown = [*([hours] if seconds >= HOUR_S else []), *([minutes] if seconds >= MINUTE_S else [])]
    return "".join([*shown, f"{seconds % MINUTE_S}s"])
