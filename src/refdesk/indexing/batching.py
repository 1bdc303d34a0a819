"""One embedding model, many documents: calls are shared, and no document waits for another's end.

    report (10,000 texts)  ████████████████████…          turn 1   ██████████████  (64 of the report)
    memo   (3 texts)       ▒▒▒               arrives ──▶  turn 2   ▒▒▒███████████  (the memo, and 61 of the report)
    note   (1 text)        ░

Every call takes an equal share of each waiting document's texts and fills up from those that have more. A newcomer
waits for one call at most. Within a document the longest texts go first and together: a call costs what its longest
text costs, times the number of texts.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from refdesk.contracts.errors import Unavailable
from refdesk.outside.embedding import Vectors

Embed = Callable[[list[str]], Awaitable[Vectors]]

CALL_TEXTS_MAX = 64


class EmbeddingBatcher:
    """``embed`` from many tasks at once; ``run`` makes the calls, one at a time, until cancelled."""

    def __init__(self, embed: Embed, *, call_texts_max: int = CALL_TEXTS_MAX) -> None:
        self._embed = embed
        self._call_texts_max = call_texts_max
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """``vectors: (n, dimensions) float32; n = len(texts) ≥ 1, same order``. Raises what the model raises."""
        job = _Job(texts)
        self._waiting.append(job)
        self._arrived.set()
        try:
            return await job.done
        finally:
            job.abandon()

    async def run(self) -> None:
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
            vectors = await self._embed([job.texts[index] for job, indices in batch for index in indices])
        except Exception as error:  # noqa: BLE001 (handed to whoever waits)
            await self._isolate(batch, error)
            return
        start = 0
        for job, indices in batch:
            job.put(indices, vectors[start : start + len(indices)])
            start += len(indices)

    async def _isolate(self, batch: list[tuple["_Job", list[int]]], error: Exception) -> None:
        """One document's text must not fail its neighbours: call again for each alone, unless the model is away."""
        if len(batch) == 1 or isinstance(error, Unavailable):
            for job, _ in batch:
                job.fail(error)
            return
        for part in batch:
            await self._call([part])


class _Job:
    """One document's texts, what is left of them, and the vectors so far."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.left = deque(sorted(range(len(texts)), key=lambda index: len(texts[index]), reverse=True))
        self.done: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._vectors: Vectors | None = None
        self._missing = len(texts)

    def take(self, count: int) -> list[int]:
        return [self.left.popleft() for _ in range(min(count, len(self.left)))]

    def put(self, indices: list[int], vectors: Vectors) -> None:
        if self._vectors is None:
            self._vectors = np.empty((len(self.texts), vectors.shape[1]), dtype=np.float32)
        self._vectors[indices] = vectors
        self._missing -= len(indices)
        if self._missing == 0 and not self.done.done():
            self.done.set_result(self._vectors)

    def fail(self, error: Exception) -> None:
        self.left.clear()
        if not self.done.done():
            self.done.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits any more."""
        self.left.clear()
