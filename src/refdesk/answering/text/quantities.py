"""Numbers with their units, dates, months and weekdays, as a text writes them, in their plainest form.

"1,200 EUR" · "twenty-five days" · "2024-03-31"   ──▶   1200 euro · 25 day · 31 march, 2024
"""

import re
from functools import lru_cache

import msgspec

from refdesk.answering.text import vocabulary

TOKENS_REMEMBERED = 4096
"""Of which it is not asked again what they are."""
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_GLUED = re.compile(r"(\d+(?:[.,]\d+)*)-?([a-z]+)")
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_DOTTED_DATE = re.compile(r"(\d{1,2})[./](\d{1,2})[./](\d{4})")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


class Quantity(msgspec.Struct, frozen=True):
    """A number in its plainest form (``1200``) and the unit it counts in; empty where it has none."""

    value: str
    unit: str = ""

    def agrees(self, other: "Quantity") -> bool:
        """Equal, as far as both say: a number without a unit agrees with the same number in any; 2 weeks are 14 days."""
        if self.value == other.value:
            return self.unit == other.unit or not self.unit or not other.unit
        return bool(self.unit and other.unit) and self._based() == other._based()

    def _based(self) -> tuple[float, str]:
        factor, base = vocabulary.BASES.get(self.unit, (1, self.unit))
        return (float(self.value) * factor if self.value.replace(".", "", 1).isdigit() else 0.0), base


def measures(tokens: list[str], folded: list[str]) -> tuple[set[Quantity], set[str]]:
    """Quantities, and months and weekdays. ``folded`` are the tokens in folded case."""
    quantities = set[Quantity]()
    calendar = {
        vocabulary.CALENDAR[word]
        for word, token in zip(folded, tokens, strict=True)
        if word in vocabulary.CALENDAR and token[0].isupper()
    }
    read_to = 0
    for position in [place for place, word in enumerate(folded) if _begins_quantity(word)]:
        if position < read_to:
            continue
        if date := _date(folded[position]):
            day, month, year = date
            quantities |= {Quantity(day, month), Quantity(year)}
            calendar.add(month)
        else:
            quantity, length = _quantity(folded, position)
            if quantity is not None:
                quantities.add(quantity)
            read_to = position + length
    return quantities, calendar


@lru_cache(maxsize=TOKENS_REMEMBERED)
def _begins_quantity(word: str) -> bool:
    return word[0].isdigit() or vocabulary.begins_number(word)


def _quantity(folded: list[str], position: int) -> tuple[Quantity | None, int]:
    """The quantity that begins here, if any, and how many tokens it takes."""
    value, glued, length = _value(folded, position)
    if not value:
        return None, length
    unit, unit_length = (glued, 0) if glued else _unit(folded, position, length)
    is_article = value == "1" and not unit and not folded[position][0].isdigit()  # "one of them"
    return None if is_article else Quantity(value, unit), length + unit_length


def _value(folded: list[str], position: int) -> tuple[str, str, int]:
    """The number that begins here, the unit written together with it, and how many tokens it takes; empty when none does."""
    token = folded[position]
    if _NUMBER.fullmatch(token):
        return _plain_number(token), "", 1
    if glued := _GLUED.fullmatch(token):
        unit = vocabulary.UNITS.get(glued[2], "")
        if unit or glued[2] in vocabulary.ORDINAL_ENDINGS:
            return _plain_number(glued[1]), unit, 1
        return "", "", 0
    if "-" in token:
        first, _, unit_name = token.rpartition("-")
        value, unit = vocabulary.number_of(first.split("-")), vocabulary.UNITS.get(unit_name, "")
        if value and unit:
            return value, unit, 1
    return _number_words(folded, position)


def _number_words(folded: list[str], position: int) -> tuple[str, str, int]:
    words: list[str] = []
    end = position
    while end < len(folded) and vocabulary.goes_on(words, folded[end]):
        words += folded[end].split("-")
        end += 1
    value = vocabulary.number_of(words) if words else ""
    return value, "", end - position if value else 0


def _unit(folded: list[str], position: int, length: int) -> tuple[str, int]:
    """The unit before (a currency) or behind a number, and how many tokens behind it belong to it."""
    if position and (unit := vocabulary.CURRENCIES.get(folded[position - 1])):
        return unit, 0
    following = folded[position + length : position + length + 3]
    if following and (magnitude := vocabulary.MAGNITUDES.get(following[0])):
        return magnitude, 1
    for skipped in range(min(2, len(following))):
        if skipped and following[skipped - 1] not in vocabulary.UNIT_ADJECTIVES:
            break
        unit = vocabulary.UNITS.get(following[skipped]) or vocabulary.MONTHS.get(following[skipped])
        if unit:
            return " ".join([*following[:skipped], unit]), skipped + 1
    if position and (month := vocabulary.MONTHS.get(folded[position - 1])) and length == 1:
        return month, 0
    return "", 0


def _plain_number(text: str) -> str:
    """Without separators of thousands and idle zeros; what is no plain number (``14:30``) stays as it is."""
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    return (
        _shortest(float(text)) if text.count(".") <= 1 and text.replace(".", "").isdigit() and len(text) < 16 else text
    )


def _shortest(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _date(token: str) -> tuple[str, str, str] | None:
    """(day, month name, year) of 2024-03-31 and 31.03.2024."""
    if not token[0].isdigit():
        return None
    if match := _ISO_DATE.fullmatch(token):
        year, month, day = match.groups()
    elif match := _DOTTED_DATE.fullmatch(token):
        day, month, year = match.groups()
    else:
        return None
    names = vocabulary.MONTH_NAMES
    return (str(int(day)), names[int(month) - 1], year) if 1 <= int(month) <= len(names) else None


@lru_cache(maxsize=TOKENS_REMEMBERED)
def is_identifier(token: str, folded: str) -> bool:
    """Whether it mixes letters and digits and is neither a measure nor an ordinal."""
    if token.isnumeric() or not (any(map(str.isdigit, token)) and any(map(str.isalpha, token))):
        return False
    glued = _GLUED.fullmatch(folded)
    return glued is None or (glued[2] not in vocabulary.UNITS and glued[2] not in vocabulary.ORDINAL_ENDINGS)
