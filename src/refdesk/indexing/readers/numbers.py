"""Figures and dates as a spreadsheet shows them: a value and its number format (ECMA-376 18.8.31) to a text.

What depends on the machine that shows it (the built-in short date) is written as ISO 8601 has it; names of months and days are
English. Fractions and conditions are passed over: the plain figure stands for them.
"""

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache

_TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\[\]-]*+)[^\[\]]*+\]|\[(?:h+|m+|s+)\]|\[[^\[\]]*+\]|(?:AM/PM|A/P)|General|y+|m+|d+|h+|s+|\.0+|E[+-]0+|[0#?]+|.',
    re.I | re.S,
)
_LOCAL_DATES = {"mm-dd-yy": "yyyy-mm-dd", "m/d/yy": "yyyy-mm-dd", "m/d/yy h:mm": "yyyy-mm-dd hh:mm"}
_DATE_LETTERS = frozenset("ymdhs")
_PLACEHOLDER = re.compile(r"[0#?]")
_DIGITS_MAX = 15  # a double has no more


def show_number(value: float, code: str | None) -> str:
    """A figure in a format: ``0.125`` in ``0.0%`` is ``12.5%``."""
    section, value = _section(value, code or "General")
    if section is None:
        return _general(value)
    tokens = _tokens(section)
    kinds = [kind for kind, _ in tokens]
    if "digits" not in kinds or "slash" in kinds or "date" in kinds:
        return (
            _general(value)
            if "digits" not in kinds and "literal" not in kinds
            else _with_literals(tokens, _general(value))
        )
    value *= 100 ** kinds.count("percent")
    body = [index for index, kind in enumerate(kinds) if kind in {"digits", "point", "comma", "exponent"}]
    first, last = body[0], body[-1]
    before = "".join(text for kind, text in tokens[:first])
    after = "".join(text for kind, text in tokens[last + 1 :])
    sign = "-" if value < 0 else ""
    return f"{sign}{before}{_digits(abs(value), tokens[first : last + 1])}{after}".strip()


def show_moment(value: date | time | timedelta, code: str | None) -> str:
    """A date, a time or a duration in a format: ``dd.mm.yyyy``, ``h:mm``, ``[h]:mm``."""
    code = (code or "").split(";")[0]
    tokens = _tokens(_LOCAL_DATES.get(code.strip().lower(), code))
    if not any(kind == "date" for kind, _ in tokens):
        return str(value)
    letters = [text[0].lower() if kind == "date" else "" for kind, text in tokens]
    half_day = any(kind == "half" for kind, _ in tokens)
    shown = []
    for index, (kind, text) in enumerate(tokens):
        if kind == "date":
            shown.append(_moment_part(value, text.lower(), half_day=half_day, minutes=_is_minutes(letters, index)))
        elif kind == "half":
            shown.append("AM" if _hour(value) % 24 < 12 else "PM")
        elif kind in {"literal", "other", "comma", "slash"}:
            shown.append(text)
        elif kind == "point":
            shown.append("" if text != "." else ".")
    return " ".join("".join(shown).split())


def is_moment(code: str | None) -> bool:
    """Whether a format shows a date or a time."""
    return any(kind == "date" for kind, _ in _tokens((code or "").split(";")[0]))


def is_elapsed(code: str | None) -> bool:
    """Whether a format shows how long something took: hours may be more than a day has."""
    return any(kind == "date" and text.startswith("[") for kind, text in _tokens((code or "").split(";")[0]))


