"""What kind of answer a question wants, as far as its words tell."""

import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from refdesk.answering.follow_ups import FollowUp
from refdesk.answering.text.sentences import Words, stem
from refdesk.index.identifiers import identifiers

TERM_CHARACTERS_MAX = 60
NAMES_MAX = 12
"""Of one question: each is looked for in every passage."""

_NUMBER_ASKED = re.compile(
    r"\b(?:how (?:many|much|long|far|early|late|often|old|large|big|high|fast|quickly|soon|heavy)"
    r"|what time|which (?:day|month|year|date|weekday)|(?:limit|maximum|minimum|deadline|percentage|price|cost|fare|number))\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\bhow (?:many|much) (?P<what>[^\W\d_]+(?: [^\W\d_]+){0,5}?)"
    r" (?:do|does|did|is|are|was|were|am|can|could|may|must|should|will|would|has|have|had|per|in|at|on|for|a|an|the|i)\b",
    re.IGNORECASE,
)
_DATE_ASKED = re.compile(
    r"(?:(?:\A|[.!?;:])\W{0,3}(?:(?:and|but|so) )?|\b(?:by|from|since|till|until|know|tell me) )when\b"
    r"|\b(?:which|what) (?:day|month|date|weekday)s?\b",
    re.IGNORECASE,
)
"""Where "when" asks; in "Where do we meet when it rains?" it does not."""
_ONE_ASKED = re.compile(
    r"\s*+(?:who|whom|whose|where|when|how (?:many|much|long|far|often|old)|(?:(?:on|in|at|by|until|from|to|above|below|up to) )?"
    r"(?:which|what) (?:day|month|year|date|weekday|time|sum|number|place|room|floor)s?)\b",
    re.IGNORECASE,
)
_STEPS_ASKED = re.compile(
    r"(?:.*[.,;!?]\s+)?(?:how (?:do|does|did|can|could|should|would|must|to|is|are)\b"
    r"|what (?:do|should|must|can) (?:i|we|you|one) do\b|what (?:has|have) to\b|what does .* have to\b"
    r"|(?:steps|procedure|instructions|guide)\b)",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"\b(?:differences?|differ|compare|compared|versus|vs)\b", re.IGNORECASE)
_WHICH = re.compile(r"\s*+(?:which|who|what)\b", re.IGNORECASE)
_COMPARATIVE = re.compile(r"\b\w+er\b", re.IGNORECASE)
_TERM_ASKED = re.compile(
    r"\s*+what(?:'s| is| are| does| do)(?: an?| the)?(?: words?| terms?| abbreviation)? (?P<term>.+)", re.IGNORECASE
)
_TERM_ENDS = ("?", " mean", " stand for")
_ENDING_S = re.compile(r"['’]?s\Z")
_NAME = re.compile(r"(?<=[^.?!]\s)[A-Z][\w’'-]*(?:\s[A-Z0-9][\w’'-]*){0,7}")
_FIRST_PERSON = "i"


class Name(msgspec.Struct, frozen=True):
    """Something that the question names: capitalised words inside its sentence, or an identifier, however it is set apart."""

    text: str
    pattern: re.Pattern[str]
    is_identifier: bool = False

    def stands_in(self, text: str) -> bool:
        return self.pattern.search(text) is not None

    def is_named_in(self, text: str) -> bool:
        """The same, written as a name is: the Day pass is not 30 minutes a day."""
        found = self.pattern.search(text)
        return found is not None and (self.is_identifier or found.group()[0].isupper())


class Wanted(msgspec.Struct, frozen=True):
    """Of one question."""

    words: set[str]
    """Those that carry meaning."""
    names: tuple[Name, ...]
    term: str
    """What is to be explained, folded; empty when nothing is."""
    number: bool
    counted: tuple[str, ...]
    """What is to be counted, as stems, in the question's order: ("day", "leave")."""
    date: bool
    one: bool
    """One thing is asked for: a person, a place, a time, a measure."""
    steps: bool
    compared: bool
    now: set[str]
    """The words that a follow-up does not share with what it leans on."""
    said: str
    """The answer before."""

    @classmethod
    def of(cls, question: str, follow_up: FollowUp | None = None) -> "Wanted":
        date = _DATE_ASKED.search(question) is not None
        return cls(
            words=Words.of(question).content,
            names=tuple(islice(_names(question), NAMES_MAX)),
            term=_term(question),
            number=date or _NUMBER_ASKED.search(question) is not None,
            counted=_counted(question),
            date=date,
            one=_ONE_ASKED.match(question) is not None,
            steps=_STEPS_ASKED.match(question) is not None,
            compared=_compares(question),
            now=set() if follow_up is None else Words.of(follow_up.question).content,
            said="" if follow_up is None else follow_up.said,
        )

    def found_in(self, text: str) -> set[str]:
        """Which of the question's words and identifiers the text has."""
        identifiers = {name.text for name in self.names if name.is_identifier and name.stands_in(text)}
        return Words.of(text).content & self.words | identifiers

    def names_missing_in(self, text: str) -> float:
        """The share of its names that the text does not have: 0 to 1."""
        return sum(not name.stands_in(text) for name in self.names) / max(1, len(self.names))


def _compares(question: str) -> bool:
    """Whether it asks for a difference, or which of two is bigger."""
    comparative = _COMPARATIVE.search(question) if _WHICH.match(question) else None
    return _COMPARED.search(question) is not None or (
        comparative is not None and " or " in question[comparative.end() :]
    )


def _counted(question: str) -> tuple[str, ...]:
    asked = _COUNTED.search(question)
    return tuple(filter(None, map(stem, asked["what"].split()))) if asked else ()


def _names(question: str) -> Iterator[Name]:
    """A number alone is one of its words."""
    found = [one for one in identifiers(question) if any(map(str.isalpha, one.text))]
    for one in found:
        yield Name(one.text.casefold(), one.pattern, is_identifier=True)
    for name in dict.fromkeys(_NAME.findall(question)):
        if name.casefold() != _FIRST_PERSON and not any(one.text in name or name in one.text for one in found):
            yield Name(name.casefold(), _inflected(name))


def _inflected(name: str) -> re.Pattern[str]:
    """The name, each of its words as a plural or a possessive, too."""
    words = r"\W+".join(f"{re.escape(_bare(word))}(?:['’]?s)?" for word in name.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _bare(word: str) -> str:
    """Without what makes a plural or a possessive of it."""
    bare = _ENDING_S.sub("", word)
    return bare if len(bare) > 2 else word


def _term(question: str) -> str:
    asked = _TERM_ASKED.match(question)
    term = asked["term"].casefold().rstrip() if asked else ""
    for end in _TERM_ENDS:
        term = term.removesuffix(end).rstrip()
    return term if len(term) <= TERM_CHARACTERS_MAX else ""
