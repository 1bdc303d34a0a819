"""What changed between two versions of a document: lines that were added, removed or stayed, for people to read.

Both texts are cut where they begin and end alike; only what lies between is compared line by line, and only as far as that is
cheap: a stretch that is too long counts as replaced whole. What stayed is shown near a change and counted elsewhere.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Literal

import msgspec

from refdesk.contracts.access import Scope
from refdesk.contracts.documents import DocumentVersion
from refdesk.contracts.errors import DocumentRejected, NotFound
from refdesk.documents.service import DocumentService
from refdesk.outside.media_types import MARKDOWN, TEXT

COMPARED_LINES_MAX = 1000
"""Of each text between what both have in common; difflib's worst case is far from linear."""
SHOWN_LINES_MAX = 2000
COMPARED_BYTES_MAX = 16 * 1024 * 1024
"""Of one version's content, which is held in memory whole."""
LINE_CHARACTERS_MAX = 2000
CONTEXT_LINES = 3
READ_AS_THEY_ARE = frozenset({TEXT, MARKDOWN})

ReadText = Callable[[bytes, str], Awaitable[str]]
"""The text of a content of a media type. Raises DocumentRejected when it has none."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """``skipped`` stands for ``count`` lines that both versions have."""

    kind: Literal["same", "added", "removed", "skipped"]
    text: str = ""
    count: int = 1


class Changes(msgspec.Struct, frozen=True):
    """From ``since`` to ``version``; ``lines_left_off`` more are not shown. No lines: the texts are the same."""

    version: int
    since: int
    lines: list[Line]
    lines_left_off: int


class Comparisons:
    """``read``: what reads contents that are no plain text, outside this process. ``at_once`` versions are compared at a time."""

    def __init__(self, service: DocumentService, read: ReadText, *, at_once: int = 2) -> None:
        self._service = service
        self._read = read
        self._free = asyncio.Semaphore(at_once)

    async def changes(self, document_id: str, *, scope: Scope, version: int, since: int | None) -> Changes:
        """Raises NotFound where the scope cannot read both versions, and when a content is not kept any more."""
        known = {one.version: one for one in await self._service.versions(document_id, scope=scope)}
        earlier = max((one for one in known if one < version), default=0) if since is None else since
        now, before = known.get(version), known.get(earlier)
        if now is None or before is None:
            raise NotFound("There are no two such versions that you may read. GET …/versions lists those that you may.")
        async with self._free:
            old, new = await self._text(before), await self._text(now)
            lines = await asyncio.to_thread(compared, old.splitlines(), new.splitlines())
        shown = lines[:SHOWN_LINES_MAX]
        return Changes(version=version, since=earlier, lines=shown, lines_left_off=len(lines) - len(shown))

    async def _text(self, version: DocumentVersion) -> str:
        if version.content_bytes > COMPARED_BYTES_MAX:
            raise NotFound(
                f"Version {version.version} has {version.content_bytes:,} bytes; only up to {COMPARED_BYTES_MAX:,} are compared."
            )
        content = await self._service.contents.of_version(version)
        if version.media_type in READ_AS_THEY_ARE:
            try:
                return content.decode("utf-8-sig")
            except UnicodeDecodeError:
                pass
        try:
            return await self._read(content, version.media_type)
        except DocumentRejected as error:
            raise NotFound(f"Version {version.version} has no text to compare: {error.message}") from error


def compared(old: Sequence[str], new: Sequence[str]) -> list[Line]:
    """All lines that changed, with a few around them; empty when nothing did."""
    if list(old) == list(new):
        return []
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    lines = [*_same(new[:head], last=CONTEXT_LINES)]
    lines += _between(old[head : len(old) - tail], new[head : len(new) - tail])
    return [*lines, *_same(new[len(new) - tail :], first=CONTEXT_LINES)]


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _between(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    if max(len(old), len(new)) > COMPARED_LINES_MAX:
        yield from _lines("removed", old)
        yield from _lines("added", new)
        return
    for kind, a, b, c, d in difflib.SequenceMatcher(a=old, b=new).get_opcodes():
        if kind == "equal":
            yield from _same(new[c:d], first=CONTEXT_LINES, last=CONTEXT_LINES)
        else:
            yield from _lines("removed", old[a:b])
            yield from _lines("added", new[c:d])


def _same(lines: Sequence[str], *, first: int = 0, last: int = 0) -> Iterator[Line]:
    """The first and the last of them, and how many are between."""
    skipped = len(lines) - first - last
    if skipped <= 1:
        yield from _lines("same", lines)
        return
    yield from _lines("same", lines[:first])
    yield Line("skipped", count=skipped)
    yield from _lines("same", lines[len(lines) - last :])


def _lines(kind: Literal["same", "added", "removed"], texts: Sequence[str]) -> Iterator[Line]:
    for text in texts:
        yield Line(kind, text if len(text) <= LINE_CHARACTERS_MAX else text[:LINE_CHARACTERS_MAX] + "…")
