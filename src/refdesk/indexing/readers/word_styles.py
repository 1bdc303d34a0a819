"""Paragraph and character styles of Word: what a style says, with what it inherits."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from refdesk.indexing.readers.packages import attribute, child, is_on, local, number, value

_HEADING = re.compile(r"heading ([1-9])", re.I)
_STYLE_DEPTH_MAX = 20


@dataclass(slots=True)
class Style:
    """Of a paragraph: its level as a heading, or 0, its list with the depth in it, and whether it is hidden."""

    level: int = 0
    numbering: tuple[str, int] | None = None
    hidden: bool = False


class Styles:
    """The paragraph and character styles of a document."""

    def __init__(self, styles: Element | None) -> None:
        named = [style for style in styles if local(style) == "style"] if styles is not None else []
        self._elements = {attribute(style, "styleId") or "": style for style in named}
        self._resolved: dict[str, Style] = {}
        self._default = next(
            (
                name
                for name, style in self._elements.items()
                if attribute(style, "type") == "paragraph" and (attribute(style, "default") or "0") in {"1", "true"}
            ),
            "",
        )

    def of(self, properties: Element | None) -> Style:
        name = value(properties, "pStyle") or self._default
        if name not in self._resolved:
            self._resolved[name] = self._resolve(name)
        return self._resolved[name]

    def is_hidden(self, named: Element | None) -> bool:
        if named is None:
            return False
        style = self._elements.get(attribute(named, "val") or "")
        return is_on(child(style, "rPr", "vanish"))

    def _resolve(self, name: str) -> Style:
        made = Style()
        for style in self._lineage(name):
            if not made.level:
                made.level = _style_level(style)
            if not made.numbering and (number_id := value(style, "pPr", "numPr", "numId")):
                made.numbering = (number_id, number(style, "pPr", "numPr", "ilvl"))
            made.hidden = made.hidden or is_on(child(style, "rPr", "vanish"))
        return made

    def _lineage(self, name: str) -> Iterator[Element]:
        for _ in range(_STYLE_DEPTH_MAX):
            style = self._elements.get(name)
            if style is None:
                return
            yield style
            name = value(style, "basedOn") or ""


def _style_level(style: Element) -> int:
    title = value(style, "name") or ""
    if match := _HEADING.fullmatch(title):
        return min(6, int(match[1]))
    if title.lower() == "title":
        return 1
    level = number(style, "pPr", "outlineLvl", default=9)
    return min(6, level + 1) if level < 9 else 0
