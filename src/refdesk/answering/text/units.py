"""What of a passage can be quoted on its own: sentences, list items, table rows, and whole lists.

A passage is plain text whose paragraphs are set apart by blank lines. Each stands under the headings of its chunk, and perhaps
under one of its own::

    Money                                         a heading: leads what follows, is never quoted by itself
    When is the salary paid?                      so does a question
    Salaries are paid on the 26th.                the answer to it, quoted whole if it is short

    The bonus is paid in March. It depends on …   sentences; one that begins with "It" takes along the one before it

    Fail over when one of these holds:            introduces the list
    1. The disk reports write errors.             items, each quotable with its introduction; together a list
    2. The data room has lost power.

    Service | Team | Tier                         the header of a table
    Manifest | Team Curlew | Tier 1               a row, quoted as "Service: Manifest · Team: Team Curlew · Tier: Tier 1"

    Surname: Okonkwo                              lines of a form, each a row that is about its label
    Destination: Rotterdam

    Room 103                                      a card: short lines about the first, each a row: "Room 103 · Seats 30"
    Seats 30
    Floor 2
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from refdesk.answering.text.sentences import COLONS, QUESTION_MARKS, STOPS, Words, split_sentences
from refdesk.contracts.answers import Source
from refdesk.contracts.scripts import word_count
from refdesk.index.chunks import HEADING_SEPARATOR, place

UnitKind = Literal["sentence", "answer", "item", "row", "list"]

HEADING_CHARACTERS_MAX = 80
CELL_SEPARATOR = " | "
SENTENCE_WORDS_MIN = 3
"""A shorter sentence ("Yes.") is quoted together with the next."""
LEANT_ON_MAX = 2
"""Sentences that are quoted before one that leans on them; of more, the first and the last."""
ANSWER_WORDS_MAX = 60
"""The longest answer to a question of the document that is quoted whole."""
CARD_LINES_MIN = 3
CARD_WORDS_MAX = 6
"""Of each of its lines."""

_ITEM = re.compile(r"(?:[-*•]|\d{1,3}[.)])\s")
_NUMBERED = re.compile(r"\d{1,3}[.)]\s")
_STOP = (*STOPS, *COLONS, ".”", '."', "。」", "。』")
_FIELD = re.compile(r"([^\W\d_][^:：]{0,39})(?::\s+|：\s*)\S.*")
"""Its first group is the label."""
_SECTION = re.compile(r"\d{1,2}(?:\.\d{1,2})*\.?\s+[^\W\d]")
_LEANS = re.compile(
    r"(?:It|Its|They|Their|Them|This|These|That|Those|He|She|His|Her|Such|Both|Otherwise|However|Then|In that case)\b"
    r"|\w+ of (?:it|its|them|their|these|those)\b"
)


class Unit(msgspec.Struct, frozen=True):
    """Something to quote from a source, and what it is read with.

    ``text`` is quoted. ``context`` is what it leans on and is not quoted: the heading or question above it, the line that
    introduces it. ``block`` is its place among the blocks of its source: a list and its items have the same.
    """

    source: Source
    kind: UnitKind
    text: str
    own: str
    """The part of ``text`` that says something of its own: without an antecedent or column names."""
    context: str
    block: int
    lead: str = ""
    """Heads a list when it is quoted."""
    numbered: bool = False
    entity: str = ""
    """What a table row is about: its first cell."""
    columns: str = ""

    def surroundings(self) -> str:
        return f"{place(self.source.title, self.source.heading)}\n{self.context}".strip()

    def embedded(self) -> str:
        return f"{self.surroundings()}\n{self.text}"

    @property
    def own_length(self) -> int:
        """With so many characters, at the end of what is embedded, it says something of its own: a row with its columns."""
        return len(self.own if self.text.endswith(self.own) else self.text)


def units(source: Source) -> Iterator[Unit]:
    """All units of a source, in their order. A list follows its items."""
    reader = _Reader(source)
    paragraphs = [_lines(paragraph) for paragraph in source.passage.split("\n\n")]
    fields = _fields([line for lines in paragraphs for line in lines])
    for lines in paragraphs:
        if _is_card(lines, fields):
            yield from reader.read("card", lines)
            continue
        for kind, run in groupby(lines, key=lambda line: "field" if line in fields else _kind_of_line(line)):
            yield from reader.read(kind, list(run))


def _lines(paragraph: str) -> list[str]:
    return [line.strip() for line in paragraph.split("\n") if line.strip()]


def _kind_of_line(line: str) -> Literal["item", "row", "line"]:
    if _ITEM.match(line) and not _is_section(line):
        return "item"
    return "row" if CELL_SEPARATOR in line else "line"


def _fields(lines: Sequence[str]) -> set[str]:
    """Lines with a label that follow each other. One alone may be a heading: ``Appendix: Forms``."""
    labelled = [
        _kind_of_line(line) == "line" and not line.endswith(_STOP) and _FIELD.match(line) is not None for line in lines
    ]
    pairs = zip(lines, lines[1:], labelled, labelled[1:], strict=False)
    return {line for *both, first, second in pairs if first and second for line in both}


def _is_card(lines: Sequence[str], fields: set[str]) -> bool:
    """Short lines without stops, of which at least half have figures."""
    return (
        len(lines) >= CARD_LINES_MIN
        and all(_kind_of_line(line) == "line" and line not in fields for line in lines)
        and not any(line.endswith(_STOP) or word_count(line) > CARD_WORDS_MAX for line in lines)
        and 2 * sum(any(map(str.isdigit, line)) for line in lines) >= len(lines)
    )


def _is_section(line: str) -> bool:
    """``8. Claiming expenses`` is a heading whose document numbers its sections, not an item."""
    return _SECTION.match(line) is not None and not line.endswith(_STOP) and len(line) <= HEADING_CHARACTERS_MAX


class _Reader:
    """Keeps what the next lines stand under."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known = {plain(text) for text in (source.title, *(source.heading or "").split(HEADING_SEPARATOR))}
        self._heading = ""
        self._lead = ""
        self._block = 0

    def read(self, kind: str, lines: list[str]) -> Iterator[Unit]:
        self._block += 1
        if kind == "item":
            yield from self._list(lines)
        elif kind == "row":
            yield from self._table(lines)
        elif kind == "field":
            yield from self._form(lines)
        elif kind == "card":
            yield from self._card(lines)
        else:
            for line in lines:
                yield from self._prose(line)

    def _prose(self, line: str) -> Iterator[Unit]:
        if plain(line) in self._known or self._is_heading(line):
            self._heading, self._lead = line, ""
            return
        if self._heading.endswith(QUESTION_MARKS) and word_count(line) <= ANSWER_WORDS_MAX:
            yield from self._unit("answer", line)
            return
        before: list[str] = []
        """The sentences that a pronoun may go back to, from the one that names what it stands for."""
        for sentence in _joined(split_sentences(line)):
            if _LEANS.match(sentence) is None:
                before = []
            self._lead = " ".join([*before[-1:], sentence]) if sentence.endswith(COLONS) else ""
            if not sentence.endswith(COLONS):
                leant_on = before if len(before) <= LEANT_ON_MAX else [before[0], "…", before[-1]]
                yield from self._unit("sentence", " ".join([*leant_on, sentence]), own=sentence)
            before.append(sentence)

    def _is_heading(self, line: str) -> bool:
        if len(line) > HEADING_CHARACTERS_MAX:
            return False
        return (
            line.endswith(QUESTION_MARKS)
            or _is_section(line)
            or (not line.endswith(_STOP) and not any(map(str.isdigit, line)))
        )

    def _list(self, lines: list[str]) -> Iterator[Unit]:
        context = f"{self._heading}\n{self._lead}".strip()
        numbered = _NUMBERED.match(lines[0]) is not None
        for line in lines:
            yield from self._unit("item", line, context=context, numbered=numbered)
        if len(lines) > 1:
            lead = self._lead or self._heading or (self._source.heading or "").split(HEADING_SEPARATOR)[-1]
            yield from self._unit("list", "\n".join(lines), context=context, lead=lead, numbered=numbered)

    def _table(self, lines: list[str]) -> Iterator[Unit]:
        rows = [line.split(CELL_SEPARATOR) for line in lines]
        has_header = len(rows) > 1 and not Words.of(lines[0]).numbers
        header = rows[0] if has_header else []
        context = f"{self._heading}\n{self._lead}".strip()
        for row in rows[has_header:]:
            unit = self._unit("row", _labelled(header, row), own=" ".join(row), context=context)
            for found in unit:
                yield msgspec.structs.replace(found, entity=row[0], columns=" ".join(header[1:]))

    def _form(self, lines: list[str]) -> Iterator[Unit]:
        for line in lines:
            label = _FIELD.sub(r"\1", line)
            yield Unit(self._source, "row", line, line, self._heading, self._block, entity=label, columns=label)

    def _card(self, lines: list[str]) -> Iterator[Unit]:
        """Each line is read with all of them: the first may not be what a question names."""
        name, card = lines[0], "\n".join([self._heading, *lines]).strip()
        for line in lines[1:]:
            yield Unit(self._source, "row", f"{name} · {line}", line, card, self._block, entity=name, columns=line)

    def _unit(
        self,
        kind: UnitKind,
        text: str,
        *,
        own: str = "",
        context: str | None = None,
        lead: str = "",
        numbered: bool = False,
    ) -> Iterator[Unit]:
        """A single word, be it numbered, is a heading that the parser did not tell from text: it answers nothing."""
        said = _ITEM.sub("", own or text, count=1)
        if len(Words.of(said).content) > (0 if word_count(said) >= SENTENCE_WORDS_MIN and said.endswith(_STOP) else 1):
            context = self._heading if context is None else context
            yield Unit(self._source, kind, text, own or text, context, self._block, lead, numbered)


def _joined(sentences: Sequence[str]) -> Iterator[str]:
    """Sentences, a very short one ("Yes.") joined to the next."""
    short = ""
    for sentence in sentences:
        joined = f"{short} {sentence}".strip()
        if word_count(joined) < SENTENCE_WORDS_MIN:
            short = joined
            continue
        yield joined
        short = ""
    if short:
        yield short


def _labelled(header: Sequence[str], row: Sequence[str]) -> str:
    """``Service: Manifest · Team: Team Curlew``; the cells alone where nothing names the columns."""
    if len(header) != len(row):
        return " · ".join(cell for cell in row if cell.strip())
    return " · ".join(f"{name.strip()}: {cell.strip()}" for name, cell in zip(header, row, strict=True) if cell.strip())


def plain(line: str) -> str:
    """A line without what headings differ in: marks, case and white space."""
    return " ".join(line.strip("# ").casefold().split())
