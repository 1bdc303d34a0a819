"""What an answer cites: where in its text each mark stands, and where its source is on our page."""

import re

import msgspec

from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.text.sentences import CITATION
from refdesk.contracts.answers import Source

_LISTED = "\n\nSources:\n"
_LINE = re.compile(r"\[\d{1,3}\] ")
_PLAIN = str.maketrans("[]<>", "()()")
"""A title in a list is text: nothing in it is a link or an image, whatever shows the list."""


class Citation(msgspec.Struct, frozen=True):
    """One source that a mark of the text names. ``start`` and ``end`` are characters: ``text[start:end]`` is the mark."""

    start: int
    end: int
    source: Source


def sources_of(answer: FinishedAnswer) -> list[Source]:
    return msgspec.json.decode(answer.sources, type=list[Source])


def citations_of(answer: FinishedAnswer) -> list[Citation]:
    """In the order of the text; a mark that names several sources, such as ``[1, 2]``, has one for each."""
    by_number = {source.n: source for source in sources_of(answer)}
    return [
        Citation(mark.start(), mark.end(), by_number[n])
        for mark in CITATION.finditer(answer.text)
        for n in map(int, mark[1].split(","))
        if n in by_number
    ]


def page_url(source: Source, *, base: str) -> str:
    """Where our page shows the passage."""
    return f"{base}/#document/{source.document_id}/{source.ordinal}"


def listed(citations: list[Citation]) -> str:
    """The sources cited, for people, to stand at the end of the text; empty where nothing is cited."""
    cited = {citation.source.n: citation.source for citation in citations}
    return _LISTED + "\n".join(_line(cited[n]) for n in sorted(cited)) if cited else ""


def _line(source: Source) -> str:
    title = " ".join(source.title.split()).translate(_PLAIN)
    return f"[{source.n}] {title}" + (f", page {source.page}" if source.page is not None else "")


def without_list(text: str) -> str:
    """The text without the list that `listed` made, as clients send it back."""
    said, mark, list_ = text.rpartition(_LISTED)
    return said if mark and all(_LINE.match(line) for line in list_.splitlines()) else text
