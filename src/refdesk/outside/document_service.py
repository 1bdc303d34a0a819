"""The Document Service as the AI Service knows it: over HTTP, as the operator.

Contents for the indexer, the manifest for whoever compares, and the look of every answer at the source of truth. Every method
raises Unavailable when the service does not answer, refuses, or says something else.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from refdesk.contracts.documents import (
    FreshnessToken,
    Manifest,
    ManifestEntry,
    ManifestRequest,
    RetellRequest,
    Retold,
    StandingReply,
    StandingRequest,
)
from refdesk.contracts.errors import ContentMissing, DocumentRejected, Unavailable
from refdesk.contracts.events import DocumentChanged
from refdesk.outside.http_client import HttpClient, Reply, open_http_client

ENTRIES_MAX = 500
"""Documents named in one call, and entries of one page."""
CONNECT_S = 3.0
CALL_S = 30.0
CONTENT_S = 120.0
"""How long a content may take."""
CONTENT_SILENCE_S = 15.0
"""How long it may stand still."""
REFUSAL_BYTES_SHOWN = 500

T = TypeVar("T")


class Superseded(Exception):
    """The version is not the current one any more, or the document is deleted: a newer event is on its way."""


class RequestRefused(Unavailable):
    """The Document Service refuses what Refdesk asks of it. Tell the operator: its key is another, or its release is older."""

    def __init__(self, url: str, status: int, reply: bytes) -> None:
        super().__init__(f"The Document Service at {url} answered {status}. {_detail(reply)}".rstrip())
        self.answered = status
        self.reply = reply[:REFUSAL_BYTES_SHOWN]


class DocumentServiceClient:
    """See `open_document_service`. ``content_bytes_max``: the largest content that is fetched."""

    def __init__(self, http: HttpClient, *, operator_key: str, content_bytes_max: int) -> None:
        self.url = http.url
        self._http = http
        self._authorization = {"Authorization": f"Bearer {operator_key}"}
        self._content_bytes_max = content_bytes_max

    async def standing(self, request: StandingRequest, *, timeout_s: float = CALL_S) -> StandingReply:
        """What the service says of these documents to this scope."""
        return await self._call("POST", "/standing", StandingReply, body=request, timeout_s=timeout_s)

    async def manifest_page(self, *, after: str = "") -> Manifest:
        """Every document and tombstone, ``ENTRIES_MAX`` at a time, in the order of ids."""
        return await self._call("GET", f"/manifest?{urlencode({'after': after, 'limit': ENTRIES_MAX})}", Manifest)

    async def manifest_of(self, document_ids: Iterable[str]) -> dict[str, ManifestEntry]:
        """The entries of at most ``ENTRIES_MAX`` documents by id; those that never were are absent."""
        manifest = await self._call("POST", "/manifest", Manifest, body=ManifestRequest(list(document_ids)))
        return {entry.document_id: entry for entry in manifest.entries}

    async def retell(self, tokens: Iterable[FreshnessToken]) -> set[FreshnessToken]:
        """Have at most ``ENTRIES_MAX`` document versions indexed anew; returns those that still are the current ones."""
        wanted = RetellRequest([str(token) for token in tokens])
        retold = await self._call("POST", "/retell", Retold, body=wanted)
        return {FreshnessToken.parse(text) for text in retold.documents}

    async def fetch(self, event: DocumentChanged) -> bytes:
        """Exactly the bytes that the event speaks of.

        Raises Superseded, ContentMissing, and DocumentRejected when there are more than ``content_bytes_max``.
        """
        content = await self._download(event)
        if await asyncio.to_thread(_sha256, content) != event.content_sha256:
            raise Unavailable(f"The Document Service sent other bytes than {event.document_id}@{event.version} has.")
        return content

    async def _download(self, event: DocumentChanged) -> bytes:
        asked = urlencode({"content_sha256": event.content_sha256})
        path = f"/{quote(event.document_id, safe='')}/content?{asked}"
        try:
            async with asyncio.timeout(CONTENT_S):
                reply = await self._send("GET", path, b"", connect_s=CONNECT_S)
                with closing(reply):
                    if reply.status == 410:
                        raise ContentMissing
                    if reply.status in (404, 409):
                        raise Superseded
                    if reply.status != 200:
                        raise RequestRefused(self.url, reply.status, b"")
                    return await self._read_content(reply)
        except OSError as error:
            raise self._silent(error) from error

    async def _read_content(self, reply: Reply) -> bytes:
        pieces, total = [], 0
        while piece := await asyncio.wait_for(reply.read(), CONTENT_SILENCE_S):
            total += len(piece)
            if total > self._content_bytes_max:
                raise DocumentRejected(
                    f"The document has more than {self._content_bytes_max:,} bytes. Split it, or raise "
                    "REFDESK_UPLOAD_BYTES_MAX.",
                    limit=self._content_bytes_max,
                )
            pieces.append(piece)
        return b"".join(pieces)

    async def _call(
        self, method: str, path: str, kind: type[T], *, body: msgspec.Struct | None = None, timeout_s: float = CALL_S
    ) -> T:
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._send(method, path, payload, connect_s=min(timeout_s, CONNECT_S))
                with closing(reply):
                    said = await reply.read_all()
            if reply.status != 200:
                raise RequestRefused(self.url, reply.status, said)
            return msgspec.json.decode(said, type=kind)
        except (OSError, msgspec.MsgspecError) as error:
            raise self._silent(error) from error

    async def _send(self, method: str, path: str, body: bytes, *, connect_s: float) -> Reply:
        address = f"/api/documents{path}"
        if method == "GET":
            return await self._http.get(address, headers=self._authorization, connect_s=connect_s)
        headers = {**self._authorization, "Content-Type": "application/json"}
        return await self._http.post(address, body, headers=headers, connect_s=connect_s)

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(f"The Document Service at {self.url} does not answer ({type(error).__name__}).")


@asynccontextmanager
async def open_document_service(
    url: str, *, operator_key: str, content_bytes_max: int
) -> AsyncIterator[DocumentServiceClient]:
    """Opens without waiting: a service that comes up later is found. Raises ConfigurationError when that is not an address."""
    async with open_http_client(url) as http:
        yield DocumentServiceClient(http, operator_key=operator_key, content_bytes_max=content_bytes_max)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _detail(reply: bytes) -> str:
    """What a problem says, for people; empty when this is none."""
    try:
        return str(msgspec.json.decode(reply)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
