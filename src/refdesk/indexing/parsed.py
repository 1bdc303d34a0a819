"""A parsed document: its plain text, and what each stretch of that text is.

Every format ends in the same shape, so that the chunker knows none of them::

    text    "Travel policy\\n\\nFlights\\n\\nBook early.\\n\\nClass | Hours\\nEconomy | 0-6 …"
    blocks   heading 1      heading 2  paragraph    head           row          …

Blocks ascend and do not overlap; between them lies white space only.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from refdesk.contracts.documents import ReadingNote, ReadingNoteCode
from refdesk.contracts.errors import DocumentRejected
from refdesk.contracts.hidden_characters import clean
from refdesk.indexing.recognition import RecognitionLimits

Kind = Literal["part", "heading", "fields", "paragraph", "item", "head", "row", "code"]
"""``head`` is the header row of a table, ``row`` any other row; the rows of a table follow each other.

``part`` is the heading of something that people know under its own name: a sheet, a message of a mailbox, a forwarded message,
an attachment. Passages stand in one part only, and name it. ``fields`` are lines before a text that say who wrote it to whom and
when: they make a passage of their own, and take no room in that of the text.
"""

HEADING_CHARACTERS_MAX = 200
"""A longer "heading" is a paragraph in large type."""


LEVEL_MAX = 6
PART_DEPTH = LEVEL_MAX
"""Headings inside a part are lower than all headings around it."""
NOTES_MAX = 20
NOTE_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsingLimits:
    """What one document may cost. Whatever goes beyond is refused with the name of the setting to raise."""

    wall_s: float = 30.0
    cpu_s: int = 30
    memory_bytes_max: int = 512 * 1024 * 1024
    """Resident memory of a parser process, its own 40 MiB included."""
    pages_max: int = 2_000
    characters_max: int = 20_000_000
    blocks_max: int = 500_000
    """Paragraphs, list items and table rows together."""
    archive_members_max: int = 10_000
    archive_bytes_max: int = 256 * 1024 * 1024
    """What the members of a DOCX, XLSX, ODT, EPUB … may unpack to, all together."""
    archive_ratio_max: int = 200
    """Unpacked to packed, counted from 16 MiB on. Spreadsheets reach 50; a bomb has 1,000."""
    file_bytes_max: int = 64 * 1024 * 1024
    """The largest temporary file a parser may write."""
    open_files_max: int = 64
    attachments_max: int = 1_000
    """Attachments of one mail, mailbox or PDF that are read; the others are named."""
    attachment_bytes_max: int = 50 * 1024 * 1024
    attachment_depth_max: int = 8
    """Mails in mails in mails: how deep attachments are read."""
    processors_spared: int = 0
    """How many processors a parser keeps off, where there are more."""
    recognition: RecognitionLimits | None = None
    """None: there is no text recognition, and a scan is refused."""


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stretch of the text that belongs together. ``level`` is from 1 on for headings and parts, ``page`` is 1-based."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    page: int | None = None


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment with pages that show something but hold no text; ``key`` is its place among attachments: ``2.1``."""

    key: str
    name: str
    media_type: str
    pages: tuple[int, ...]
    content: bytes


class ParsedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a document and its blocks. ``pages`` counts pages or slides, where the format has them.

    ``scanned`` are the pages that show something but hold no text: their text is still to be recognised; ``scans`` are
    attachments with such pages. ``notes`` are what whoever relies on the document should know about how it was read.
    """

    text: str
    blocks: tuple[Block, ...]
    title: str | None = None
    pages: int | None = None
    scanned: tuple[int, ...] = ()
    scans: tuple[Scan, ...] = ()
    notes: tuple[ReadingNote, ...] = ()

    def own_title(self) -> str | None:
        """What the document calls itself: its metadata's title, or the top heading it begins with."""
        if self.title or not self.blocks:
            return self.title
        first = self.blocks[0]
        return self.text[first.start : first.end].strip() if (first.kind, first.level) == ("heading", 1) else None


class Sink(Protocol):
    """Where a reader of a format puts what it finds, in reading order."""

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """How far a document has been written."""

    blocks: int
    notes: int
    title: str | None


