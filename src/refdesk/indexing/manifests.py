"""What the Document Service says the index should show, and asking it to tell a document again."""

from collections.abc import Iterable
from typing import Any, TypeVar

import aiohttp
import msgspec

from refdesk.contracts.documents import FreshnessToken, Manifest, ManifestEntry
from refdesk.contracts.errors import Unavailable

TIMEOUT_S = 30.0
ENTRIES_MAX = 500
"""Documents named in one call, and entries of one page."""

T = TypeVar("T")


class _Retold(msgspec.Struct):
    documents: list[str]


class Manifests:
    """``{documents_url}/api/documents/manifest`` and ``…/retell``, as the operator. ``session`` belongs to the caller.

    Every method raises Unavailable when the Document Service does not answer, refuses, or says something else.
    """

    def __init__(self, session: aiohttp.ClientSession, *, documents_url: str, operator_key: str) -> None:
        self._session = session
        self._url = documents_url.rstrip("/") + "/api/documents"
        self._headers = {"Authorization": f"Bearer {operator_key}", "Content-Type": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)

    async def page(self, *, after: str = "") -> Manifest:
        """Every document and tombstone, ``ENTRIES_MAX`` at a time, in the order of ids."""
        parameters = {"after": after, "limit": str(ENTRIES_MAX)}
        return await self._call("GET", "/manifest", Manifest, params=parameters)

    async def of(self, document_ids: Iterable[str]) -> dict[str, ManifestEntry]:
        """The entries of at most ``ENTRIES_MAX`` documents by id; those that never were are absent."""
        body = msgspec.json.encode({"document_ids": list(document_ids)})
        manifest = await self._call("POST", "/manifest", Manifest, data=body)
        return {entry.document_id: entry for entry in manifest.entries}

    async def retell(self, tokens: Iterable[FreshnessToken]) -> set[FreshnessToken]:
        """Have at most ``ENTRIES_MAX`` document versions indexed anew; returns those that still are the current ones."""
        body = msgspec.json.encode({"documents": [str(token) for token in tokens]})
        retold = await self._call("POST", "/retell", _Retold, data=body)
        return {FreshnessToken.parse(text) for text in retold.documents}

    async def _call(self, method: str, path: str, kind: type[T], **options: Any) -> T:
        try:
            async with self._session.request(
                method, self._url + path, headers=self._headers, timeout=self._timeout, **options
            ) as response:
                payload = await response.read()
            if response.status != 200:
                raise Unavailable(f"The Document Service at {self._url} answered {response.status}.")
            return msgspec.json.decode(payload, type=kind)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise Unavailable(
                f"The Document Service at {self._url} does not answer ({type(error).__name__})."
            ) from error
