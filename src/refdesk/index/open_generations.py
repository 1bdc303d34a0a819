"""The generations that a process has open, each with the model that embedded it: whoever searches or changes starts here.

Which one is active stands in the database and may change at any moment. A process does not have to hear of it in time: its
statements say `GenerationMoved`, and `on_active` looks again and repeats the whole work, embedding included, with the other
one. So a vector never meets an index of another model. A generation beside the active one is opened ahead, so that a swap
costs nobody the time to load a model.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import ConfigurationError, RefdeskError
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import Generation, GenerationMoved, Generations, Live
from refdesk.index.ledger.holdings import Holdings
from refdesk.index.port import ChunkIndex
from refdesk.index.ranking import Corpus
from refdesk.outside.embedding.packaged import Embedder
from refdesk.outside.embedding.vectors import Encoded

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a process looks for generations to open, or to close."""
GONE_S = 60.0
"""How long the model of a generation that is gone stays open: longer than any question takes to embed."""
MOVES_MAX = 5
"""So many swaps during one piece of work are too many."""
DRAIN_LOOK_S = 0.1
TIDY_S = 5.0
"""How often what no search can see any more is deleted."""

T = TypeVar("T")

OpenEmbedder = Callable[[Generation], AbstractAsyncContextManager[Embedder]]


@dataclass(frozen=True)
class Opened:
    """A generation with its model. ``index`` is for while it is active, ``beside`` for while it is not."""

    generation: Generation
    embedder: Embedder
    index: ChunkIndex
    beside: ChunkIndex


class OpenGenerations:
    """Open one per process, and have ``run`` running. ``open_embedder`` gives a generation's own model.

    Every method raises Unavailable when a server of the index does not answer, and ConfigurationError when a setting is missing
    that the generation's model or engine needs.
    """

    def __init__(self, pool: AsyncConnectionPool, *, engines: Engines, open_embedder: OpenEmbedder) -> None:
        self.record = Generations(pool)
        self._pool = pool
        self._engines = engines
        self._open_embedder = open_embedder
        self._active: Opened | None = None
        self._opened: dict[int, tuple[Opened, AsyncExitStack]] = {}
        self._gone_since: dict[int, float] = {}
        self._opening = asyncio.Lock()
        self._tidied_at = -TIDY_S

    async def __aenter__(self) -> "OpenGenerations":
        return self

    async def __aexit__(self, *_: object) -> None:
        for generation_id in list(self._opened):
            await self._close(generation_id)

    async def active(self) -> Opened:
        """The active one, as far as this process knows."""
        return self._active or await self.refresh()

    async def refresh(self) -> Opened:
        """The active one, as the database says now."""
        live = await self.record.live()
        if not live:
            raise ConfigurationError("The index has no generation: none was ever opened.")
        self._active = await self.open(live[0])
        return self._active

    async def open(self, generation: Generation) -> Opened:
        """Any generation; it stays open."""
        async with self._opening:
            if generation.id not in self._opened:
                self._opened[generation.id] = await self._open(generation)
        return self._opened[generation.id][0]

    async def look(self) -> None:
        """Raises Unavailable when an engine that the settings name does not answer."""
        await self._engines.look()

    async def within_reach(self) -> list[Live]:
        """The generations that settings say the way to, the active one first."""
        return [live for live in await self.record.live() if self._engines.has(live)]

    def index_of(self, generation: Generation) -> ChunkIndex:
        """Its index, whatever its role, without its model."""
        return self._engines.index(generation)

    async def sizes(self, generation: Generation) -> Corpus:
        """As the ledger has them, also of an index in an engine that no setting names."""
        return await Holdings(self._pool, generation).sizes()

    async def drop(self, generation: Generation) -> None:
        """Discard it with all it has. Raises NotFound, and Conflict for the active one."""
        await self.record.drop(generation.id)
        if self._engines.has(generation):
            await self._engines.discard(generation)
        else:
            logger.warning(
                "what generation %d had outside of PostgreSQL stays there: no setting names it", generation.id
            )

    async def on_active(self, work: Callable[[Opened], Awaitable[T]], *, changing: bool = False) -> T:
        """Do a piece of work on the active generation; all of it once more when a swap comes in between.

        ``changing``: the work changes the index, and waits when changes have to wait.
        """
        for _ in range(MOVES_MAX):
            opened = await self.active()
            try:
                return await work(opened)
            except GenerationMoved:
                while changing and await self.record.draining():
                    await asyncio.sleep(DRAIN_LOOK_S)
                await self.refresh()
        raise GenerationMoved

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """By the active one's model, whichever that is: for vectors that are compared with each other only."""
        return await (await self.active()).embedder.encode(texts)

    async def run(self) -> None:
        """Until cancelled: know the active generation, open what stands beside it, close what is gone."""
        while True:
            try:
                await self._follow(await self.record.live())
                await self._tidy()
            except RefdeskError as error:
                logger.warning("cannot look after the generations of the index: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _follow(self, live: list[Live]) -> None:
        if live:
            self._active = await self.open(live[0])
        for generation in filter(self._engines.has, live[1:]):
            await self.open(generation)
        now = time.monotonic()
        gone = self._opened.keys() - {generation.id for generation in live}
        self._gone_since = {generation_id: self._gone_since.get(generation_id, now) for generation_id in gone}
        for generation_id, since in list(self._gone_since.items()):
            if now - since > GONE_S:
                await self._close(generation_id)

    async def _tidy(self) -> None:
        """Now and then. A generation that is swapped or dropped meanwhile is no error."""
        if time.monotonic() - self._tidied_at < TIDY_S:
            return
        self._tidied_at = time.monotonic()
        for opened, _ in list(self._opened.values()):
            with contextlib.suppress(GenerationMoved):
                await self._engines.index(opened.generation).tidy()

    async def _open(self, generation: Generation) -> tuple[Opened, AsyncExitStack]:
        async with AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(self._open_embedder(generation))
            await self._engines.prepare(generation)
            index = self._engines.index(generation, role="active")
            beside = self._engines.index(generation, role="beside")
            logger.info("opened generation %d of the index: %s", generation.id, generation.model)
            return Opened(generation, embedder, index, beside), stack.pop_all()

    async def _close(self, generation_id: int) -> None:
        _, stack = self._opened.pop(generation_id)
        with contextlib.suppress(RefdeskError):
            await stack.aclose()
