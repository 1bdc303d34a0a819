"""Whole sentences out of a stream of text, and the words they consist of.

A sentence ends at its stop (``.``, ``!``, ``?``, ``…``) followed by white space and something that is not a citation, at a stop
of Chinese or Japanese (``。``), which nothing need follow, or at a line break; citations right behind the stop
(``… 27 days. [1]``) belong to the sentence before them.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from refdesk.contracts.scripts import UNSPACED, pairs

_WIDE_STOPS = "。！？｡"
STOPS = f".!?…؟۔।॥{_WIDE_STOPS}"
"""The full stops, question and exclamation marks of the scripts that have them."""
COLONS = (":", "：")
QUESTION_MARKS = ("?", "？", "؟")
_STOP_MARK = re.compile(rf"[{STOPS}\n]")
"""Without one there is no stop: most deltas need no closer look."""
_LIST_OF_NUMBERS = r"\[\d{1,3}(?:\s*+,\s*+\d{1,3})*+\]"
_BEHIND_STOP = re.compile(
    rf"""["'”’)\]」』）】》]*+(?P<cited>(?:\s*+{_LIST_OF_NUMBERS})*+)(?P<blank>\s*+)(?P<open>\[[\d,\s]*+\Z)?"""
)
"""Quotes and brackets that close, citations, white space, and what may become one more citation."""
_BEHIND_LINE = re.compile(rf"(?P<cited>(?:\s*+{_LIST_OF_NUMBERS})*+)(?P<blank>\s*+)(?P<open>\[[\d,\s]*+\Z)?")
_LINE_BREAK = re.compile(r"\n\s*+")
BEHIND_CHARACTERS_MAX = 256
"""How much of that is waited for: whatever comes then, the sentence has ended."""
CITATION = re.compile(r"\[(\d{1,3}(?:\s*+,\s*+\d{1,3})*+)\]")
_BLANK_BEFORE_MARK = re.compile(r"(?<!\s)\s++([.,;:!?])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|cf|vs|approx|incl|no|nos|fig|dr|mr|mrs|ms|prof|st|inc|ltd|co|dept|ext|p|pp|[a-z])\.$",
    re.IGNORECASE,
)
ABBREVIATION_LENGTH_MAX = len(" approx.")
"""The longest of them with what stands before it."""
TAIL_CHARACTERS = 2 * ABBREVIATION_LENGTH_MAX
"""What is looked at of a sentence to tell whether it goes on."""
_WORDS = re.compile(CITATION.pattern + r"|(\d+(?:[.,:]\d+)*)|([^\W\d_]{3,})")
"""A citation, a number or a word."""
_LIST_MARKER = re.compile(r"\d{1,3}[.)]|[-*•]")

WORDS_REMEMBERED = 16_384
"""Whose stem is not looked for again: a few thousand words come back all the time. One or two megabytes."""

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing during each few for from further get give had has have having he her here hers him his how
    i if in into is it its itself just me may might more most much must my no nor not now of off on once one only or other
    our out over own per same shall she should so some such tell than that the their them then there these they this those
    through to too under until up upon us use very was we were what when where which while who whom whose why will with
    within would you your""".split()
)
_BETWEEN_WORDS = re.compile(
    "[\u3041-\u309f]+|什么|多少|多久|多长|怎么办?|怎样|如何|哪[些个里一]?|为何|谁|几|吗|呢|可以|需要|应该|应当|能否|是否|请问|时候|的|了|有|是"
    "|何[時日年月回歳]?|誰|教|説明"
)
"""What Chinese and Japanese put between the words that carry meaning: particles, endings and how questions ask."""


@lru_cache(maxsize=WORDS_REMEMBERED)
def stem(word: str) -> str:
    """A rough English stem: enough to match ``renewing`` with ``renewed``; empty for a word that carries no meaning.

    Retrieval uses PostgreSQL's real stemmer.
    """
    word = word.lower()
    if word in STOP_WORDS:
        return ""
    for suffix in ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ied", "ers", "es", "ed", "er", "ly", "s"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word.removesuffix("e") if len(word) > 4 else word


class Words(msgspec.Struct, frozen=True):
    """What a text consists of, each once: stems of the words that carry meaning and numbers; the numbers among them.

    Where no spaces set words apart, each pair of letters is taken for one. Citations are neither.
    """

    content: set[str]
    numbers: set[str]

    @classmethod
    def of(cls, text: str) -> "Words":
        content, numbers = set[str](), set[str]()
        if not text.isascii():
            for run in UNSPACED.findall(text):
                content.update(*map(pairs, filter(None, _BETWEEN_WORDS.split(run))))
            text = UNSPACED.sub(" ", text)
        for _, number, word in _WORDS.findall(text):
            if word:
                content.add(stem(word))
            elif number:
                numbers.add(number.replace(",", ""))
        content |= numbers
        content.discard("")
        return cls(content, numbers)


def citations(text: str) -> tuple[int, ...]:
    """The numbers a text cites, in order of appearance, each once."""
    return tuple(dict.fromkeys(int(n) for cited in CITATION.findall(text) for n in cited.split(",")))


def without_citations(text: str) -> str:
    return _BLANK_BEFORE_MARK.sub(r"\1", CITATION.sub("", text)).strip()


class Cut(msgspec.Struct, frozen=True):
    """A sentence, and whether it is the first on its line."""

    text: str
    begins_line: bool = True


class _Stop(msgspec.Struct, frozen=True):
    """What stands behind a stop mark: nothing of a sentence's end, the end of one, or what only more text decides."""

    content_end: int
    """Where the sentence's last visible character is, if it ends here."""
    end: int
    """Where the next one begins, or the search for stops goes on."""
    kind: Literal["none", "end", "certain", "open"]
    """``certain``: whatever comes next."""
    breaks_line: bool = False


