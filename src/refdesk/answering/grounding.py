"""Whole sentences out of a stream of text, and whether each stands on the passages it cites.

A sentence ends at its stop (``.``, ``!``, ``?``, ``…``) followed by white space and something that is not a citation, or at
a line break; citations right behind the stop (``… 27 days. [1]``) belong to the sentence before them. A sentence without a
citation is given the source that supports it best, if one does.

*Supported* means: every number of the sentence, and most of its content words, stand in the cited passages. That catches
invented figures and drift, not every wrong inference.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from refdesk.contracts.answers import Sentence, Source

SUPPORT_SHARE_MIN = 0.6
"""Share of a sentence's content words that must stand in the cited passages."""

_STOP = re.compile(r"""[.!?…]+["'”’)\]]*(?:\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\])*\s+(?=[^\s\[])|\s*\n+\s*""")
_STOP_MARK = re.compile(r"[.!?…\n]")
"""Without one there is no stop: most deltas need no closer look."""
_OPEN_END = re.compile(r"(?:\s|\[[\d,\s]*(?:\]|$))*$")
"""White space, citations and what may become one: until more has come, nobody knows which sentence they belong to."""
_CITATION = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|cf|vs|approx|incl|no|nos|fig|dr|mr|mrs|ms|prof|st|inc|ltd|co|dept|ext|p|pp|[a-z])\.$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]{3,}")
_LIST_MARKER = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s*")

WORDS_REMEMBERED = 16_384
"""Whose stem is not looked for again: a few thousand words come back all the time. One or two megabytes."""

GROUNDS_REMEMBERED = 256
"""Sources whose words are not looked for again: the same passages answer many questions. Some 10 kB each."""

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
    """A rough English stem: enough to match ``renewing`` with ``renewed``. Retrieval uses PostgreSQL's real stemmer."""
    word = word.lower()
    for suffix in ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ied", "ers", "es", "ed", "er", "ly", "s"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word.removesuffix("e") if len(word) > 4 else word


def content_words(text: str) -> set[str]:
    """Stems of the words that carry meaning, and every number as it stands."""
    return stems(text) | numbers(text)


def stems(text: str) -> set[str]:
    """Stems of the words that carry meaning."""
    return {stem(word) for word in _WORD.findall(text) if word.lower() not in STOP_WORDS}


def numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(_CITATION.sub(" ", text))}


def citations(text: str) -> tuple[int, ...]:
    """The cited numbers in order of appearance, each once."""
    found = (int(n) for group in _CITATION.findall(text) for n in group.split(","))
    return tuple(dict.fromkeys(found))


def without_citations(text: str) -> str:
    return re.sub(r"\s+([.,;:!?])", r"\1", _CITATION.sub("", text)).strip()


class SentenceSplitter:
    """Feed it text as it comes; it gives back each sentence as soon as it is certain to have ended."""

    def __init__(self) -> None:
        self._rest = ""
        self._may_stop = False
        """Whether there is a stop mark in the rest."""

    def feed(self, text: str) -> list[str]:
        self._rest += text
        self._may_stop = self._may_stop or _STOP_MARK.search(text) is not None
        if not self._may_stop:
            return []
        sentences, start, search = [], 0, 0
        decided = _OPEN_END.search(self._rest)
        while (stop := _STOP.search(self._rest, search, decided.start() if decided else len(self._rest))) is not None:
            search = stop.end()
            candidate = self._rest[start : stop.end()]
            if "\n" not in stop.group() and _goes_on(candidate, self._rest[stop.end()]):
                continue
            if candidate.strip():
                sentences.append(candidate.strip())
            start = stop.end()
        if start:
            self._rest = self._rest[start:]
            self._may_stop = _STOP_MARK.search(self._rest) is not None
        return sentences

    def flush(self) -> list[str]:
        """What is left when the text has ended."""
        rest, self._rest, self._may_stop = self._rest.strip(), "", False
        return [rest] if rest else []


def _goes_on(candidate: str, following: str) -> bool:
    """Whether the stop at the candidate's end is not the end of a sentence: an abbreviation, an ordinal, a list marker."""
    text = candidate.rstrip()
    if not text.endswith("."):
        return following.islower()
    return following.islower() or bool(_ABBREVIATION.search(text)) or bool(_LIST_MARKER.fullmatch(text))


def split_sentences(text: str) -> list[str]:
    splitter = SentenceSplitter()
    return [*splitter.feed(text), *splitter.flush()]


class _Words(msgspec.Struct, frozen=True):
    """What of a text can be looked up: stems of the words that carry meaning, and numbers."""

    stems: set[str]
    numbers: set[str]

    @classmethod
    def of(cls, text: str) -> "_Words":
        return cls(stems(text), numbers(text))

    @property
    def empty(self) -> bool:
        return not (self.stems or self.numbers)

    def common(self, other: "_Words") -> int:
        """How many stems and numbers both have."""
        return len(self.stems & other.stems) + len(self.numbers & other.numbers)


@lru_cache(maxsize=GROUNDS_REMEMBERED)
def _ground(text: str) -> _Words:
    return _Words.of(text)


class Grounding:
    """Checks sentences against the sources of one answer."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = {source.n: source for source in sources}
        self._grounds: dict[int, _Words] = {}
        """Made when a source is first looked at: most answers cite one or two of theirs."""

    def check(self, text: str) -> Sentence:
        """The sentence as an event. Citations of sources that do not exist are not counted."""
        words, cited = _Words.of(text), tuple(n for n in citations(text) if n in self._sources)
        if not cited:
            best = self._best(words)
            return Sentence(text=text, citations=best, supported=bool(best))
        return Sentence(text=text, citations=cited, supported=self._supports(words, cited))

    def _supports(self, words: _Words, cited: Sequence[int]) -> bool:
        grounds = [self._ground(n) for n in cited]
        if words.numbers.difference(*(ground.numbers for ground in grounds)):
            return False
        unknown = words.stems.difference(*(ground.stems for ground in grounds))
        known = len(words.stems) - len(unknown)
        return not words.stems or known / len(words.stems) >= SUPPORT_SHARE_MIN

    def _best(self, words: _Words) -> tuple[int, ...]:
        ranked = sorted(self._sources, key=lambda n: (-words.common(self._ground(n)), n))
        return next(((n,) for n in ranked if not words.empty and self._supports(words, (n,))), ())

    def _ground(self, n: int) -> _Words:
        if n not in self._grounds:
            source = self._sources[n]
            self._grounds[n] = _ground(f"{source.title} {source.heading or ''} {source.passage}")
        return self._grounds[n]
