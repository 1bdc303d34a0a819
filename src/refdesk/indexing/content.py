"""Fetch a document version's content from the Document Service."""

import asyncio
import hashlib
from urllib.parse import quote

import aiohttp

from refdesk.contracts.errors import ContentMissing, DocumentRejected, Unavailable
from refdesk.contracts.events import DocumentChanged

CONNECT_TIMEOUT_S = 3.0
SILENCE_TIMEOUT_S = 15.0
PIECE_BYTES = 1 << 18


class Superseded(Exception):
    """The version is not the current one any more, or the document is deleted: a newer event is on its way."""


class Contents:
    """``GET {documents_url}/api/documents/{id}/content`` as the operator. ``session`` belongs to the caller."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        documents_url: str,
        operator_key: str,
        bytes_max: int,
        timeout_s: float = 120.0,
    ) -> None:
        self._session = session
        self._url = documents_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {operator_key}", "Accept-Encoding": "identity"}
        self._bytes_max = bytes_max
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
        )

    async def fetch(self, event: DocumentChanged) -> bytes:
        """Exactly the bytes the event speaks of.

        Raises Superseded, ContentMissing, DocumentRejected when there are more than ``bytes_max``, and Unavailable when the
        service does not answer, refuses, or sends something else.
        """
        content = await self._download(event)
        if await asyncio.to_thread(_sha256, content) != event.content_sha256:
            raise Unavailable(f"The Document Service sent other bytes than {event.document_id}@{event.version} has.")
        return content

    async def _download(self, event: DocumentChanged) -> bytes:
        url = f"{self._url}/api/documents/{quote(event.document_id, safe='')}/content"
        parameters = {"content_sha256": event.content_sha256}
        try:
            async with self._session.get(
                url, params=parameters, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status == 410:
                    raise ContentMissing
                if response.status in (404, 409):
                    raise Superseded
                if response.status != 200:
                    raise Unavailable(f"The Document Service at {self._url} answered {response.status} for a content.")
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"The Document Service at {self._url} does not answer ({type(error).__name__})."
            ) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, total = [], 0
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            total += len(piece)
            if total > self._bytes_max:
                raise DocumentRejected(
                    f"The document has more than {self._bytes_max:,} bytes. Split it, or raise "
                    "REFDESK_UPLOAD_BYTES_MAX.",
                    limit=self._bytes_max,
                )
            pieces.append(piece)
        return b"".join(pieces)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
