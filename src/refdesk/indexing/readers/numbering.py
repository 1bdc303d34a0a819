"""The numbers of lists and headings in Word documents (ECMA-376 17.9): they are counted, not stored."""

from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from refdesk.indexing.readers.packages import attribute, child, is_on, local, number, value

_LEVELS = 9
_BULLET = "-"


@dataclass(slots=True)
class _Level:
    start: int = 1
    form: str = "decimal"
    text: str = ""
    plain: bool = False


@dataclass(slots=True)
class _List:
    levels: dict[int, _Level] = field(default_factory=dict)
    counters: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Counts the numbered paragraphs of a document, which must come in reading order."""

    def __init__(self, numbering: Element | None) -> None:
        self._lists: dict[str, _List] = {}
        self._numbers: dict[str, tuple[_List, dict[int, int]]] = {}
        self._begun: set[str] = set()
        if numbering is None:
            return
        links: dict[str, str] = {}
        styles: dict[str, str] = {}
        for abstract in (each for each in numbering if local(each) == "abstractNum"):
            key = attribute(abstract, "abstractNumId") or ""
            self._lists[key] = _List(_levels(abstract))
            for mark, table in (("numStyleLink", links), ("styleLink", styles)):
                if linked := value(abstract, mark):
                    table[linked] = key
        for name, key in links.items():
            if name in styles:
                self._lists[key] = self._lists[styles[name]]
        for each in (each for each in numbering if local(each) == "num"):
            self._add(each)

    def label(self, number_id: str, level: int) -> str | None:
        """The number of the next paragraph of a list at a level, ``-`` for a bullet; None where there is no such list."""
        if number_id not in self._numbers:
            return None
        listed, restarts = self._numbers[number_id]
        if number_id not in self._begun:
            self._begun.add(number_id)
            for restarted, start in restarts.items():
                listed.counters[restarted] = start - 1
        form = listed.levels.get(level, _Level())
        listed.counters[level] = listed.counters.get(level, form.start - 1) + 1
        for deeper in [each for each in listed.counters if each > level]:
            del listed.counters[deeper]
        if form.form in {"bullet", "none"}:
            return _BULLET if form.form == "bullet" else ""
        text = form.text or f"%{level + 1}."
        for each in range(level, -1, -1):
            above = listed.levels.get(each, _Level())
            count = listed.counters.get(each, above.start)
            text = text.replace(f"%{each + 1}", str(count) if form.plain else written(count, above.form))
        return text.strip()

    def _add(self, element: Element) -> None:
        listed = self._lists.get(value(element, "abstractNumId") or "")
        if listed is None:
            return
        restarts: dict[int, int] = {}
        for override in (each for each in element if local(each) == "lvlOverride"):
            level = int(attribute(override, "ilvl") or 0)
            if child(override, "startOverride") is not None:
                restarts[level] = number(override, "startOverride", default=1)
            if child(override, "lvl") is not None:
                listed = _List({**listed.levels, **_levels(override)}, {})
        self._numbers[attribute(element, "numId") or ""] = (listed, restarts)


def _levels(element: Element) -> dict[int, _Level]:
    found: dict[int, _Level] = {}
    for level in (each for each in element if local(each) == "lvl"):
        made = _Level(
            start=number(level, "start", default=1),
            form=value(level, "numFmt") or "decimal",
            text=value(level, "lvlText") or "",
            plain=is_on(child(level, "isLgl")),
        )
        found[min(_LEVELS, int(attribute(level, "ilvl") or 0))] = made
    return found


def written(count: int, form: str) -> str:
    """A number as a list shows it: ``lowerRoman`` 4 is iv."""
    if form in {"lowerLetter", "upperLetter"} and count > 0:
        letters = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letters if form == "lowerLetter" else letters.upper()
    if form in {"lowerRoman", "upperRoman"} and 0 < count < 4000:
        return _roman(count) if form == "lowerRoman" else _roman(count).upper()
    if form == "decimalZero":
        return f"{count:02}"
    if form == "ordinal":
        ending = "th" if count % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
        return f"{count}{ending}"
    return "" if form == "none" else str(count)


def _roman(count: int) -> str:
    written = ""
    for worth, letters in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        "m cm d cd c xc l xl x ix v iv i".split(),
        strict=True,
    ):
        written += letters * (count // worth)
        count %= worth
    return written
