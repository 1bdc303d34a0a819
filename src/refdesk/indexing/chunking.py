"""Cutting a parsed document into passages, along its structure.

::

    blocks   ─▶ pieces            ─▶ sections               ─▶ chunks
             a block, or parts      pieces under the same      packed up to the budget; a chunk never
             of one that is too     heading on the same        overlaps another, and is a plain slice of the
             long for the budget    page                       text (with the table's header before it, where
                                                               a table is split)

A section that fits becomes one chunk, joined with its small neighbours; a longer one is cut into chunks of about equal size,
so that no crumb is left at its end. Within a long block cuts fall on line ends or sentences, else on words, else anywhere.
A table row is cut only when it alone is longer than a chunk.

What it does not do: overlap (a neighbour is one ordinal away) or look at meaning. Time is linear in the text: every
character is tokenized once, and again only where a cut falls inside a word.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import NamedTuple

from refdesk.contracts.errors import DocumentRejected
from refdesk.index.chunks import HEADING_SEPARATOR, Chunk
from refdesk.indexing.parsed import Block, Kind, ParsedDocument, rejected

TokenSpans = Callable[[str], list[tuple[int, int]]]
"""The (start, end) of every token of a text, ascending. White space makes no tokens and separates them, so that counts add."""
CountTokens = Callable[[list[str]], list[int]]
"""How many tokens each of these texts has: as many as they have spans."""

_SENTENCE_END = re.compile(r"\n+|(?<=[.!?…])[\"'”’»)\]]*[ \t]+|(?<=[。！？])")
_TOKEN_CHARACTERS_MAX = 10  # English has 4 to 5. A longer "token" is an unknown word, and costs by its length
_SMALL_SHARE = 1 / 3  # of the budget: a smaller section looks for company
_TINY_SHARE = 1 / 8  # of the budget: a smaller section seeks company even where it is not small
_HEADER_SHARE = 1 / 2  # of the budget: a longer table header is not repeated
_BLOCKS_COUNTED = 64  # at once: more gain nothing and take memory
_HEADING_PART_CHARACTERS = 80
_HEADING_CHARACTERS_MAX = 240
_HEADINGS = frozenset({"heading", "part"})


class _Heading(NamedTuple):
    """A heading above a piece; ``part`` numbers those that begin a part, so that two of one name are not taken for one."""

    text: str
    part: int = 0


Path = tuple[_Heading, ...]


@dataclass(slots=True)
class _Piece:
    """A stretch of the text that fits into a chunk.

    ``cost`` is its number of tokens, or more where they are overlong; ``header`` is the header row of its table. ``path`` are the
    headings above it.
    """

    start: int
    end: int
    cost: int
    kind: Kind
    path: "Path"
    page: int | None
    header: "_Piece | None" = None


@dataclass(slots=True)
class _Draft:
    """A chunk in the making."""

    pieces: list[_Piece] = field(default_factory=list)
    cost: int = 0

    def add(self, piece: _Piece) -> None:
        self.cost += self.cost_of(piece)
        self.pieces.append(piece)

    def cost_of(self, piece: _Piece) -> int:
        """What a piece adds: as the first one, a table row brings the header of its table along."""
        return piece.cost + (piece.header.cost if piece.header and not self.pieces else 0)

    @property
    def only_headings(self) -> bool:
        return all(piece.kind in _HEADINGS for piece in self.pieces)

    @property
    def path(self) -> Path:
        """What the headings of its pieces have in common."""
        bodies = [piece.path for piece in self.pieces if piece.kind not in _HEADINGS] or [p.path for p in self.pieces]
        common = bodies[0]
        for path in bodies[1:]:
            common = common[
                : next((i for i, (a, b) in enumerate(zip(common, path, strict=False)) if a != b), len(path))
            ]
        return common

    @property
    def page(self) -> int | None:
        """The page on which it stands; headings may stand on the one before."""
        weights: dict[int | None, int] = {}
        for piece in [piece for piece in self.pieces if piece.kind not in _HEADINGS] or self.pieces:
            weights[piece.page] = weights.get(piece.page, 0) + piece.cost
        return max(weights, key=lambda page: weights[page])


def chunk(
    parsed: ParsedDocument,
    *,
    token_spans: TokenSpans,
    count_tokens: CountTokens | None = None,
    tokens_max: int = 200,
    chunks_max: int = 20_000,
) -> list[Chunk]:
    """The passages of a document, in order, each of at most ``tokens_max`` tokens (title and heading not counted).

    Every visible character of the parsed text is in exactly one chunk; the header of a split table is repeated in front.
    ``count_tokens`` is for tokenizers that count many texts at once more quickly than they tell where their tokens stand.
    Raises `DocumentRejected` when there would be more than ``chunks_max``.
    """
    count = count_tokens or (lambda texts: [len(token_spans(text)) for text in texts])
    pieces = _Cutter(parsed.text, token_spans, count, tokens_max).pieces(parsed.blocks)
    chunks: list[Chunk] = []
    for draft in _Packer(tokens_max).pack(_sections(pieces)):
        if len(chunks) == chunks_max:
            raise _too_many(chunks_max)
        chunks.append(_finish(draft, parsed.text, ordinal=len(chunks)))
    return chunks


def _too_many(chunks_max: int) -> DocumentRejected:
    return rejected(
        f"The document makes more than {chunks_max:,} passages",
        "split it, or raise REFDESK_CHUNKS_MAX",
        limit=chunks_max,
    )


def _finish(draft: _Draft, text: str, *, ordinal: int) -> Chunk:
    first, last = draft.pieces[0], draft.pieces[-1]
    header = f"{text[first.header.start : first.header.end]}\n" if first.header else ""
    return Chunk(
        ordinal=ordinal,
        text=header + text[first.start : last.end],
        heading=_heading(draft.path),
        page=draft.page,
        start=first.start,
        end=last.end,
    )


def _heading(path: Path) -> str | None:
    """The path as one line, cut so that it leaves the embedding window to the text.

    The nearest part matters most, then the outermost one, then the nearest headings.
    """
    kept: dict[int, str] = {}
    room = _HEADING_CHARACTERS_MAX
    for place in _by_importance(path):
        text = path[place].text
        short = text if len(text) <= _HEADING_PART_CHARACTERS else f"{text[: _HEADING_PART_CHARACTERS - 1].rstrip()}…"
        room -= len(short) + len(HEADING_SEPARATOR)
        if room < 0:
            break
        kept[place] = short
    return HEADING_SEPARATOR.join(kept[place] for place in sorted(kept)) or None


def _by_importance(path: Path) -> Iterable[int]:
    parts = [place for place, heading in enumerate(path) if heading.part]
    return dict.fromkeys([*parts[-1:], *parts[:1], *reversed(range(len(path)))])


def _sections(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    for _, section in groupby(pieces, key=lambda piece: (piece.path, piece.page, piece.kind == "fields")):
        yield list(section)


class _Cutter:
    """Blocks to pieces that fit."""

    def __init__(self, text: str, token_spans: TokenSpans, count_tokens: CountTokens, tokens_max: int) -> None:
        self._text = text
        self._spans = token_spans
        self._count = count_tokens
        self._tokens_max = tokens_max

    def pieces(self, blocks: Iterable[Block]) -> Iterator[_Piece]:
        path: list[tuple[int, _Heading]] = []
        header: _Piece | None = None
        lead = 0  # what the headings just before cost: the next piece must fit beside them
        for number, (block, whole) in enumerate(self._costs(blocks), start=1):
            if block.kind in _HEADINGS:
                path = [above for above in path if above[0] < block.level]
                text = self._text[block.start : block.end]
                path.append((block.level, _Heading(text, number if block.kind == "part" else 0)))
            header = header if block.kind == "row" else None
            room = self._tokens_max - (header.cost if header else 0) - min(lead, self._tokens_max // 4)
            headings = tuple(heading for _, heading in path)
            for start, end, cost in self._cut(block, whole, room):
                yield _Piece(start, end, cost, block.kind, headings, block.page, header)
                lead = lead + cost if block.kind in _HEADINGS else 0
            if block.kind == "head":
                fits = whole is not None and whole <= self._tokens_max * _HEADER_SHARE
                header = _Piece(block.start, block.end, whole or 0, "head", (), block.page) if fits else None

    def _costs(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, int | None]]:
        """Each block and its cost, many counted at once; None for one that is too long for any chunk."""
        waiting = iter(blocks)
        while some := list(islice(waiting, _BLOCKS_COUNTED)):
            short = [block for block in some if block.end - block.start <= self._tokens_max * _TOKEN_CHARACTERS_MAX]
            counts = iter(self._count([self._text[block.start : block.end] for block in short]))
            costs = {block.start: self._cost_of(next(counts), block.end - block.start) for block in short}
            yield from ((block, costs.get(block.start)) for block in some)

    def _cut(self, block: Block, cost: int | None, room: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, cost) of the parts of a block: itself if it fits, else its sentences, cut further where needed."""
        if cost is not None and cost <= room:
            yield block.start, block.end, cost
            return
        for sentence_start, sentence_end in self._sentences(block.start, block.end):
            yield from self._cut_sentence(sentence_start, sentence_end, room)

    def _sentences(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        at = start
        for match in _SENTENCE_END.finditer(self._text, start, end):
            if trimmed := self._trim(at, match.end()):
                yield trimmed
            at = match.end()
        if trimmed := self._trim(at, end):
            yield trimmed

    def _cut_sentence(self, start: int, end: int, room: int) -> Iterator[tuple[int, int, int]]:
        """Cuts by words, or within a word that alone is too long. Looks at one window at a time, to stay linear."""
        while start < end:
            stop = end
            if end - start > room * _TOKEN_CHARACTERS_MAX:
                stop = self._last_break(start, start + room * _TOKEN_CHARACTERS_MAX)
            spans = self._spans(self._text[start:stop])
            cost = self._cost_of(len(spans), stop - start)
            if cost > room:
                stop = self._last_break(start, start + spans[room - 1][1])
                cost = self._cost(start, stop)
            while cost > room and stop > start + 1:  # the halves of a word made more tokens than the word
                stop -= max(1, (stop - start) // 8)
                cost = self._cost(start, stop)
            if trimmed := self._trim(start, stop):
                yield *trimmed, cost
            start = stop

    def _last_break(self, start: int, stop: int) -> int:
        """The last place up to ``stop`` where a word ends; ``stop`` itself if the word is too long for that."""
        if self._text[stop : stop + 1].isspace():
            return stop
        for at in range(stop, start, -1):
            if self._text[at - 1].isspace():
                return at if self._trim(start, at) else stop
        return stop

    def _trim(self, start: int, end: int) -> tuple[int, int] | None:
        while start < end and self._text[start].isspace():
            start += 1
        while end > start and self._text[end - 1].isspace():
            end -= 1
        return (start, end) if start < end else None

    def _cost(self, start: int, end: int) -> int:
        return self._cost_of(len(self._spans(self._text[start:end])), end - start)

    @staticmethod
    def _cost_of(tokens: int, characters: int) -> int:
        return max(1, tokens, -(-characters // _TOKEN_CHARACTERS_MAX))


class _Packer:
    """Sections to drafts of chunks, each within the budget."""

    def __init__(self, tokens_max: int) -> None:
        self._tokens_max = tokens_max
        self._small = tokens_max * _SMALL_SHARE
        self._tiny = tokens_max * _TINY_SHARE

    def pack(self, sections: Iterable[list[_Piece]]) -> Iterator[_Draft]:
        draft = _Draft()
        for section in sections:
            if draft.pieces and not self._joins(draft, section):
                yield draft
                draft = _Draft()
            target = self._target(draft, section)
            for piece, following in zip(section, [*section[1:], None], strict=True):
                if draft.pieces and self._is_full(draft, piece, following, target):
                    yield draft
                    draft = _Draft()
                draft.add(piece)
        if draft.pieces:
            yield draft

    def _joins(self, draft: _Draft, section: list[_Piece]) -> bool:
        """Whether a section goes on in the chunk of what stands before it: headings lead on, small ones seek company.

        A chunk stands on one page and in one part, for a citation names it; only headings at the end of a page go with what
        follows on the next.
        """
        before, parts = _parts(draft.path), _parts(section[0].path)
        if draft.only_headings:
            same_page = draft.page == section[0].page or section[0].kind not in _HEADINGS
            return same_page and parts[: len(before)] == before
        if parts != before or "fields" in {draft.pieces[-1].kind, section[0].kind}:
            return False
        cost = sum(piece.cost for piece in section)
        if draft.cost + cost > self._tokens_max or not _are_related(draft.path, section[0].path):
            return False
        if draft.page != section[0].page:
            return False
        return draft.cost < self._small or cost < self._tiny

    def _target(self, draft: _Draft, section: list[_Piece]) -> int:
        """The size of equal chunks: a section of 210 tokens makes two of 105 rather than one of 200 and a crumb."""
        total = draft.cost + sum(piece.cost for piece in section)
        return -(-total // -(-total // self._tokens_max))

    def _is_full(self, draft: _Draft, piece: _Piece, following: _Piece | None, target: int) -> bool:
        cost = draft.cost + draft.cost_of(piece)
        if cost > self._tokens_max:
            return True
        if draft.only_headings:
            return False
        if piece.kind == "head" and following is not None and cost + following.cost > self._tokens_max:
            return True  # the header of a table stays with its first row
        return draft.cost >= target


def _parts(path: Path) -> list[int]:
    return [heading.part for heading in path if heading.part]


def _are_related(before: Path, path: Path) -> bool:
    """The same heading, one below it, or one beside it."""
    return path[: len(before)] == before or path[: len(before) - 1] == before[:-1]