@lru_cache(maxsize=512)
def _tokens(section: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(section):
        text = match[0]
        if match[1] is not None or match[2] is not None or match[3] is not None:
            found.append(("literal", match[1] or match[2] or match[3] or ""))
        elif text[0] in "_*" and len(text) == 2:
            found.append(("literal", " " if text[0] == "_" else ""))
        elif text[0] == "[":
            if len(text) > 2 and text[1].lower() in "hms" and text.strip("[]").lower().strip("hms") == "":
                found.append(("date", text.lower()))
        elif text.lower() in {"am/pm", "a/p"}:
            found.append(("half", text))
        elif text[0].lower() in _DATE_LETTERS:
            found.append(("date", text))
        elif text[0] in "0#?":
            found.append(("digits", text))
        elif text == "%":
            found.append(("percent", "%"))
        elif text == ",":
            found.append(("comma", ","))
        elif text[0] == ".":
            found.extend([("point", "."), ("digits", text[1:])] if len(text) > 1 else [("point", ".")])
        elif text[0] in "Ee" and len(text) > 1:
            found.append(("exponent", text))
        elif text == "/":
            found.append(("slash", "/"))
        elif text.lower() != "general" and text != "@":
            found.append(("other", text))
    return tuple(found)


def _section(value: float, code: str) -> tuple[str | None, float]:
    """The part of a format for positive, negative or zero, and the value to show in it."""
    if code.lower() in {"general", "@", ""}:
        return None, value
    sections = _sections(code)
    if value < 0 and len(sections) > 1:
        return sections[1], -value
    if value == 0 and len(sections) > 2:
        return sections[2], value
    return sections[0], value


@lru_cache(maxsize=512)
def _sections(code: str) -> tuple[str, ...]:
    parts, quoted, current = [], False, ""
    for index, character in enumerate(code):
        if character == '"' and code[index - 1 : index] != "\\":
            quoted = not quoted
        if character == ";" and not quoted:
            parts.append(current)
            current = ""
        else:
            current += character
    return (*parts, current)


def _general(value: float) -> str:
    if value == int(value) and abs(value) < 10**_DIGITS_MAX:
        return str(int(value))
    return f"{value:.{_DIGITS_MAX}g}"


def _with_literals(tokens: tuple[tuple[str, str], ...], number: str) -> str:
    literals = "".join(text for kind, text in tokens if kind in {"literal", "other"}).strip()
    return literals if literals and not any(kind in {"digits", "slash"} for kind, _ in tokens) else number


def _digits(value: float, tokens: tuple[tuple[str, str], ...]) -> str:
    kinds = [kind for kind, _ in tokens]
    if "exponent" in kinds:
        places_shown = len(tokens[kinds.index("point") + 1][1]) if "point" in kinds else 0
        return f"{value:.{places_shown}E}"
    point = kinds.index("point") if "point" in kinds else len(tokens)
    whole, fraction = tokens[:point], tokens[point + 1 :]
    while whole and whole[-1][0] == "comma":  # scales by thousands
        whole, value = whole[:-1], value / 1000
    while fraction and fraction[-1][0] == "comma":
        fraction, value = fraction[:-1], value / 1000
    places = "".join(text for kind, text in fraction if kind == "digits")
    rounded = f"{value:.{len(places)}f}"
    digits, _, decimals = rounded.partition(".")
    needed = len(places.rstrip("#?"))
    decimals = decimals[:needed] + decimals[needed:].rstrip("0")
    shown = _fill(digits, whole, grouped="comma" in [kind for kind, _ in whole])
    return f"{shown}.{decimals}" if decimals else shown


def _fill(digits: str, tokens: tuple[tuple[str, str], ...], *, grouped: bool) -> str:
    """Digits in their places, from the right: ``0171 555`` in ``0000 000``."""
    least = sum(text.count("0") for kind, text in tokens if kind == "digits")
    digits = digits.lstrip("0").rjust(least, "0")
    if not any(kind in {"literal", "other"} for kind, _ in tokens):
        return f"{int(digits or 0):,}".rjust(least, "0") if grouped else digits or ("0" if least else "")
    shown: list[str] = []
    left = list(digits)
    for kind, text in reversed(tokens):
        if kind == "digits":
            taken = min(len(text), len(left))
            shown.extend(left.pop() for _ in range(taken))
        elif left or kind == "other":
            shown.append(text[::-1])
    return "".join(left) + "".join(reversed(shown))


def _is_minutes(letters: list[str], index: int) -> bool:
    """``m`` is a minute behind an hour or before a second, else a month."""
    before = next((letter for letter in reversed(letters[:index]) if letter), "")
    after = next((letter for letter in letters[index + 1 :] if letter), "")
    return before in {"h", "["} or after == "s"


def _hour(value: date | time | timedelta) -> int:
    if isinstance(value, timedelta):
        return int(value.total_seconds() // 3600)
    return value.hour if isinstance(value, datetime | time) else 0


def _moment_part(value: date | time | timedelta, text: str, *, half_day: bool, minutes: bool) -> str:
    if text.startswith("["):
        return _elapsed(value, text.strip("[]"))
    if isinstance(value, timedelta):
        value = (datetime(1900, 1, 1) + value).time()  # noqa: DTZ001 - a time of day has no zone
    width = len(text)
    if text[0] == "h":
        hour = _hour(value)
        return str((hour % 12 or 12) if half_day else hour).rjust(min(width, 2), "0")
    if text[0] == "s" or (text[0] == "m" and minutes and width < 3):
        part = getattr(value, "second" if text[0] == "s" else "minute", 0)
        return str(part).rjust(min(width, 2), "0")
    if not isinstance(value, date):
        return ""
    if text[0] == "y":
        return f"{value.year:04}" if width > 2 else f"{value.year % 100:02}"
    count, names = (value.month, "%B") if text[0] == "m" else (value.day, "%A")
    return str(count).rjust(width, "0") if width < 3 else value.strftime(names)[: 3 if width == 3 else None]


def _elapsed(value: date | time | timedelta, unit: str) -> str:
    if isinstance(value, datetime):
        value = value - datetime(1899, 12, 30)  # noqa: DTZ001
    if isinstance(value, time):
        value = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second)
    seconds = int(value.total_seconds()) if isinstance(value, timedelta) else 0
    return str(seconds // {"h": 3600, "m": 60, "s": 1}[unit[0]]).rjust(len(unit), "0")
