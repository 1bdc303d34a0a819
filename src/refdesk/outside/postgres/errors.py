"""What PostgreSQL's refusals mean to us: its SQLSTATE as an error of the one tree.

What may pass by itself, or by an operator's hand, is an `Unavailable` of some kind. Everything else is a bug of ours and stays
what it is. The driver's error is the cause of ours: its words may name users and hosts, so that only operators are shown them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from refdesk.contracts.errors import InsufficientStorage, ReadOnly, TransactionConflict, Unavailable

_MEANINGS: Mapping[str, tuple[type[Unavailable], str]] = {
    "08": (Unavailable, "lost the connection"),
    "25006": (ReadOnly, "takes no writes: it is a standby, or was set to read only"),
    "28": (Unavailable, "does not let Refdesk's user in"),
    "3D000": (Unavailable, "has no such database"),
    "40001": (TransactionConflict, "ended this change so that another one could go on"),
    "40P01": (TransactionConflict, "ended this change so that another one could go on"),
    "42501": (Unavailable, "does not allow this to Refdesk's user"),
    "53100": (InsufficientStorage, "has no space left on its disk"),
    "53200": (Unavailable, "has no memory left"),
    "53300": (Unavailable, "takes no more connections"),
    "53": (Unavailable, "has reached a limit of its own"),
    "55P03": (Unavailable, "has locked for too long what this needs"),
    "57014": (Unavailable, "took longer for this than a statement may take"),
    "57P": (Unavailable, "is starting, stopping or failing over"),
    "58": (Unavailable, "cannot read or write its files"),
}
"""By SQLSTATE, or by its beginning (PostgreSQL's manual, appendix A): the error, and what the part does."""


@contextmanager
def translated(part: str = "PostgreSQL") -> Iterator[None]:
    """Raise the kind of `Unavailable` that the driver's error is, naming the part; let everything else through."""
    try:
        yield
    except psycopg.Error as error:
        known = meaning_of(error, part=part)
        if known is None:
            raise
        raise known from error


def meaning_of(error: psycopg.Error, *, part: str) -> Unavailable | None:
    """None for what is a bug of ours."""
    state = error.sqlstate or ""
    kind, does = next((_MEANINGS[key] for key in (state, state[:3], state[:2]) if key in _MEANINGS), (None, ""))
    if kind is None and isinstance(error, psycopg.OperationalError):
        kind, does = Unavailable, f"does not answer ({type(error).__name__})"
    if kind is None:
        return None
    return kind(f"{part} {does}. It is tried again by itself; `refdesk doctor` says why.")
