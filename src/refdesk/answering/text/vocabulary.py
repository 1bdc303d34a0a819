"""English words that checks of claims know: numbers, units, months, negation, and words that exclude each other.

Other languages are checked for numbers, identifiers and quotes alone; their words say nothing here, but for German numbers.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from refdesk.answering.text.sentences import STOP_WORDS

MONTH_NAMES = tuple("january february march april may june july august september october november december".split())
MONTHS = (
    {name: name for name in MONTH_NAMES}
    | {name[:3]: name for name in MONTH_NAMES if name != "may"}
    | {"sept": "september"}
)
_WEEKDAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
CALENDAR = MONTHS | {day: day for day in _WEEKDAYS} | {f"{day}s": day for day in _WEEKDAYS}

CURRENCIES = {"eur": "euro", "€": "euro", "usd": "dollar", "$": "dollar", "gbp": "pound", "£": "pound"}

_UNIT_SPELLINGS = {
    "second": "second seconds sec secs s",
    "minute": "minute minutes min mins",
    "hour": "hour hours hr hrs h",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years",
    "percent": "percent % pct",
    "euro": "eur € euro euros",
    "dollar": "usd $ dollar dollars",
    "pound": "gbp £ pounds",
    "cent": "cent cents",
    "kilometre per hour": "km/h kph kmh",
    "metre per hour": "m/h",
    "metre per second": "m/s",
    "mile per hour": "mph",
    "millimetre": "mm millimetre millimetres millimeter millimeters",
    "centimetre": "cm centimetre centimetres centimeter centimeters",
    "metre": "m metre metres meter meters",
    "kilometre": "km kilometre kilometres kilometer kilometers",
    "mile": "mile miles",
    "knot": "knot knots",
    "gram": "g gram grams",
    "kilogram": "kg kilogram kilograms kilo kilos",
    "tonne": "tonne tonnes ton tons",
    "litre": "litre litres liter liters",
    "kilobyte": "kb kilobyte kilobytes",
    "megabyte": "mb megabyte megabytes",
    "gigabyte": "gb gigabyte gigabytes",
    "terabyte": "tb terabyte terabytes",
    "degree": "° degree degrees",
    "watt": "w watt watts",
    "kilowatt": "kw kilowatt kilowatts",
    "millisecond": "ms millisecond milliseconds",
    "person": "person persons people",
}
UNITS = {spelling: unit for unit, spellings in _UNIT_SPELLINGS.items() for spelling in spellings.split()}
UNIT_ADJECTIVES = frozenset({"working", "calendar", "business", "consecutive", "full", "half"})
BASES = {
    "minute": (60, "second"),
    "hour": (3600, "second"),
    "day": (86400, "second"),
    "week": (604800, "second"),
    "year": (12, "month"),
    "millimetre": (0.001, "metre"),
    "centimetre": (0.01, "metre"),
    "kilometre": (1000, "metre"),
    "gram": (0.001, "kilogram"),
    "tonne": (1000, "kilogram"),
    "millisecond": (0.001, "second"),
}
MAGNITUDES = {"million": "million", "millions": "million", "billion": "billion", "billions": "billion"}
ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th"})

_FROM_ZERO = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen",
    "- - zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn "
    "neunzehn",
)
"""A dash for what is also an article, or a word of English."""
_TENS_FROM_TWENTY = (
    "twenty thirty forty fifty sixty seventy eighty ninety",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
)
_SMALL = {word: number for words in _FROM_ZERO for number, word in enumerate(words.split()) if word != "-"} | {
    word: 10 * number for words in _TENS_FROM_TWENTY for number, word in enumerate(words.split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000}
_NUMBER_WORDS = _SMALL.keys() | _SCALES.keys()

COMMON = frozenset(
    "the a an in on at for of to and or if when where who what how why which this that it we you they".split()
)
"""Words that headings and lists write large without their being names."""

_GERMAN = frozenset(
    """aber als am auf aus bei beim bis das dem den der des die durch ein eine einem einen einer eines für haben hat im ins ist
    kann kein keine mit muss nach nicht nur oder sich sie sind über um und unter vom von vor werden wird wir zu zum zur""".split()
)
"""What German sentences hardly do without, and English ones never have, but for parts of names."""

_NEGATORS = frozenset(
    """not no never none nobody nothing neither nor cannot can't don't doesn't didn't isn't aren't wasn't weren't won't
    shouldn't mustn't needn't hasn't haven't forbidden prohibited banned impossible refuse refused refuses""".split()
)
_COMPARATIVES = frozenset({"more", "longer", "later", "less", "fewer", "higher", "larger", "older"})
_BOUND_WITHIN = 5
"""How far behind a "not" its comparison may stand."""
_REVERSERS = frozenset({"without", "unless", "except"})

_PHRASES = {
    ("no", "more", "than"): "at_most",
    ("not", "more", "than"): "at_most",
    ("no", "longer", "than"): "at_most",
    ("not", "exceed"): "at_most",
    ("at", "most"): "at_most",
    ("up", "to"): "at_most",
    ("no", "less", "than"): "at_least",
    ("not", "less", "than"): "at_least",
    ("no", "fewer", "than"): "at_least",
    ("no", "later", "than"): "until",
    ("not", "later", "than"): "until",
    ("no", "earlier", "than"): "from",
    ("at", "least"): "at_least",
    ("not", "only"): "also",
    ("have", "to"): "must",
    ("has", "to"): "must",
    ("had", "to"): "must",
    ("need", "to"): "must",
    ("needs", "to"): "must",
    ("per", "cent"): "percent",
    ("without", "charge"): "free",
    ("free", "of", "charge"): "free",
    ("no", "charge"): "free",
    ("no", "cost"): "free",
    ("whether", "or", "not"): "whether",
}
_PHRASES_OF = {
    first: sorted((phrase for phrase in _PHRASES if phrase[0] == first), key=len, reverse=True)
    for first in {phrase[0] for phrase in _PHRASES}
}
"""By their first word, the longest first."""

