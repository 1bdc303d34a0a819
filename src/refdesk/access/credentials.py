"""What a caller was let in by: kept with the connection, so that what is open can end with it."""

from typing import Literal

import msgspec
from starlette.requests import HTTPConnection

Kind = Literal["operator", "key", "token", "session", "local"]

_KEPT_AS = "refdesk.credential"


class Credential(msgspec.Struct, frozen=True):
    """``id`` names it and is no secret: a key's or a session's, a token's digest. ``secret`` is what only the caller has."""

    kind: Kind
    id: str = ""
    secret: str = ""
    expires_at: float = float("inf")
    """In seconds since 1970."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.id}"


def keep(connection: HTTPConnection, credential: Credential) -> None:
    connection.scope[_KEPT_AS] = credential


def kept(connection: HTTPConnection) -> Credential | None:
    """What this caller was let in by; None where they were not, or need not be."""
    found: Credential | None = connection.scope.get(_KEPT_AS)
    return found
