"""The AI Service's operations over HTTP, for operators: dead letters, and comparing the index.

What a letter says in words (its reason, its event, the log) may name a document: it is for administrators. An operator sees
which document it is by its id, and what kind of fault it was by its code.
"""

from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.policy import Action, may, require
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.contracts.texts import NUMBER_MAX, Number, Text
from refdesk.indexing.dead_letters import LETTERS_PER_PAGE_MAX, DeadLetter, DeadLetters
from refdesk.operations.reconcile import Reconcilers, Step
from refdesk.operations.replays import Outcome, Replayed, Replays, open_letter
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import Json

PAGE_DEFAULT = 50
PAYLOAD_CHARS_SHOWN_MAX = 10_000

ID = Parameter(name="id", kind=Number, where="path", meaning="The letter")
LIMIT = Parameter(name="limit", kind=whole(1, LETTERS_PER_PAGE_MAX), default=PAGE_DEFAULT, meaning="Letters on a page")
CURSOR = Parameter(name="cursor", kind=Number, default=NUMBER_MAX, meaning="`next_cursor` of the page before")
CODE = Parameter(name="code", meaning="Only letters of this code")
REASON = Parameter(name="reason", meaning="A part of their reason")

BESIDE = "beside/"
CONTENT: Action = "operations.read_content"

_LETTERS = "/api/dead-letters"


class Letter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter as people see it.

    Shown alone it has ``event``, what was to be done, or ``payload`` where that cannot be read; and ``log``, the end of what
    the indexer's log says of its attempts.
    """

    id: int
    document_id: str | None
    version: int | None
    code: str
    reason: str
    attempts: int
    event_id: str | None
    subject: str
    first_failed_at: datetime
    last_failed_at: datetime
    replayed_at: datetime | None = None
    discarded_at: datetime | None = None
    event: Any = None
    payload: str | None = None
    log: str = ""

    def seen_by(self, principal: Principal) -> "Letter":
        """Without what is said in words, for those who read no content."""
        if may(principal, CONTENT):
            return self
        return msgspec.structs.replace(self, reason="", event=None, payload=None, log="")


class Letters(msgspec.Struct, frozen=True):
    """One page, newest first; ``open`` counts all that are open, whatever the filter."""

    dead_letters: list[Letter]
    open: int
    next_cursor: str | None = None


class RetryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which letters to retry: those with a code, those with a text in their reason, or all."""

    code: Text | None = None
    reason: Text | None = None
    all: bool = False


class Retried(msgspec.Struct, frozen=True):
    """``queued``: tried again; ``superseded``: a newer version of the document speaks."""

    outcome: Outcome


class ReconcileRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One page of a pass over all documents; ``dry_run`` only says what differs."""

    cursor: Text | None = None
    dry_run: bool = False


class OperationRoutes:
    """Needs the index database; retrying and comparing also need the Document Service."""

    def __init__(self, *, letters: DeadLetters, replays: Replays, reconcilers: Reconcilers) -> None:
        self._letters = letters
        self._replays = replays
        self._reconcilers = reconcilers

    def endpoints(self) -> list[Endpoint]:
        one = _LETTERS + "/{id}"
        return [
            _endpoint(
                "GET",
                _LETTERS,
                self.page,
                "What could not be indexed, newest first",
                parameters=(LIMIT, CURSOR, CODE, REASON),
                response=Letters,
            ),
            _endpoint(
                "POST", _LETTERS + "/retry", self.retry_every, "Retry many", request=RetryRequest, response=Replayed
            ),
            _endpoint("GET", one, self.read, "One dead letter with its event", parameters=(ID,), response=Letter),
            _endpoint("POST", one + "/retry", self.retry, "Retry one", parameters=(ID,), response=Retried, status=202),
            _endpoint("DELETE", one, self.discard, "Discard one", parameters=(ID,), status=204),
            _endpoint(
                "POST",
                "/api/index/reconcile",
                self.reconcile,
                "Compare a page of the index with the documents, and mend it",
                action="index.manage",
                request=ReconcileRequest,
                response=Step,
            ),
        ]

    async def page(self, request: Request, principal: Principal) -> ASGIApp:
        limit, reason = LIMIT.of(request), REASON.of(request)
        _require_reasons(principal, reason)
        letters = await self._letters.list(limit=limit, before=CURSOR.of(request), code=CODE.of(request), reason=reason)
        cursor = str(letters[-1].id) if len(letters) == limit else None
        shown = [_shown(letter).seen_by(principal) for letter in letters]
        return Json(Letters(dead_letters=shown, open=await self._letters.count(), next_cursor=cursor))

    async def read(self, request: Request, principal: Principal) -> ASGIApp:
        letter = await self._letters.get(ID.of(request))
        if letter is None:
            raise NotFound
        whole = msgspec.structs.replace(_shown(letter), log=letter.log, **_contents(letter.payload))
        return Json(whole.seen_by(principal))

    async def retry(self, request: Request, _: Principal) -> ASGIApp:
        return Json(Retried(outcome=await self._replays.one(ID.of(request))), status_code=202)

    async def retry_every(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = await read_json(request, RetryRequest)
        _require_reasons(principal, wanted.reason)
        if sum((bool(wanted.code), bool(wanted.reason), wanted.all)) != 1:
            raise InvalidRequest("Say which: give one of `code`, `reason` and `all: true`.")
        return Json(await self._replays.every(code=wanted.code or None, reason=wanted.reason or None))

    async def discard(self, request: Request, _: Principal) -> ASGIApp:
        letter = await open_letter(self._letters, ID.of(request))
        await self._letters.mark_discarded(letter.id)
        return Response(status_code=204)

    async def reconcile(self, request: Request, _: Principal) -> ASGIApp:
        wanted = await read_json(request, ReconcileRequest)
        return Json(await self._step(wanted.cursor, dry_run=wanted.dry_run))

    async def _step(self, cursor: str | None, *, dry_run: bool) -> Step:
        """The active generation's pages, then those of the one beside it, whose cursors begin with ``BESIDE``."""
        active, *beside = await self._reconcilers()
        if cursor is None or not cursor.startswith(BESIDE):
            step = await active.step(cursor, dry_run=dry_run)
            if step.next_cursor is None and beside:
                return msgspec.structs.replace(step, next_cursor=BESIDE)
            return step
        if not beside:
            return Step(checked=0, drift=[], repaired=0)
        step = await beside[0].step(cursor.removeprefix(BESIDE) or None, dry_run=dry_run)
        following = None if step.next_cursor is None else BESIDE + step.next_cursor
        return msgspec.structs.replace(step, next_cursor=following)


def _endpoint(
    method: Any, path: str, handler: Any, summary: str, *, action: Action = "dead_letters.manage", **told: Any
) -> Endpoint:
    return Endpoint(method=method, path=path, action=action, handler=handler, summary=summary, **told)


def _require_reasons(principal: Principal, reason: str | None) -> None:
    """Whoever may look for a word in reasons reads them. Raises Forbidden."""
    if reason:
        require(principal, CONTENT, field="reason")


def _shown(letter: DeadLetter) -> Letter:
    fields = msgspec.structs.asdict(letter)
    return Letter(**{name: value for name, value in fields.items() if name not in ("payload", "log")})


def _contents(payload: bytes) -> dict[str, Any]:
    try:
        return {"event": msgspec.json.decode(payload)}
    except (msgspec.MsgspecError, RecursionError):
        return {"payload": payload[:PAYLOAD_CHARS_SHOWN_MAX].decode(errors="replace")}
