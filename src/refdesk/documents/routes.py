"""The Document Service over HTTP: ``/api/documents``."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any, Literal, cast
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from refdesk.access.policy import Action
from refdesk.contracts.access import PRINCIPAL_PREFIX, Principal, Scope, is_reader
from refdesk.contracts.documents import (
    Document,
    DocumentVersion,
    FreshnessToken,
    Manifest,
    ManifestRequest,
    Page,
    RetellRequest,
    Retold,
    StandingReply,
    StandingRequest,
)
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.texts import Text
from refdesk.documents import listing_routes
from refdesk.documents.changes import Change, external_id
from refdesk.documents.content_check import ContentCheck, ContentStep
from refdesk.documents.feed import DocumentFeed, Gone
from refdesk.documents.permitted import page_shown_to, shown_to
from refdesk.documents.quotas import UploadQuotas
from refdesk.documents.service import DocumentService, ExternalName
from refdesk.documents.store import Backlog
from refdesk.documents.uploads import TextDocument, UploadForm, read_change
from refdesk.outside import tracing
from refdesk.outside.blobs import OpenBlob
from refdesk.outside.media_types import MARKDOWN, TEXT
from refdesk.web.auditing import about, also
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Handler, Parameter, whole
from refdesk.web.replies import Json
from refdesk.web.sse import EVENT_STREAM, EventStream, body_of, message

MANIFEST_PAGE_DEFAULT, MANIFEST_PAGE_MAX = 500, 1000
EXTERNAL_PAGE_DEFAULT, EXTERNAL_PAGE_MAX = 50, 1000
SEND_S_MAX = 60.0
"""How long a reader of content may take for one piece."""
SHOWN_INLINE = frozenset({TEXT, MARKDOWN})
"""Everything else is offered for download: stored HTML must never run, or look like ours, on our origin."""

EXTERNAL_LIMIT = Parameter(
    name="limit", kind=whole(1, EXTERNAL_PAGE_MAX), default=EXTERNAL_PAGE_DEFAULT, meaning="Documents on a page"
)
MANIFEST_LIMIT = Parameter(
    name="limit", kind=whole(1, MANIFEST_PAGE_MAX), default=MANIFEST_PAGE_DEFAULT, meaning="Documents on a page"
)
CURSOR = Parameter(name="cursor", meaning="`next_cursor` of the page before")
PREFIX = Parameter(name="prefix", default="", meaning="How the external ids begin")
AFTER = Parameter(name="after", default="", meaning="`next_after` of the page before")
CONTENT_SHA256 = Parameter(name="content_sha256", meaning="This content, or 409 when there is a newer one")
IF_MATCH = Parameter(name="If-Match", where="header", meaning="The ETag that was read; 412 when it has changed")
IF_NONE_MATCH = Parameter(name="If-None-Match", where="header", meaning="The ETag that is here already; then 304")
ID = Parameter(name="id", where="path", meaning="The document")
EXTERNAL_ID = Parameter(name="external_id", where="path", meaning="The document, by a name of yours")
OWNER = Parameter(name="owner", meaning="Whose external ids: a principal's id (default: yours). For administrators")

_ROOT = "/api/documents"
_INSPECTING = ("/standing", "/manifest")
"""They speak of any document, whoever may read it: for the AI Service."""
LENGTH = re.compile(r"\d{1,15}", re.ASCII)
_ENTITY_TAG = re.compile(r'"(\d{1,18})"', re.ASCII)


class History(msgspec.Struct, frozen=True):
    """A document's versions, newest first."""

    versions: list[DocumentVersion]


class ContentCheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of looking for missing contents; ``verify`` reads those that are there."""

    cursor: Text | None = None
    verify: bool = False


def endpoints(
    service: DocumentService, *, feed: DocumentFeed, check: ContentCheck, quotas: UploadQuotas
) -> list[Endpoint]:
    """All addresses of the Document Service."""
    routes = _Routes(service, feed, check, quotas)
    return [*listing_routes.endpoints(service), *_many(routes), *_operations(routes), *_one(routes)]


def _many(routes: "_Routes") -> list[Endpoint]:
    by_external_id = _ROOT + "/by-external-id"
    listing: dict[str, Any] = {"response": Page}
    writing: dict[str, Any] = {"request": TextDocument, "form": UploadForm, "response": Document}
    return [
        _endpoint("POST", _ROOT, routes.create, "Create a document", action="documents.create", **writing, status=201),
        _endpoint(
            "GET",
            _ROOT + "/events",
            routes.events,
            "Watch documents change (server-sent events)",
            media_types=(EVENT_STREAM,),
        ),
        _endpoint(
            "GET",
            by_external_id,
            routes.external,
            "List what stands under a prefix of names",
            *(PREFIX, OWNER, CURSOR, EXTERNAL_LIMIT),
            action="documents.name",
            **listing,
        ),
        _endpoint(
            "PUT",
            by_external_id + "/{external_id:path}",
            routes.put_external,
            "Create or replace a document",
            *(EXTERNAL_ID, OWNER, IF_MATCH),
            action="documents.name",
            **writing,
            also=(201,),
        ),
    ]


def _one(routes: "_Routes") -> list[Endpoint]:
    one = _ROOT + "/{id}"
    shown: dict[str, Any] = {"response": Document}
    writing: dict[str, Any] = {"request": TextDocument, "form": UploadForm, **shown}
    return [
        _endpoint("GET", one, routes.read, "A document's metadata and state", ID, **shown),
        _endpoint("PUT", one, routes.replace, "Replace content or metadata", ID, IF_MATCH, **writing),
        _endpoint("DELETE", one, routes.delete, "Delete a document", ID, IF_MATCH, status=204),
        _endpoint(
            "GET",
            one + "/content",
            routes.content,
            "A document's content",
            *(ID, CONTENT_SHA256, IF_NONE_MATCH),
            media_types=("*/*",),
            also=(304,),
        ),
        _endpoint("GET", one + "/versions", routes.versions, "A document's history", ID, response=History),
        _endpoint("POST", one + "/retry", routes.retry, "Index the current version again", ID, **shown, status=202),
    ]


def _operations(routes: "_Routes") -> list[Endpoint]:
    """What the AI Service and the people who run Refdesk ask."""
    said: list[tuple[Literal["GET", "POST"], str, Handler, str, tuple[Parameter, ...], Any, Any]] = [
        (
            "POST", "/standing", routes.standing, "Which of these documents a scope may read, and in which version",
            (), StandingRequest, StandingReply,
        ),
        (
            "GET", "/backlog", routes.backlog,
            "How many documents are indexed, pending and failed, and how far the index is behind", (), None, Backlog,
        ),
        (
            "GET", "/manifest", routes.manifest, "What the index should show of every document",
            (AFTER, MANIFEST_LIMIT), None, Manifest,
        ),
        (
            "POST", "/manifest", routes.manifest_of, "What the index should show of these documents",
            (), ManifestRequest, Manifest,
        ),
        (
            "POST", "/check-content", routes.check_content,
            "Look for contents that are missing, and have those indexed that are back", (), ContentCheckRequest, ContentStep,
        ),
        ("POST", "/retell", routes.retell, "Have these document versions indexed anew", (), RetellRequest, Retold),
    ]  # fmt: skip
    return [
        Endpoint(
            method=method,
            path=_ROOT + path,
            action="documents.inspect" if path in _INSPECTING else "documents.operate",
            handler=handler,
            summary=summary,
            parameters=parameters,
            request=request,
            response=response,
        )
        for method, path, handler, summary, parameters, request, response in said
    ]


def _endpoint(
    method: Literal["GET", "POST", "PUT", "DELETE"],
    path: str,
    handler: Handler,
    summary: str,
    *parameters: Parameter,
    action: Action | None = None,
    **bodies: Any,
) -> Endpoint:
    """Unless it says otherwise, it reads or changes a document."""
    return Endpoint(
        method=method,
        path=path,
        action=action or ("documents.read" if method == "GET" else "documents.change"),
        handler=handler if method == "GET" else _traced(handler),
        summary=summary,
        parameters=parameters,
        **bodies,
    )


class _Routes:
    def __init__(self, service: DocumentService, feed: DocumentFeed, check: ContentCheck, quotas: UploadQuotas) -> None:
        self._service = service
        self._feed = feed
        self._check = check
        self._quotas = quotas

    async def create(self, request: Request, principal: Principal) -> ASGIApp:
        change = await self._read_change(request, principal)
        document = await self._service.create(principal, change, traceparent=tracing.current_traceparent())
        _audited(request, document, change)
        return _created(document, request, principal)

    async def _read_change(self, request: Request, principal: Principal) -> Change:
        """The body, within what this principal may upload; one that announces no length counts as the largest."""
        announced = request.headers.get("content-length", "")
        largest = self._service.limits.upload_bytes_max
        bytes_count = min(int(announced), largest) if LENGTH.fullmatch(announced) else largest
        with self._quotas.uploading(principal, bytes_count=bytes_count):
            return await read_change(request, self._service)

    async def read(self, request: Request, principal: Principal) -> ASGIApp:
        return _shown(await self._service.get(_id(request), scope=principal.scope), principal)

    async def replace(self, request: Request, principal: Principal) -> ASGIApp:
        await self._service.check_may_change(principal, _id(request))
        change = await self._read_change(request, principal)
        document = await self._service.replace(
            principal,
            _id(request),
            change,
            if_match=_if_match(request),
            traceparent=tracing.current_traceparent(),
        )
        _audited(request, document, change)
        return _shown(document, principal)

    async def put_external(self, request: Request, principal: Principal) -> ASGIApp:
        key = external_id(EXTERNAL_ID.of(request), self._service.limits)
        change = _agreeing(await self._read_change(request, principal), key)
        document, created = await self._service.put_external(
            principal,
            ExternalName(key, _owner(request, principal)),
            change,
            if_match=_if_match(request),
            traceparent=tracing.current_traceparent(),
        )
        _audited(request, document, change)
        return _created(document, request, principal) if created else _shown(document, principal)

    async def external(self, request: Request, principal: Principal) -> ASGIApp:
        page = await self._service.external(
            principal,
            ExternalName(PREFIX.of(request), _owner(request, principal)),
            after=CURSOR.of(request),
            limit=EXTERNAL_LIMIT.of(request),
        )
        return Json(page_shown_to(principal, page))

    async def delete(self, request: Request, principal: Principal) -> ASGIApp:
        await self._service.delete(
            principal, _id(request), if_match=_if_match(request), traceparent=tracing.current_traceparent()
        )
        return Response(status_code=204)

    async def retry(self, request: Request, principal: Principal) -> ASGIApp:
        document = await self._service.retry(principal, _id(request), traceparent=tracing.current_traceparent())
        return _shown(document, principal, status=202)

    async def versions(self, request: Request, principal: Principal) -> ASGIApp:
        return Json(History(await self._service.versions(_id(request), scope=principal.scope)))

    async def content(self, request: Request, principal: Principal) -> ASGIApp:
        document, blob = await self._service.open_content(
            _id(request), scope=principal.scope, content_sha256=CONTENT_SHA256.of(request)
        )
        return ContentResponse(document, blob, if_none_match=IF_NONE_MATCH.of(request))

    async def standing(self, request: Request, _: Principal) -> ASGIApp:
        given = await read_json(request, StandingRequest)
        scope = Scope(readers=tuple(given.readers), everything=given.everything)
        return Json(await self._service.standing(given.document_ids, scope=scope, seen=given.seen))

    async def backlog(self, _: Request, __: Principal) -> ASGIApp:
        return Json(await self._service.backlog())

    async def manifest(self, request: Request, _: Principal) -> ASGIApp:
        return Json(await self._service.manifest(after=AFTER.of(request), limit=MANIFEST_LIMIT.of(request)))

    async def manifest_of(self, request: Request, _: Principal) -> ASGIApp:
        return Json(await self._service.manifest_of((await read_json(request, ManifestRequest)).document_ids))

    async def retell(self, request: Request, _: Principal) -> ASGIApp:
        given = await read_json(request, RetellRequest)
        told = await self._service.retell([FreshnessToken.parse(text) for text in given.documents])
        return Json(Retold(documents=[str(token) for token in told]))

    async def check_content(self, request: Request, _: Principal) -> ASGIApp:
        given = await read_json(request, ContentCheckRequest)
        return Json(await self._check.from_cursor(given.cursor, verify=given.verify))

    async def events(self, _: Request, principal: Principal) -> ASGIApp:
        stream = _told(self._feed, principal)
        return EventStream(body_of(_after_first(await anext(stream), stream)))


async def _told(feed: DocumentFeed, principal: Principal) -> AsyncGenerator[bytes, None]:
    async with feed.watch(principal) as watcher:
        yield b": watching\n\n"
        async for told in watcher:
            if isinstance(told, Gone):
                yield message("deleted", msgspec.json.encode(told))
            else:
                yield message("document", msgspec.json.encode(shown_to(principal, told)))


async def _after_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The stream with its first piece put back: an error before it is still a problem response."""
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


