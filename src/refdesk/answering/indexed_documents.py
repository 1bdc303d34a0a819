"""A document as it was indexed, passage by passage, for whoever may read it now."""

import asyncio

import msgspec

from refdesk.answering.assistant import Assistant
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import NotFound
from refdesk.contracts.hidden_characters import clean
from refdesk.index.chunks import Chunk
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside import telemetry


class PassageView(msgspec.Struct, frozen=True, omit_defaults=True):
    ordinal: int
    text: str
    heading: str | None = None
    page: int | None = None


class DocumentView(msgspec.Struct, frozen=True):
    """A document as it was indexed, passage by passage."""

    document_id: str
    version: int
    title: str
    media_type: str
    url: str | None
    passages: list[PassageView]


class IndexedDocuments:
    def __init__(self, assistant: Assistant, *, generations: OpenGenerations, gate: Gate) -> None:
        self._assistant = assistant
        self._generations = generations
        self._gate = gate

    async def show(self, document_id: str, principal: Principal) -> DocumentView:
        """Counts as a search. Raises NotFound for a document that is not there, or not for this principal."""
        await self._assistant.count_search(principal)
        found = await self._generations.on_active(
            lambda opened: opened.index.passages(document_id, scope=principal.scope)
        )
        if found is None:
            raise NotFound
        document, chunks = found
        shown = Shown(document_id, document.version, document.content_sha256)
        look = await self._gate.look([shown], scope=principal.scope)
        if not look.surely_allows(document_id, document.version):
            telemetry.acl_denied.inc()
            raise NotFound
        return DocumentView(
            document_id=document.document_id,
            version=document.version,
            title=clean(document.title),
            media_type=document.media_type,
            url=document.url,
            passages=await asyncio.to_thread(_shown, chunks),
        )


def _shown(chunks: list[Chunk]) -> list[PassageView]:
    """All passages of a document: many, so off the event loop."""
    return [
        PassageView(chunk.ordinal, clean(chunk.text), chunk.heading and clean(chunk.heading), chunk.page)
        for chunk in chunks
    ]
