"""The words of a paragraph of Word: runs, fields, breaks, and what stands beside them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from refdesk.indexing.readers.equations import equation
from refdesk.indexing.readers.packages import attribute, child, is_on, local
from refdesk.indexing.readers.word_styles import Styles

GONE = frozenset({"del", "moveFrom", "pPr", "rPr", "sdtPr", "tblPr", "trPr", "tcPr", "rt", "proofErr"})
PAGE_FIELDS = frozenset({"PAGE", "NUMPAGES", "SECTIONPAGES"})
SET, RENDERED = "\x01", "\x02"
"""Page breaks among the text, of the author's and of Word's: characters that XML cannot hold."""
_SYMBOLS = {"\uf0b7": "•", "\uf0a7": "▪", "\uf0fc": "✓", "\uf0fe": "☑", "\uf0a8": "☐", "\uf06f": "☐", "\uf0e0": "→"}


@dataclass(slots=True)
class Aside:
    """What stands beside a paragraph's flow."""

    boxes: list[Element] = field(default_factory=list)
    tables: list[Element] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


class WordText:
    """Reads paragraphs one after the other: a field may begin in one and end in another."""

    def __init__(self, styles: Styles, related: Mapping[str, tuple[str, str]]) -> None:
        self._styles = styles
        self._related = related
        self._fields: list[str] = []

    def forget_fields(self) -> None:
        """Between texts that do not go on in each other."""
        self._fields = []

    def of(self, parent: Element, aside: Aside) -> str:
        """What a paragraph, or anything with runs, says; what stands beside its flow is put aside."""
        parts: list[str] = []
        self._inline(parent, parts.append, aside)
        return "".join(parts)

    def _inline(self, parent: Element, say: Callable[[str], None], aside: Aside) -> None:
        for element in parent:
            name = local(element)
            if name == "r":
                self._run(element, say, aside)
            elif name == "AlternateContent":
                if (chosen := choice_of(element)) is not None:
                    self._inline(chosen, say, aside)
            elif name in {"drawing", "pict", "object"}:
                self._drawing(element, aside)
            elif name == "oMath":
                say(equation(element))
            elif name == "fldSimple":
                if (attribute(element, "instr") or "").strip().partition(" ")[0].upper() not in PAGE_FIELDS:
                    self._inline(element, say, aside)
            elif name not in GONE and not is_placeholder(element):
                self._inline(element, say, aside)

    def _run(self, run: Element, say: Callable[[str], None], aside: Aside) -> None:
        properties = child(run, "rPr")
        hidden = is_on(child(properties, "vanish")) or self._styles.is_hidden(child(properties, "rStyle"))
        for element in run:
            name = local(element)
            if name == "fldChar":
                self._field(attribute(element, "fldCharType") or "")
            elif name == "instrText":
                if self._fields:
                    self._fields[-1] += element.text or ""
            elif hidden or self._in_page_field():
                continue
            elif name == "t":
                say(element.text or "")
            elif said := _character(element, name):
                say(said)
            elif name in {"footnoteReference", "endnoteReference", "commentReference"}:
                aside.notes.append((name.removesuffix("Reference"), attribute(element, "id") or ""))
            elif name in {"drawing", "pict", "object"}:
                self._drawing(element, aside)
            elif name == "AlternateContent":
                if (chosen := choice_of(element)) is not None:
                    self._inline(chosen, say, aside)
            elif name == "ruby":
                base = child(element, "rubyBase")
                self._inline(element if base is None else base, say, aside)

    def _field(self, kind: str) -> None:
        if kind == "begin":
            self._fields.append("")
        elif kind == "separate" and self._fields:
            self._fields[-1] = f"={self._fields[-1].strip()}"
        elif kind == "end" and self._fields:
            self._fields.pop()

    def _in_page_field(self) -> bool:
        return any(each[1:].partition(" ")[0].upper() in PAGE_FIELDS for each in self._fields if each.startswith("="))

    def _drawing(self, element: Element, aside: Aside) -> None:
        waiting = [element]
        while waiting:
            each = waiting.pop()
            name = local(each)
            if name == "txbxContent":
                aside.boxes.append(each)
                continue
            if name == "docPr" and (text := attribute(each, "descr")):
                aside.pictures.append(text)
            elif name in {"chart", "relIds"} and (identifier := attribute(each, "id" if name == "chart" else "dm")):
                aside.parts.append(self._related.get(identifier, ("", "")))
            chosen = choice_of(each) if name == "AlternateContent" else each
            waiting.extend(reversed(list(chosen if chosen is not None else ())))


def choice_of(alternatives: Element) -> Element | None:
    """One of several ways to say the same: the first that holds something."""
    ways = [each for each in alternatives if local(each) in {"Choice", "Fallback"}]
    return next((way for way in ways if len(way)), None)


def is_placeholder(element: Element) -> bool:
    """A form field that nobody has filled in shows what is to be typed there."""
    return local(element) == "sdt" and is_on(child(element, "sdtPr", "showingPlcHdr"))


def field_names(paragraph: Element) -> Iterator[str]:
    for element in paragraph.iter():
        if local(element) == "instrText":
            yield (element.text or "").strip().partition(" ")[0].upper()
        elif local(element) == "fldSimple":
            yield (attribute(element, "instr") or "").strip().partition(" ")[0].upper()


def _character(element: Element, name: str) -> str:
    """What an element stands for that is one character."""
    if name in {"tab", "ptab"}:
        return "\t"
    if name == "br":
        return SET if attribute(element, "type") == "page" else "\n"
    if name == "cr":
        return "\n"
    if name == "lastRenderedPageBreak":
        return RENDERED
    if name == "noBreakHyphen":
        return "-"
    if name == "sym":
        code = attribute(element, "char") or ""
        symbol = chr(int(code, 16)) if code else ""
        return _SYMBOLS.get(symbol, "" if "\ue000" <= symbol <= "\uf8ff" else symbol)
    return ""
