"""Whether the contents that documents refer to are in the content directory: some of them every round, all on demand.

    round   ──▶ what was missing: is it back?        ──▶ its documents are told again, and indexed
            ──▶ the next contents in order of hashes ──▶ what is missing: its documents have failed, with the reason

What is damaged is put aside when it is found (only a check that reads everything finds it), and is missing from then on.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import InvalidRequest, Unavailable
from refdesk.documents.content_record import ContentRecord, MissingContent
from refdesk.outside import telemetry
from refdesk.outside.blobs import Blobs

logger = logging.getLogger(__name__)

_HASH = re.compile(r"[0-9a-f]{64}")

PAGE = 500
VERIFIED_PAGE = 20
"""Contents that are read in one step: some seconds at the most, however large they may be."""

Retell = Callable[[list[FreshnessToken]], Awaitable[list[FreshnessToken]]]


class ContentStep(msgspec.Struct, frozen=True):
    """One page of a check. Go on with ``next_cursor``; it is absent after the last page."""

    checked: int
    faults: list[MissingContent]
    healed: int
    next_cursor: str | None = None


class ContentCheck:
    """``retell`` has documents indexed anew. Raises Unavailable when database or directory cannot be used."""

    def __init__(self, record: ContentRecord, blobs: Blobs, *, retell: Retell) -> None:
        self._record = record
        self._blobs = blobs
        self._retell = retell

    async def run(self, *, interval_s: float) -> None:
        """A round every ``interval_s`` until cancelled. Processes begin at different places."""
        after = secrets.token_hex(32)
        while True:
            try:
                await self.heal()
                after = (await self.step(after)).next_cursor or ""
            except Unavailable as error:
                logger.warning("cannot look for missing contents: %s", error)
            except Exception:
                telemetry.unexpected_errors.labels("content check").inc()
                logger.exception("looking for missing contents failed; trying again later")
            await asyncio.sleep(interval_s)

    async def from_cursor(self, cursor: str | None, *, verify: bool) -> ContentStep:
        """A step of a check that begins with what was missing. Raises InvalidRequest for a cursor that is none."""
        if cursor is not None and not _HASH.fullmatch(cursor):
            raise InvalidRequest("The cursor is not valid. Pass next_cursor exactly as it came.", field="cursor")
        healed = await self.heal() if cursor is None else 0
        return msgspec.structs.replace(await self.step(cursor or "", verify=verify), healed=healed)

    async def step(self, after: str, *, verify: bool = False) -> ContentStep:
        """Look for the next contents in the order of hashes; with ``verify``, read them."""
        count = VERIFIED_PAGE if verify else PAGE
        names = await self._record.page(after=after, count=count)
        found = await self._blobs.faults(names, verify=verify)
        faults = [MissingContent(sha256=name, fault=fault) for name, fault in found.items()]
        for fault in faults:
            await self.note(fault)
        return ContentStep(
            checked=len(names), faults=faults, healed=0, next_cursor=names[-1] if len(names) == count else None
        )

    async def heal(self) -> int:
        """Have the documents indexed whose content is back; returns how many contents are. The others have failed."""
        healed, after = 0, ""
        while missing := await self._record.missing(after=after, count=PAGE):
            after = missing[-1].sha256
            still = await self._blobs.faults([content.sha256 for content in missing])
            back = [content.sha256 for content in missing if content.sha256 not in still]
            for content in missing:
                if content.sha256 in still:
                    await self._record.mark_missing(content)
            await self._found_again(back)
            healed += len(back)
        return healed

    async def note(self, missing: MissingContent) -> None:
        documents = await self._record.mark_missing(missing)
        if documents:
            logger.error(
                "the content %s is %s; %d documents have failed", missing.sha256, missing.fault, len(documents)
            )

    async def _found_again(self, names: list[str]) -> None:
        while tokens := await self._record.failed_documents(names, count=PAGE):
            if not await self._retell(tokens):
                break
        await self._record.forget_missing(names)
