"""Events for whichever generation of the index is active: an `Indexing` per generation, each with its own model's calls."""

import asyncio
from collections.abc import Awaitable
from functools import partial

import msgspec

from refdesk.contracts.documents import IndexingStep
from refdesk.contracts.events import DocumentChanged, DocumentDeleted
from refdesk.index.ledger.generations import Role
from refdesk.index.open_generations import Opened, OpenGenerations
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.chunking import chunk
from refdesk.indexing.lanes import Lanes
from refdesk.indexing.parsing import ParserPool
from refdesk.indexing.pipeline import Indexing, Outcome, StepAside
from refdesk.outside.document_service import DocumentServiceClient
from refdesk.settings.indexing import LaneSettings


class IndexingParts(msgspec.Struct, frozen=True):
    """Where the text of documents comes from, and how they pass each other. ``chunks_max`` is per document."""

    documents: DocumentServiceClient
    parsers: ParserPool
    chunks_max: int
    lanes: LaneSettings


class LiveIndexing:
    """`handle` and `run` are a Worker's; ``run`` makes the calls to the models, until cancelled."""

    def __init__(self, generations: OpenGenerations, sources: IndexingParts) -> None:
        self._generations = generations
        self._sources = sources
        self._indexings: dict[tuple[int, Role], Indexing] = {}
        self._batchers: dict[int, EmbeddingBatcher] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            self._running.set()
            await asyncio.Event().wait()

    async def handle(self, event: DocumentChanged | DocumentDeleted, *, step_aside: StepAside) -> Outcome:
        """Apply an event to the active generation. A swap in between sends it to the other one."""
        await self._running.wait()

        def apply(opened: Opened) -> Awaitable[Outcome]:
            return self._of(opened, "active").handle(event, step_aside=step_aside)

        return await self._generations.on_active(apply, changing=True)

    async def handle_beside(self, opened: Opened, event: DocumentChanged | DocumentDeleted) -> Outcome:
        """Apply an event to a generation that stands beside; raises GenerationMoved when it does not any more."""
        await self._running.wait()
        return await self._of(opened, "beside").handle(event)

    def step_of(self, document_id: str) -> IndexingStep | None:
        """What is being done with a document now; None when nothing is."""
        steps = (one.step_of(document_id) for (_, role), one in self._indexings.items() if role == "active")
        return next((step for step in steps if step is not None), None)

    def _of(self, opened: Opened, role: Role) -> Indexing:
        place = (opened.generation.id, role)
        if place not in self._indexings:
            self._indexings[place] = Indexing(
                index=opened.index if role == "active" else opened.beside,
                generation=opened.generation.name,
                documents=self._sources.documents,
                parsers=self._sources.parsers,
                chunker=partial(
                    chunk,
                    token_spans=opened.embedder.token_spans,
                    count_tokens=opened.embedder.count_tokens,
                    chunks_max=self._sources.chunks_max,
                ),
                embeddings=self._batcher(opened),
                lanes=Lanes(self._sources.lanes),
            )
        return self._indexings[place]

    def _batcher(self, opened: Opened) -> EmbeddingBatcher:
        known = self._batchers.get(opened.generation.id)
        if known is not None:
            return known
        assert self._tasks is not None
        batcher = self._batchers[opened.generation.id] = EmbeddingBatcher(
            opened.embedder.embed, call_texts_max=opened.embedder.call_texts
        )
        self._tasks.create_task(batcher.run())
        return batcher
