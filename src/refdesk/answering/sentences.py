"""Whole sentences out of a stream of text, and the words they consist of.

A sentence ends at its stop (``.``, ``!``, ``?``, ``…``) followed by white space and something that is not a citation, or at
a line break; citations right behind the stop (``… 27 days. [1]``) belong to the sentence before them.
"""

import re
from functools import lru_cache

import msgspec

_STOP = re.compile(r"""[.!?…]+["'”’)\]]*(?:\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\])*\s+(?=[^\s\[])|\s*\n+\s*""")
_STOP_MARK = re.compile(r"[.!?…\n]")
"""Without one there is no stop: most deltas need no closer look."""
_TAIL = re.compile(r"""(?:[.!?…]+["'”’)\]]*)?(?P<open>(?:\s|\[[\d,\s]*(?:\]|$))*)$""")
"""A stop that may be coming, and behind it white space, citations and what may become one (``open``): until more has come,
nobody knows which sentence they belong to."""
CITATION = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|cf|vs|approx|incl|no|nos|fig|dr|mr|mrs|ms|prof|st|inc|ltd|co|dept|ext|p|pp|[a-z])\.$",
    re.IGNORECASE,
)
ABBREVIATION_LENGTH_MAX = len(" approx.")
"""The longest of them with what stands before it."""
_WORDS = re.compile(CITATION.pattern + r"|(\d+(?:[.,:]\d+)*)|([^\W\d_]{3,})")
"""A citation, a number or a word."""
_LIST_MARKER = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s*")

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
    """What a text consists of: stems of the words that carry meaning, and numbers, each once. Citations are neither."""

    stems: set[str]
    numbers: set[str]

    @classmethod
    def of(cls, text: str) -> "Words":
        stems, numbers = set[str](), set[str]()
        for _, number, word in _WORDS.findall(text):
            if word:
                stems.add(stem(word))
            elif number:
                numbers.add(number.replace(",", ""))
        stems.discard("")
        return cls(stems, numbers)

    @property
    def content(self) -> set[str]:
        """Stems and numbers."""
        return self.stems | self.numbers


def citations(text: str) -> tuple[int, ...]:
    """The numbers a text cites, in order of appearance, each once."""
    return tuple(dict.fromkeys(int(n) for cited in CITATION.findall(text) for n in cited.split(",")))


def without_citations(text: str) -> str:
    return re.sub(r"\s+([.,;:!?])", r"\1", CITATION.sub("", text)).strip()


class Cut(msgspec.Struct, frozen=True):
    """A sentence, and whether it is the first on its line."""

    text: str
    begins_line: bool = True


class SentenceSplitter:
    """Feed it text as it comes; it gives back each sentence as soon as it is certain to have ended."""

    def __init__(self) -> None:
        self._rest = ""
        self._begins_line = True
        self._decided = 0
        """Nothing ends before this place in the rest."""
        self._may_end = False
        """Whether there is a stop mark behind it."""

    def feed(self, text: str) -> list[Cut]:
        before, self._rest = len(self._rest), self._rest + text
        if not self._may_end:
            mark = _STOP_MARK.search(text)
            if mark is None:
                return []
            if mark.group() != "\n":  # a line break may belong to what stands before it
                self._decided = before + mark.start()
        return self._ended()

    def flush(self) -> list[Cut]:
        """What is left when the text has ended."""
        rest, begins_line = self._rest.strip(), self._begins_line
        self._rest, self._decided, self._may_end, self._begins_line = "", 0, False, True
        return [Cut(rest, begins_line)] if rest else []

    def _ended(self) -> list[Cut]:
        sentences, start, search = list[Cut](), 0, self._decided
        tail = _TAIL.search(self._rest, search)
        assert tail is not None  # every text has an end
        while (stop := _STOP.search(self._rest, search, tail.start("open"))) is not None:
            search = stop.end()
            candidate = self._rest[start : stop.end()]
            if "\n" not in stop.group() and _goes_on(candidate, self._rest[stop.end()]):
                continue
            if candidate.strip():
                sentences.append(Cut(candidate.strip(), self._begins_line))
                self._begins_line = False
            self._begins_line = self._begins_line or "\n" in stop.group()
            start = stop.end()
        self._rest, self._decided = self._rest[start:], max(search, tail.start()) - start
        self._may_end = _STOP_MARK.search(self._rest, self._decided) is not None
        return sentences


def _goes_on(candidate: str, following: str) -> bool:
    """Whether the stop at the candidate's end is not the end of a sentence: an abbreviation, an ordinal, a list marker."""
    text = candidate.rstrip()
    if not text.endswith("."):
        return following.islower()
    return (
        following.islower()
        or _ABBREVIATION.search(text, max(0, len(text) - ABBREVIATION_LENGTH_MAX)) is not None
        or _LIST_MARKER.fullmatch(text) is not None
    )


def split_sentences(text: str) -> list[str]:
    splitter = SentenceSplitter()
    return [cut.text for cut in (*splitter.feed(text), *splitter.flush())]