class ContentResponse:
    """A document's bytes, sent so that no stored document can act as a page of ours. Closes the blob."""

    def __init__(self, document: Document, blob: OpenBlob, *, if_none_match: str | None) -> None:
        self._blob = blob
        tag = f'"{document.content_sha256}"'
        self._unchanged = if_none_match is not None and tag in if_none_match
        self._headers = [
            (b"etag", tag.encode()),
            (b"cache-control", b"private, no-cache"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", b"sandbox; default-src 'none'"),
        ]
        if not self._unchanged:
            self._headers += [
                (b"content-type", document.media_type.encode()),
                (b"content-length", str(blob.bytes).encode()),
                (b"content-disposition", content_disposition(document).encode()),
            ]

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        async with self._blob:
            status = 304 if self._unchanged else 200
            await send({"type": "http.response.start", "status": status, "headers": self._headers})
            while not self._unchanged and (piece := await self._blob.read()):
                async with asyncio.timeout(SEND_S_MAX):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def content_disposition(document: Document) -> str:
    """RFC 6266: how to show the content and what to call it, with a plain name for old clients."""
    name = document.filename or document.title
    plain = re.sub(r"[^ !#-\[\]-~]|[%/\\]", "_", name)
    kind = "inline" if document.media_type in SHOWN_INLINE else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _shown(document: Document, principal: Principal, *, status: int = 200) -> Json:
    return Json(shown_to(principal, document), status_code=status, headers={"ETag": f'"{document.version}"'})


def _created(document: Document, request: Request, principal: Principal) -> Json:
    below = request.scope.get("root_path", "")
    headers = {"ETag": f'"{document.version}"', "Location": f"{below}{_ROOT}/{document.id}"}
    return Json(shown_to(principal, document), status_code=201, headers=headers)


def _audited(request: Request, document: Document, change: Change) -> None:
    """What the audit log cannot tell from the address: which document it was, and that its readers were named."""
    about(request, document.id)
    if change.readers is not None:
        also(request, "documents.let_read", document.id)


def _id(request: Request) -> str:
    return cast(str, ID.of(request))


def _traced(handler: Handler) -> Handler:
    """The span that a change's event goes on in, through the outbox and the broker to the index."""

    async def traced(request: Request, principal: Principal) -> ASGIApp:
        with tracing.span(tracing.CHANGE_DOCUMENT, kind=tracing.SpanKind.SERVER):
            return await handler(request, principal)

    return traced


def _if_match(request: Request) -> frozenset[int] | None:
    """The versions that If-Match accepts; None when any will do. Other tags than ours match nothing (RFC 9110, 13.1.1)."""
    given = IF_MATCH.of(request)
    if given is None or given.strip() == "*":
        return None
    matches = (_ENTITY_TAG.fullmatch(tag.strip()) for tag in given.split(","))
    return frozenset(int(match[1]) for match in matches if match)


def _owner(request: Request, principal: Principal) -> str:
    """Whose external ids are meant: one's own unless said otherwise."""
    owner: str = OWNER.of(request) or principal.id
    if not is_reader(PRINCIPAL_PREFIX + owner):
        raise InvalidRequest("owner is not the id of a principal. `refdesk keys list` shows them.", field="owner")
    return owner


def _agreeing(change: Change, key: str) -> Change:
    if change.external_id not in (None, key):
        raise InvalidRequest(
            "external_id in the body is not the one in the address. Leave it out.", field="external_id"
        )
    return change
