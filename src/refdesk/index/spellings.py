"""Further spellings of a text, for the keyword arm: so that what people write in two ways is found in either.

    KRN-8359, KRN 8359, krn_8359   ──▶ krn8359, krn, 8359        an identifier, whole and in parts
    8,359  ·  v2.4.1  ·  getUser   ──▶ 8359  ·  2.4.1 …  ·  get, user
    30 November 2026, 30.11.2026   ──▶ 20261130
    IT, WHO                        ──▶ x0it, x0who               an acronym that is a stop word when it is not in capitals
    Müller  ·  e-mail  ·  U.S.     ──▶ muller, mueller  ·  email  ·  x0us
    DE89 3704 0044 …, +49 30 9018  ──▶ de8937040044…, 49309018   what is written in groups
    M8 x 40, M8×40                 ──▶ m8x40
    Rechnungen                      ──▶ rechnung              the stem in a language that is not English (`stems`)
    人工知能                        ──▶ x4eba5de5, x5de577e5, …  each pair of characters of a script without spaces

PostgreSQL's parser reads `-8359` as a negative number, `11-30` as two, and a run of Chinese characters as one word. What is
added here stands beside its own terms, for documents and questions alike, in a form that any parser leaves whole: letters and
digits of ASCII.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from refdesk.contracts.scripts import UNSPACED
from refdesk.index.stems import stems

SPELLINGS_MAX = 4_000
"""Of one chunk or question: far more than an ordinary chunk has."""
STOP_WORDS = frozenset(
    "a am an and any are as at be by can do for had has he her him his how i if in is it its me my no nor not now of off on "
    "or our out own s she so t than the them then to too up us was we who why will with you".split()
)
"""The short ones of PostgreSQL's English list (english.stop)."""

_IDENTIFIER = re.compile(
    r"[A-Za-z][a-z]{0,39}+(?![A-Za-z0-9]|[-_./:#][A-Za-z0-9])"  # a plain word, as nearly all are: passed over
    r"|([A-Za-z0-9]{1,40}(?:[-_./:#][A-Za-z0-9]{1,40}){0,8})"
)
_PART = re.compile(r"\d+|[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[A-Z]")
_FIGURE = re.compile(r"\d")
_LETTER_AND_FIGURE = re.compile(r"[A-Z] \d")
_MARKED_LETTER = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_FOUR_FIGURES = re.compile(r"\d{4}")
_MARK_AND_FIGURES = re.compile(r"\d[,.'\u2019\u00a0\u202f]\d{3}")
_GAP_AND_FIGURE = re.compile(r"\d[ /-][A-Z]{0,3}\d")
_TIMES_FIGURE = re.compile(r"\d ?[x\u00d7] ?\d")
_APART = re.compile(r"\b([A-Z]{1,6}) (\d{1,8})\b")
_GROUPS = re.compile(r"\b[A-Z]{0,3}\d{2,}(?:[ /-][A-Z]{0,3}\d{2,}){1,9}\b")
"""Account, card and telephone numbers, as people write them down."""
_GROUPED_CHARACTERS_MIN = 7
_SIGNED = re.compile(r"\+(\d{5,20})\b")
_TIMES = re.compile(r"\b([A-Z]?\d{1,5})(?: ?[x\u00d7] ?(\d{1,5}))(?: ?[x\u00d7] ?(\d{1,5}))?\b")
_HYPHENATED = re.compile(r"(?<![\w-])([A-Za-z]{1,20})-([A-Za-z]{1,20})(?![\w-])")
_TWO_DOTTED = re.compile(r"[A-Z]\.[A-Z]\.")
_DOTTED = re.compile(r"\b(?:[A-Z]\.){2,6}")
_THOUSANDS = re.compile(r"(?<![\d.,'])\d{1,3}(?:[,.'\u2019\u00a0\u202f]\d{3}){1,4}(?![\d,'])")
_ACRONYM = re.compile(r"[A-Z](?<=\b.)[A-Z]{0,4}\b")  # a pattern that begins with a letter is looked for quickly
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DATE = re.compile(
    r"\b(?P<iso>\d{4})[-/.](?P<iso_month>\d{1,2})[-/.](?P<iso_day>\d{1,2})\b"
    r"|\b(?P<first>\d{1,2})[-/.](?P<second>\d{1,2})[-/.](?P<year>\d{4})\b"
    r"|\b(?P<day>\d{1,2})(?:st|nd|rd|th|\.)? (?P<month>[A-Z][a-z]{2,8})\.?,? (?P<year_after>\d{4})\b"
    r"|\b(?P<month_first>[A-Z][a-z]{2,8})\.? (?P<day_after>\d{1,2})(?:st|nd|rd|th)?,? (?P<last>\d{4})\b"
)
_WORD_WITH_MARKS = re.compile(r"\b\w*[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]\w*\b")
_LETTERS_FOR_MARKS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"})
"""What people write where a keyboard has not the letter."""


def spellings(text: str) -> str:
    """The further spellings of all that a text names, apart by spaces; "" where it has none."""
    found: dict[str, None] = {}
    for spelling in _all(text):
        found[spelling] = None
        if len(found) >= SPELLINGS_MAX:
            break
    return " ".join(found)