class SentenceSplitter:
    """Feed it text as it comes; it gives back each sentence as soon as it is certain to have ended.

    Time is linear in the text, however it is cut: what is certain to belong to a sentence is not looked at again.
    """

    def __init__(self) -> None:
        self._sentence: list[str] = []
        """The sentence so far, as far as it is certain, without the white space before it."""
        self._rest = ""
        """From a stop mark on of which nobody knows yet."""
        self._begins_line = True

    def feed(self, text: str) -> list[Cut]:
        if not self._rest and _STOP_MARK.search(text) is None:
            self._add(text)
            return []
        text, self._rest = self._rest + text, ""
        sentences, start, search = list[Cut](), 0, 0
        while (mark := _STOP_MARK.search(text, search)) is not None:
            stop = _behind(text, mark)
            if stop.kind == "open":
                self._rest = text[mark.start() :]
                break
            search = stop.end
            if stop.kind == "certain" or (stop.kind == "end" and not self._goes_on(text, start, stop)):
                sentences += self._ended(text[start : stop.end])
                self._begins_line = self._begins_line or stop.breaks_line
                start = stop.end
        self._add(text[start : len(text) - len(self._rest)])
        return sentences

    def flush(self) -> list[Cut]:
        """What is left when the text has ended."""
        rest, self._rest = self._rest, ""
        last = self._ended(rest)
        self._begins_line = True
        return last

    def _add(self, text: str) -> None:
        if text := text if self._sentence else text.lstrip():
            self._sentence.append(text)

    def _tail_with(self, text: str) -> str:
        """The last characters of the sentence when this is added."""
        tail = text if self._sentence else text.lstrip()
        for piece in reversed(self._sentence):
            if len(tail) >= TAIL_CHARACTERS:
                break
            tail = piece[-TAIL_CHARACTERS:] + tail
        return tail[-TAIL_CHARACTERS:]

    def _ended(self, last: str) -> list[Cut]:
        sentence, begins_line = "".join((*self._sentence, last)).strip(), self._begins_line
        self._sentence = []
        if not sentence:
            return []
        self._begins_line = False
        return [Cut(sentence, begins_line)]

    def _goes_on(self, text: str, start: int, stop: _Stop) -> bool:
        """Whether it is not the end of the sentence after all: an abbreviation, an ordinal, a list marker."""
        if text[stop.end].islower():
            return True
        near = max(start, stop.content_end - TAIL_CHARACTERS)
        added = text[near : stop.content_end]
        tail = self._tail_with(added) if near == start else added
        if not tail.endswith("."):
            return False
        is_abbreviation = _ABBREVIATION.search(tail, max(0, len(tail) - ABBREVIATION_LENGTH_MAX)) is not None
        return is_abbreviation or _LIST_MARKER.fullmatch(tail) is not None


def _behind(text: str, mark: re.Match[str]) -> _Stop:
    is_break, is_wide = mark.group() == "\n", mark.group() in _WIDE_STOPS
    limit = mark.end() + BEHIND_CHARACTERS_MAX
    found = (_BEHIND_LINE if is_break else _BEHIND_STOP).match(text, mark.end(), limit)
    assert found is not None  # it may be empty
    end = found.end("blank")
    if found.end() == len(text) < limit:
        return _Stop(end, end, "open")
    is_cut = found.end() == limit
    line_break = _LINE_BREAK.search(text, mark.start(), end)
    if not is_break and (found["blank"] or is_wide) and (is_cut or text[end] != "["):
        return _Stop(found.end("cited"), end, "certain" if line_break or is_cut else "end", line_break is not None)
    if line_break:
        return _Stop(line_break.start(), line_break.end(), "certain", breaks_line=True)
    return _Stop(end, end, "none")


def split_sentences(text: str) -> list[str]:
    splitter = SentenceSplitter()
    return [cut.text for cut in (*splitter.feed(text), *splitter.flush())]