_GROUPS: dict[str, dict[str, str]] = {
    "bound": {"least": "at_least minimum", "most": "at_most maximum"},
    "order": {"before": "before", "after": "after"},
    "side": {"above": "above over exceeding", "below": "below under"},
    "amount": {"more": "more", "less": "less fewer"},
    "earliness": {"earlier": "earlier", "later": "later"},
    "change": {
        "up": "increase increases increased raise raised raises rises rise",
        "down": "decrease decreases decreased reduce reduced reduces falls lowered",
    },
    "end": {"first": "first", "last": "last"},
    "access": {"open": "open opens opened", "closed": "closed close closes"},
    "extent": {"included": "include includes included including", "excluded": "exclude excludes excluded excluding"},
    "place": {"inside": "inside internal", "outside": "outside external"},
    "duty": {
        "must": "must required requires obliged compulsory mandatory shall",
        "may": "may optional optionally voluntary might",
    },
    "frequency": {
        "hourly": "hourly",
        "daily": "daily",
        "weekly": "weekly",
        "fortnightly": "fortnightly",
        "monthly": "monthly",
        "quarterly": "quarterly",
        "yearly": "yearly annually",
    },
    "certainty": {"always": "always", "sometimes": "sometimes usually", "rarely": "rarely seldom"},
    "verdict": {
        "accepted": "accept accepted accepts approve approved approves",
        "rejected": "reject rejected rejects decline declined declines",
    },
    "height": {"high": "higher highest", "low": "lower lowest"},
    "length": {"long": "longer longest", "short": "shorter shortest"},
    "start": {"begins": "begin begins began start starts started", "ends": "end ends ended finish finishes finished"},
    "movement": {"arrival": "arrive arrives arrival", "departure": "depart departs departure leave leaves"},
    "oldness": {"old": "oldest older", "new": "newest newer youngest"},
    "visibility": {"public": "public publicly", "private": "private privately"},
}
_DIRECTIONS = {
    word: (group, member)
    for group, members in _GROUPS.items()
    for member, words in members.items()
    for word in words.split()
}


def goes_on(words: Sequence[str], following: str) -> bool:
    """Whether a number in words goes on with this one: ``twenty five`` is one number, ``one one`` are two."""
    if not is_number_word(following):
        return False
    last, first = (words[-1] if words else ""), following.split("-")[0]
    return not last or last in _SCALES or first in _SCALES or (_SMALL[last] >= 20 and 0 < _SMALL[first] < 10)


def is_number_word(word: str) -> bool:
    """Whether it can be part of a number in words: ``twenty``, ``twenty-five``, ``hundred``."""
    return word in _SMALL or word in _SCALES or ("-" in word and all(map(is_number_word, word.split("-"))))


def begins_number(word: str) -> bool:
    """Whether it is a number in words or one with something behind it: ``two``, ``two-day``."""
    return word.partition("-")[0] in _NUMBER_WORDS


def is_german(words: Collection[str]) -> bool:
    """Whether these words, in folded case, are a German sentence's: more of them are common in German than in English."""
    return len(_GERMAN.intersection(words)) > len(STOP_WORDS.intersection(words) - _GERMAN)


def number_of(words: Sequence[str]) -> str:
    """``["two", "hundred", "five"]`` as ``205``; empty when the words make no number."""
    total = current = 0
    for word in words:
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(1, current) * _SCALES[word]
        elif word == "thousand":
            total, current = total + max(1, current) * _SCALES[word], 0
        else:
            return ""
    return str(total + current) if words else ""


def fold_phrases(words: Iterable[str]) -> list[str]:
    """The words with phrases of several put together: ``no more than`` is one direction, not a negation."""
    folded, rest = [], [word.replace("’", "'") for word in words]
    position = 0
    while position < len(rest):
        phrase, length = _phrase(rest, position)
        folded.append(phrase)
        position += length
    return folded


def _phrase(words: Sequence[str], position: int) -> tuple[str, int]:
    for phrase in _PHRASES_OF.get(words[position], ()):
        if tuple(words[position : position + len(phrase)]) == phrase:
            return _PHRASES[phrase], len(phrase)
    if words[position] == "not" and _is_bound(words[position + 1 : position + 1 + _BOUND_WITHIN]):
        return "at_most", 1
    return words[position], 1


def _is_bound(following: Sequence[str]) -> bool:
    """``must not live longer than`` bounds; it does not deny."""
    return any(word in _COMPARATIVES and after == "than" for word, after in pairwise(following))


def negations(folded: Sequence[str]) -> int:
    return sum(word in _NEGATORS for word in folded)


def negated(folded: Sequence[str]) -> bool | None:
    """Whether the sentence denies; None for ``not … without``, which affirms by denying twice."""
    denies = any(word in _NEGATORS for word in folded)
    return None if denies and any(word in _REVERSERS for word in folded) else denies


def directions(folded: Iterable[str]) -> Iterator[tuple[str, str]]:
    for word in folded:
        if word in _DIRECTIONS:
            yield _DIRECTIONS[word]