def _all(text: str) -> Iterator[str]:
    yield from _of_identifiers(text)
    if _FIGURE.search(text):
        yield from _of_figures(text)
    yield from _of_words(text)
    for run in UNSPACED.finditer(text):
        yield from _pairs(run[0])
    yield from stems(text)


def _of_figures(text: str) -> Iterator[str]:
    """Of what has figures. Each pattern is tried only where a simpler one, which is quick, says that it may be there."""
    if _FOUR_FIGURES.search(text):
        yield from _of_dates(text)
    if _MARK_AND_FIGURES.search(text):
        for number in _THOUSANDS.finditer(text):
            yield _plain(number[0])
    if _GAP_AND_FIGURE.search(text):
        for groups in _GROUPS.finditer(text):
            if len(joined := _plain(groups[0])) >= _GROUPED_CHARACTERS_MIN:
                yield joined
    for number in _SIGNED.finditer(text):
        yield number[1]
    if _TIMES_FIGURE.search(text):
        for times in _TIMES.finditer(text):
            yield "x".join(part.lower() for part in times.groups() if part)


def _of_words(text: str) -> Iterator[str]:
    """Of acronyms, compounds and words with marks."""
    for dotted in _DOTTED.finditer(text) if _TWO_DOTTED.search(text) else ():
        acronym = _plain(dotted[0])
        yield f"x0{acronym}" if acronym in STOP_WORDS else acronym
    for capitals in _ACRONYM.finditer(text):
        if capitals[0].lower() in STOP_WORDS and not _shouts(text, capitals.start(), capitals.end()):
            yield f"x0{capitals[0].lower()}"
    for word in text.split() if "-" in text else ():
        for compound in _HYPHENATED.finditer(word) if "-" in word else ():
            yield _plain(compound[0])
    for marked in _WORD_WITH_MARKS.finditer(text) if _MARKED_LETTER.search(text) else ():
        for folded in (marked[0].casefold(), marked[0].casefold().translate(_LETTERS_FOR_MARKS)):
            if plain := _plain(unicodedata.normalize("NFKD", folded)):
                yield plain


def _plain(text: str) -> str:
    """Its letters and digits of ASCII, small."""
    return "".join(character for character in text.lower() if character.isascii() and character.isalnum())


def _of_identifiers(text: str) -> Iterator[str]:
    for word in filter(None, _IDENTIFIER.findall(text)):
        if word.isalpha() and word[1:].islower():  # a piece of an overlong one
            continue
        parts = _PART.findall(word)
        has_digit, is_number = any(part.isdigit() for part in parts), all(part.isdigit() for part in parts)
        if len(parts) < 2 or not (has_digit or _is_name_of_code(word)):
            continue
        if parts[0] in "vV" and len(parts) > 2 and all(part.isdigit() for part in parts[1:]):
            parts, is_number = parts[1:], True
        if is_number:
            yield ".".join(parts)
        elif not word.isalnum():  # else the parser has it
            yield "".join(parts).lower()
        yield from (part.lower() for part in parts if len(part) > 1)
    if _LETTER_AND_FIGURE.search(text):
        for match in _APART.finditer(text):
            yield f"{match[1]}{match[2]}".lower()


def _is_name_of_code(word: str) -> bool:
    """get_user, getUser, user.session; no acronym such as U.S."""
    dotted = word.split(".")
    is_camel = any(a.islower() and b.isupper() for a, b in pairwise(word))
    return is_camel or "_" in word or (len(dotted) > 1 and all(len(part) > 1 for part in dotted))


def _of_dates(text: str) -> Iterator[str]:
    """A date as eight digits; both readings of one that has two."""
    for match in _DATE.finditer(text):
        part = match.groupdict()
        if part["iso"]:
            yield from _date(part["iso"], part["iso_month"], part["iso_day"])
        elif part["year"]:
            yield from _date(part["year"], part["second"], part["first"])
            yield from _date(part["year"], part["first"], part["second"])
        else:
            month = (part["month"] or part["month_first"])[:3].lower()
            if month in _MONTHS:
                year, day = part["year_after"] or part["last"], part["day"] or part["day_after"]
                yield from _date(year, str(_MONTHS.index(month) + 1), day)


def _date(year: str, month: str, day: str) -> Iterator[str]:
    if 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
        yield f"{year}{int(month):02}{int(day):02}"


def _shouts(text: str, start: int, end: int) -> bool:
    """Whether the words beside it are in capitals, too: then it is no acronym but a heading."""
    around = (text[max(0, start - 12) : start].split()[-1:], text[end : end + 12].split()[:1])
    beside = [word[0] for word in around if word and len(word[0]) > 1]
    return bool(beside) and all(word.isupper() for word in beside)


def _pairs(run: str) -> Iterator[str]:
    """Each two neighbours, and each Chinese character: it may be a word."""
    for place, character in enumerate(run):
        if "\u4e00" <= character <= "\u9fff":
            yield f"x{ord(character):x}"
        if place:
            yield f"x{ord(run[place - 1]):x}{ord(character):x}"
