"""Writers that keep their own record of what the Document Service acknowledged.

Each has documents of its own, under external ids, so that it knows what every one of them must be. A write without an
answer may have happened or not: it is sent again, with the same If-Match, until there is an answer, and when that says
"you come too late" the document is read: it must then be what was wanted. So the record is exact, and a version is never
skipped.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.cluster import Cluster

Tell = Callable[[str], None]
"""The fixture that prints a figure."""

RETRY_S = 0.05
CHANGES = ("created", "replaced", "shared", "deleted")
GROUPS = ("everyone", "finance", "hr", "legal", "sales")
WORDS = (
    "anchor ballast cleat davit ensign fathom galley hawser jetty keel lantern mooring oilskin pontoon rigging".split()
)


@dataclass(frozen=True)
class Kept:
    """A live document as it was acknowledged."""

    id: str
    version: int
    text: str
    readers: tuple[str, ...]

    @property
    def content_sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass
class Record:
    """What all writers know together."""

    live: dict[str, Kept] = field(default_factory=dict)
    """By external id."""
    buried: dict[str, int] = field(default_factory=dict)
    """The tombstones' versions by document id."""
    counts: Counter[str] = field(default_factory=Counter)
    """Acknowledged changes by kind; also what is no change: ``unanswered`` writes, ``answered`` questions."""
    violations: list[str] = field(default_factory=list)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def changes(self) -> int:
        return sum(self.counts[kind] for kind in CHANGES)

    async def count(self, kind: str) -> None:
        self.counts[kind] += 1
        async with self.progress:
            self.progress.notify_all()

    async def reaches(self, changes: int) -> None:
        async with self.progress:
            await self.progress.wait_for(lambda: self.changes >= changes)


class Writer:
    """Creates, replaces, re-shares, deletes and creates again, at random, until cancelled or told to stop."""

    def __init__(self, cluster: Cluster, record: Record, *, name: str, documents: int, seed: str) -> None:
        self._cluster = cluster
        self._record = record
        self._chosen = random.Random(f"{seed} {name}")
        self._keys = [f"{name}-{number}" for number in range(documents)]
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.write()

    async def fill(self) -> None:
        """Create every document that is not there."""
        for key in self._keys:
            if key not in self._record.live:
                await self._create(key)

    async def write(self) -> None:
        key = self._chosen.choice(self._keys)
        kept = self._record.live.get(key)
        if kept is None:
            await self._create(key)
        else:
            await self._chosen.choice((self._replace, self._replace, self._share, self._share, self._delete))(key, kept)

    def _text(self, key: str) -> str:
        """Unlike every other one; of one chunk, or of several."""
        self._number += 1
        sections = [
            f"## {self._chosen.choice(WORDS)} {place}\n\n{' '.join(self._chosen.choices(WORDS, k=12))}."
            for place in range(self._chosen.choice((0, 0, 3)))
        ]
        return "\n\n".join([f"# {key}\n\nRevision {self._number} of {key}.", *sections])

    def _readers(self) -> tuple[str, ...]:
        return tuple(sorted(self._chosen.sample(GROUPS[1:], 2))) if self._chosen.random() < 0.7 else GROUPS[:1]

    async def _create(self, key: str) -> None:
        text, readers = self._text(key), self._readers()
        body = {"title": f"Notes on {key}", "text": text, "readers": readers}
        status, found, _ = await self._insist("PUT", f"/by-external-id/{key}", json=body)
        if status not in (200, 201):
            self._violated(f"creating {key}: {status} {found}")
            return
        self._expect(key, found, Kept(found["id"], 1, text, readers))
        await self._record.count("created")

    async def _replace(self, key: str, kept: Kept) -> None:
        text = self._text(key)
        await self._change(key, Kept(kept.id, kept.version + 1, text, kept.readers), "replaced", {"text": text})

    async def _share(self, key: str, kept: Kept) -> None:
        readers = next(readers for readers in iter(self._readers, None) if readers != kept.readers)
        await self._change(key, Kept(kept.id, kept.version + 1, kept.text, readers), "shared", {"readers": readers})

    async def _change(self, key: str, wanted: Kept, kind: str, body: dict[str, Any]) -> None:
        status, found, tries = await self._insist("PUT", f"/{wanted.id}", if_match=wanted.version - 1, json=body)
        if status == 412 and tries > 1:
            found = await self._cluster.read(f"/api/documents/{wanted.id}")
        elif status != 200:
            self._violated(f"{kind} {key} at {wanted.version - 1}: {status} {found}")
            return
        self._expect(key, found, wanted)
        await self._record.count(kind)

    async def _delete(self, key: str, kept: Kept) -> None:
        status, found, tries = await self._insist("DELETE", f"/{kept.id}", if_match=kept.version)
        if status != 204 and not (status == 404 and tries > 1):
            self._violated(f"deleting {key} at {kept.version}: {status} {found}")
            return
        del self._record.live[key]
        self._record.buried[kept.id] = kept.version + 1
        await self._record.count("deleted")

    async def _insist(
        self, method: str, path: str, *, if_match: int | None = None, **options: Any
    ) -> tuple[int, Any, int]:
        """Send it until there is an answer: status, body, and how often it was sent. What a 5xx did is not known."""
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        tries = 0
        while True:
            tries += 1
            status, body = await self._cluster.call(method, f"/api/documents{path}", headers=headers, **options)
            if 0 < status < 500:
                return status, body, tries
            self._record.counts["unanswered"] += 1
            await asyncio.sleep(RETRY_S)

    def _expect(self, key: str, found: Any, wanted: Kept) -> None:
        """Keep what is wanted, and say so when the service holds something else."""
        self._record.live[key] = wanted
        held = (found["version"], found["content_sha256"], tuple(found["readers"]))
        if held != (wanted.version, wanted.content_sha256, wanted.readers):
            self._violated(f"{key}: the service has {held}, acknowledged was {wanted}")

    def _violated(self, what: str) -> None:
        self._record.violations.append(what)