class DocumentWriter:
    """Builds a `ParsedDocument`: cleans each block, and lays the blocks out with a blank line or a line feed between."""

    def __init__(self, *, name: str, limits: ParsingLimits) -> None:
        self.page: int | None = None
        """The page on which the blocks to come stand."""
        self.title: str | None = None
        self.name = name
        """Of the document, or of the attachment that is being read."""
        self._limits = limits
        self._attachment: str | None = None
        self._depth = 0
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._notes: list[ReadingNote] = []
        self._length = 0

    @contextmanager
    def part(self, heading: str, *, level: int, attachment: str | None = None) -> Iterator[None]:
        """Something with a name of its own. Headings inside are lower than all others; its pages and title are not ours."""
        self.add("part", heading, level=level)
        before = self.title, self.page, self.name, self._attachment
        if attachment is not None:
            self.name = self._attachment = clean(attachment)[:HEADING_CHARACTERS_MAX]
        self._depth += PART_DEPTH
        try:
            yield
        finally:
            self._depth -= PART_DEPTH
            self.title, self.page, self.name, self._attachment = before

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        text = clean(text).strip("\n").rstrip() if kind == "code" else clean(text).strip()
        if not text:
            return
        if kind == "heading" and len(text) > HEADING_CHARACTERS_MAX:
            kind, level = "paragraph", 0
        if kind in {"part", "heading", "head", "row"}:
            text = " ".join(text.split())
        if kind in {"part", "heading"}:
            level = min(LEVEL_MAX, level) + self._depth
        self._append(self._separator(kind), text)
        self._blocks.append(Block(kind, self._length - len(text), self._length, level, self.page))
        self._check_limits()

    def note(self, code: ReadingNoteCode, text: str) -> None:
        """Says something about how the document, or the attachment that is being read, was read."""
        words = " ".join(clean(text).split())[:NOTE_CHARACTERS_MAX]
        self._notes.append(ReadingNote(code=code, text=words, attachment=self._attachment))

    @property
    def place(self) -> Place:
        """Where the next block will stand."""
        return Place(len(self._blocks), len(self._notes), self.title)

    def rewind(self, place: Place) -> None:
        """Forgets what was written since, for its reader has failed."""
        self._length -= sum(map(len, self._parts[2 * place.blocks :]))
        del self._blocks[place.blocks :], self._parts[2 * place.blocks :], self._notes[place.notes :]
        self.title = place.title

    def finish(
        self, *, pages: int | None = None, scanned: tuple[int, ...] = (), scans: Iterable[Scan] = ()
    ) -> ParsedDocument:
        title = " ".join(clean(self.title or "").split())[:HEADING_CHARACTERS_MAX] or self._first_heading()
        return ParsedDocument(
            text="".join(self._parts),
            blocks=tuple(self._blocks),
            title=title,
            pages=pages,
            scanned=scanned,
            scans=tuple(scans),
            notes=tuple(_some(self._notes)),
        )

    def _append(self, *parts: str) -> None:
        self._parts.extend(parts)
        self._length += sum(map(len, parts))

    def _separator(self, kind: Kind) -> str:
        if not self._blocks:
            return ""
        before = self._blocks[-1].kind
        tight = (kind == before == "item") or (kind == "row" and before in {"head", "row"})
        return "\n" if tight else "\n\n"

    def _first_heading(self) -> str | None:
        """The only heading of the first level names the document; one of several does not."""
        first = [index for index, block in enumerate(self._blocks) if block.kind == "heading" and block.level == 1]
        return self._parts[2 * first[0] + 1] if len(first) == 1 else None

    def _check_limits(self) -> None:
        if self._length > self._limits.characters_max:
            raise rejected(
                f"{self.name} has more than {self._limits.characters_max:,} characters of text",
                "split it, or raise REFDESK_PARSE_CHARACTERS_MAX",
                limit=self._limits.characters_max,
            )
        if len(self._blocks) > self._limits.blocks_max:
            raise rejected(
                f"{self.name} has more than {self._limits.blocks_max:,} paragraphs and table rows",
                "split it, or raise REFDESK_PARSE_BLOCKS_MAX",
                limit=self._limits.blocks_max,
            )


def _some(notes: list[ReadingNote]) -> Iterator[ReadingNote]:
    """The first of them, and how many more there are: notes travel with every event and every listing."""
    yield from notes[:NOTES_MAX]
    if left := len(notes[NOTES_MAX:]):
        yield ReadingNote(code="more", text=f"There are {left:,} more notes like these.")


def rejected(what: str, advice: str, **details: int | str) -> DocumentRejected:
    """The refusal of a document: what is the matter, what to do about it, and the figures behind it."""
    rejection = DocumentRejected(f"{what}; {advice}.")
    rejection.details.update(details)
    return rejection


def row_text(cells: list[str]) -> str:
    """A table row as one readable line; empty cells at the end are dropped."""
    line = [" ".join(cell.split()) for cell in cells]
    while line and not line[-1]:
        line.pop()
    return " | ".join(line)
