"""One embedding model, many documents: calls are shared, and no document waits for another's end.

    report (10,000 texts)  ████████████████████…          turn 1   ████████  (8 of the report)
    memo   (3 texts)       ▒▒▒               arrives ──▶  turn 2   ░▒▒▒████  (the note, the memo, 4 of the report)
    note   (1 text)        ░

Every call takes an equal share of each waiting document's texts and fills up from those that have more. A newcomer
waits for the calls under way and no other. Within a document the longest texts go first and together: where a call is padded,
it costs what its longest text costs, times the number of texts. Two calls are under way at a time, so that the model has
no pause between them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import numpy as np

from refdesk.contracts.errors import Unavailable
from refdesk.outside.embedding.vectors import Vectors

Embed = Callable[[list[str]], Awaitable[Vectors]]
Part = tuple[list[int], Vectors]
"""Places among a document's texts, and their vectors in that order."""

CALLS_AT_ONCE = 2
CALL_TEXTS_MAX = 8


class EmbeddingBatcher:
    """``embed`` and ``parts`` from many tasks at once; ``run`` makes the calls until cancelled."""

    def __init__(self, embed: Embed, *, call_texts_max: int = CALL_TEXTS_MAX) -> None:
        self._embed = embed
        self._call_texts_max = call_texts_max
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """``vectors: (n, dimensions) float32; n = len(texts) ≥ 1, same order``. Raises what the model raises."""
        async with aclosing(self.parts(texts, part_texts_min=len(texts))) as parts:
            places, made = await anext(parts)
        vectors = np.empty_like(made)
        vectors[places] = made
        return vectors

    async def parts(self, texts: Sequence[str], *, part_texts_min: int) -> AsyncGenerator[Part]:
        """The vectors as they are made, each text once, in any order; so many at a time at least, but for the last.

        Embedding goes on while the caller is busy with a part. Raises what the model raises.
        """
        job = _Job(texts)
        self._waiting.append(job)
        self._arrived.set()
        try:
            while job.missing or job.made:
                yield await job.part(part_texts_min)
        finally:
            job.abandon()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLS_AT_ONCE):
                tasks.create_task(self._call_forever())

    async def _call_forever(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._call(batch)

    def _take(self) -> list[tuple["_Job", list[int]]]:
        """The next call: an equal share of each document, the first in line first, then what still fits."""
        self._waiting = deque(job for job in self._waiting if job.left)
        jobs = list(self._waiting)[: self._call_texts_max]
        batch: list[tuple[_Job, list[int]]] = []
        room = self._call_texts_max
        for job in sorted(jobs, key=lambda job: len(job.left)):
            share = room // (len(jobs) - len(batch))
            batch.append((job, job.take(share)))
            room -= len(batch[-1][1])
        self._waiting.rotate(-len(jobs))
        return batch

    async def _call(self, batch: list[tuple["_Job", list[int]]]) -> None:
        try:
            vectors = await self._embed([job.texts[place] for job, places in batch for place in places])
        except Exception as error:  # noqa: BLE001 (handed to whoever waits)
            await self._isolate(batch, error)
            return
        start = 0
        for job, places in batch:
            job.put(places, vectors[start : start + len(places)])
            start += len(places)

    async def _isolate(self, batch: list[tuple["_Job", list[int]]], error: Exception) -> None:
        """One document's text must not fail its neighbours: call again for each alone, unless the model is away."""
        if len(batch) == 1 or isinstance(error, Unavailable):
            for job, _ in batch:
                job.fail(error)
            return
        for part in batch:
            await self._call([part])


class _Job:
    """One document's texts, what is left of them, and the vectors that nobody has fetched yet."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.left = deque(sorted(range(len(texts)), key=lambda place: len(texts[place]), reverse=True))
        self.missing = len(texts)
        self.made: list[int] = []
        self._vectors: list[Vectors] = []
        self._changed = asyncio.Event()
        self._error: Exception | None = None

    def take(self, count: int) -> list[int]:
        return [self.left.popleft() for _ in range(min(count, len(self.left)))]

    def put(self, places: list[int], vectors: Vectors) -> None:
        self.made += places
        self._vectors.append(vectors)
        self.missing -= len(places)
        self._changed.set()

    async def part(self, texts_min: int) -> Part:
        """What was made since the last time, once it is so many or all."""
        while self.missing and len(self.made) < texts_min and self._error is None:
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None:
            raise self._error
        part = self.made, np.concatenate(self._vectors)
        self.made, self._vectors = [], []
        return part

    def fail(self, error: Exception) -> None:
        self.left.clear()
        self._error = error
        self._changed.set()

    def abandon(self) -> None:
        """Nobody waits any more."""
        self.left.clear()
