"""What is done with the generations of the index: begin one, look, compare, activate, discard."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from refdesk.contracts.errors import Conflict, NotFound
from refdesk.index.ledger.generations import BEHIND_MAX, DRAIN_S, Engine, Gap, Generation, Generations, Live
from refdesk.index.open_generations import OpenGenerations
from refdesk.operations.comparison import Comparison, Expectation, compare, draw

QUESTIONS_DEFAULT = 50
ACTIVATION_LOOK_S = 0.1


class Model(NamedTuple):
    """An embedding model to build a generation with; ``served``: its URL, without secrets, and its window in tokens."""

    name: str
    dimensions: int
    chunking: str
    served: tuple[str, int] | None


ChooseModel = Callable[[str | None], Awaitable[Model]]
Difference = Literal["release", "engine", "model"]
"""What the active generation was made with, and would not be any more: an earlier release, or other settings."""


class GenerationView(msgspec.Struct, frozen=True, kw_only=True):
    """A generation as it stands: ``documents_behind`` is what it lacks of the active one, ``gaps`` what it cannot hold."""

    id: int
    engine: Engine
    model: str
    embedding_url: str | None
    dimensions: int
    active: bool
    created_at: datetime
    documents: int
    chunks: int
    documents_behind: int
    gaps_count: int
    gaps: list[Gap]
    problem: str | None


class GenerationOperations:
    """Needs the index database, and indexers that do the work. ``configured_…`` is what the settings name, ``compare_settings``
    tells how a generation differs from what would be made now."""

    def __init__(
        self,
        generations: OpenGenerations,
        *,
        choose_model: ChooseModel,
        configured_model: str,
        configured_engine: Engine,
        compare_settings: Callable[[Generation], Difference | None],
    ) -> None:
        self.configured_model = configured_model
        self.configured_engine = configured_engine
        self._generations = generations
        self._choose_model = choose_model
        self._compare_settings = compare_settings

    async def views(self) -> list[GenerationView]:
        """The active one first."""
        return [await self._view(live) for live in await self._record.live()]

    async def differs(self) -> Difference | None:
        """Why it would help to build the index anew, if it would."""
        active, *_ = await self._record.live()
        return self._compare_settings(active)

    async def begin(self, model_name: str | None, engine: Engine | None) -> GenerationView:
        """Another generation beside the active one; None: as the settings say.

        Raises InvalidRequest for a model that cannot be had, Conflict.
        """
        model = await self._choose_model(model_name)
        begun = await self._record.begin(
            engine=engine or self.configured_engine,
            model=model.name,
            dimensions=model.dimensions,
            chunking=model.chunking,
            served=model.served,
        )
        await self._record.forget_gaps(begun.id)
        return await self._view(await self._find(begun.id))

    async def compare(self, generation_id: int, questions: Sequence[Expectation], *, k: int) -> Comparison:
        """What it and the active one find for the same questions; without any, for some that are drawn from the documents.

        Raises NotFound, and Conflict for the active one.
        """
        other = await self._find(generation_id)
        if other.active:
            raise Conflict(f"Generation {other.id} is the active one: there is nothing to compare it with.")
        active, beside = await self._generations.refresh(), await self._generations.open(other)
        asked = list(questions) or await draw(active, count=QUESTIONS_DEFAULT)
        return await compare(active, beside, asked, k=k)

    async def activate(self, generation_id: int, *, with_gaps: bool) -> GenerationView:
        """Searches it from now on; returns once that is so. Changes to documents may wait meanwhile, searches do not.

        ``with_gaps``: although there are documents that it cannot hold. Raises NotFound, and Conflict while it lacks documents.
        """
        generation = await self._find(generation_id)
        await self._generations.open(generation)
        behind = await self._record.count_behind(generation.id, count_max=BEHIND_MAX)
        if not generation.active and behind < BEHIND_MAX:
            behind = await self._swap(generation.id, with_gaps=with_gaps)
        if behind:
            raise Conflict(
                f"Generation {generation.id} still lacks {'at least ' * (behind >= BEHIND_MAX)}{behind} documents of the "
                "active one. `refdesk reindex` shows its progress."
            )
        await self._generations.refresh()
        return await self._view(await self._find(generation.id))

    async def _swap(self, generation_id: int, *, with_gaps: bool) -> int:
        """Has changes wait, and swaps as soon as nothing is behind; how many still are when the time is up."""
        until = time.monotonic() + DRAIN_S
        behind = await self._record.activate(generation_id, with_gaps=with_gaps)
        if not behind:
            return 0
        try:
            await self._record.drain()
            while behind and time.monotonic() < until:
                await asyncio.sleep(ACTIVATION_LOOK_S)
                behind = await self._record.activate(generation_id, with_gaps=with_gaps)
        finally:
            await self._record.stop_draining()
        return behind

    async def drop(self, generation_id: int) -> None:
        """Discards one that is not searched."""
        await self._generations.drop(await self._find(generation_id))

    @property
    def _record(self) -> Generations:
        return self._generations.record

    async def _find(self, generation_id: int) -> Live:
        for live in await self._record.live():
            if live.id == generation_id:
                return live
        raise NotFound(f"There is no generation {generation_id}.")

    async def _view(self, live: Live) -> GenerationView:
        sizes = await self._generations.sizes(live)
        gaps_count, gaps = (0, []) if live.active else await self._record.gaps(live.id)
        return GenerationView(
            id=live.id,
            engine=live.engine,
            model=live.model,
            embedding_url=live.url,
            dimensions=live.dimensions,
            active=live.active,
            created_at=live.created_at,
            documents=sizes.documents,
            chunks=sizes.chunks,
            documents_behind=0 if live.active else await self._record.count_behind(live.id),
            gaps_count=gaps_count,
            gaps=gaps,
            problem=live.problem,
        )
