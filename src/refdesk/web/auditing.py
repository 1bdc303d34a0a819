"""What the doors tell the audit log (`access.audit`): of each request a trail, which knows who came, for what, and how it ended.

A handler adds what only it knows: which object it is about (``about``), and what else was done on the way (``also``).
"""

import re
from datetime import UTC, datetime

from starlette.requests import HTTPConnection

from refdesk.access.audit import READING, WRITINGS, Audit, Entry, Result
from refdesk.access.authentication import bearer
from refdesk.access.clients import caller
from refdesk.access.credentials import kept
from refdesk.access.policy import ANONYMOUS, Action
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import RefdeskError
from refdesk.outside import logs

_TRAIL = "refdesk.trail"
_OBJECT_ID = re.compile(r"[\x21-\x7e]{1,200}")
NO_ID = "?"
"""In place of what a caller gave for an id and is none: it may say anything."""
NAME_CHARACTERS_MAX = 200
NAMES_OF_OBJECTS = ("id", "answer_id", "document_id", "name")
"""Of parameters in a path. An external id is none of them: it is somebody's name of a file."""


class Trail:
    """Of one request, or of one connection of a WebSocket. Without a log nothing is told."""

    __slots__ = (
        "_action",
        "_audit",
        "_connection",
        "_did",
        "_is_recorded_later",
        "_object_id",
        "_principal",
        "_recorded",
        "_request_id",
    )

    def __init__(
        self,
        audit: Audit | None,
        connection: HTTPConnection,
        action: Action,
        *,
        did: str,
        request_id: str | None = None,
        is_recorded_later: bool = False,
    ) -> None:
        self._audit = audit
        self._is_recorded_later = is_recorded_later
        self._connection = connection
        self._action = action
        self._did = did
        self._object_id: str | None = None
        self._principal: Principal | None = None
        self._recorded: str | None = ""
        self._request_id = request_id
        connection.scope[_TRAIL] = self

    async def admitted(self, principal: Principal) -> None:
        """By the door. What has to be in the log before it is done is written. Raises Unavailable."""
        self._principal = principal
        self._object_id = self._object_id or _named_in(self._connection)
        if self._writing() == "recorded" and self._is_change() and not self._is_recorded_later:
            await self.record()

    async def record(self) -> None:
        """Write now that it is going to be done. Raises Unavailable."""
        if self._audit is not None:
            await self._audit.record(self._entry(self._action, "allowed", self._object_id))
            self._recorded = self._object_id

    def done(self) -> None:
        if self._writing() is not None and self._is_change() and self._recorded != self._object_id:
            self.note(self._action, "allowed", self._object_id)

    def refused(self, error: RefdeskError | None) -> None:
        """Denied, or failed: for the error, or for one that is none of ours."""
        status = 500 if error is None else error.status
        if status == 403 or (status == 401 and bearer(self._connection) is not None):
            self.note(self._action, "denied", self._object_id or _named_in(self._connection))
        elif self._principal is not None and self._writing() is not None and self._is_change():
            self.note(self._action, "failed", self._object_id)

    def about(self, object_id: str) -> None:
        self._object_id = object_id

    def known(self, principal: Principal | None) -> None:
        self._principal = principal or self._principal

    def note(self, action: Action, result: Result, object_id: str | None) -> None:
        if self._audit is not None:
            self._audit.note(self._entry(action, result, object_id))

    def _writing(self) -> str | None:
        return WRITINGS.get(self._action)

    def _is_change(self) -> bool:
        return self._action in READING or self._connection.scope.get("method", "GET") not in ("GET", "HEAD")

    def _entry(self, action: Action, result: Result, object_id: str | None) -> Entry:
        assert self._audit is not None
        if self._request_id is None:
            self._request_id = logs.request_id(self._connection.headers.get("x-request-id"))
        who = None if self._principal == ANONYMOUS else self._principal
        credential, address = kept(self._connection), caller(self._connection, trusted=self._audit.trusted)
        return Entry(
            at=datetime.now(UTC),
            principal_id=None if who is None else who.id,
            principal_name=None if who is None else who.name.replace("\x00", "")[:NAME_CHARACTERS_MAX],
            how=None if who is None or credential is None else credential.kind,
            action=action,
            did=self._did,
            object_id=None if object_id is None else object_id if _OBJECT_ID.fullmatch(object_id) else NO_ID,
            result=result,
            request_id=self._request_id,
            address=None if address is None else str(address),
        )


def about(connection: HTTPConnection, object_id: str) -> None:
    """What the request turned out to be about, where its address does not say it."""
    trail: Trail | None = connection.scope.get(_TRAIL)
    if trail is not None:
        trail.about(object_id)


async def record_about(connection: HTTPConnection, object_id: str) -> None:
    """As ``about``, of what has to be in the log before it is done. Raises Unavailable."""
    trail: Trail | None = connection.scope.get(_TRAIL)
    if trail is not None:
        trail.about(object_id)
        await trail.record()


def also(
    connection: HTTPConnection,
    action: Action,
    object_id: str | None = None,
    *,
    result: Result = "allowed",
    by: Principal | None = None,
) -> None:
    """Something else that was done with it, or one of several things on a connection; ``by`` whoever it turned out to be."""
    trail: Trail | None = connection.scope.get(_TRAIL)
    if trail is not None:
        trail.known(by)
        trail.note(action, result, object_id)


def _named_in(connection: HTTPConnection) -> str | None:
    given = connection.scope.get("path_params", {})
    return next((str(given[name]) for name in NAMES_OF_OBJECTS if name in given), None)
