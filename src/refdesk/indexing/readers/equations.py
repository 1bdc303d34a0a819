"""Formulas of Word and PowerPoint (Office Math) on one line, as people write them: ``E = (m v^2)/2``."""

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from refdesk.indexing.readers.packages import attribute, child, is_on, local

_PROPERTIES = frozenset({"ctrlPr", "rPr", "oMathParaPr"})


def equation(element: Element | None) -> str:
    """What stands inside an element of a formula."""
    if element is None:
        return ""
    return "".join(_part(each) for each in element if local(each) not in _PROPERTIES)


def _part(element: Element) -> str:
    name = local(element)
    if name == "r":
        return "".join(each.text or "" for each in element if local(each) == "t")
    if name.endswith("Pr"):
        return ""
    shape = _SHAPES.get(name, equation)
    return shape(element)


def _fraction(element: Element) -> str:
    above, below = _of(element, "num"), _of(element, "den")
    bar = child(element, "fPr", "type")
    if bar is not None and attribute(bar, "val") == "noBar":
        return f"({above} over {below})"
    return f"{_grouped(above)}/{_grouped(below)}"


def _scripts(element: Element) -> str:
    below, above = _of(element, "sub") or _of(element, "lim"), _of(element, "sup")
    if local(element) == "limUpp":
        below, above = "", below
    lowered = f"_{_grouped(below)}" if below else ""
    return _of(element, "e") + lowered + (f"^{_grouped(above)}" if above else "")


def _root(element: Element) -> str:
    degree = _of(element, "deg")
    return f"{degree}√{_grouped(_of(element, 'e'))}"


def _sum(element: Element) -> str:
    sign = child(element, "naryPr", "chr")
    below, above = _of(element, "sub"), _of(element, "sup")
    bounds = (f"_{_grouped(below)}" if below else "") + (f"^{_grouped(above)}" if above else "")
    return f"{_value(sign, '∫')}{bounds} {_of(element, 'e')}"


def _brackets(element: Element) -> str:
    properties = child(element, "dPr")
    begin, middle, end = (_value(child(properties, name), usual) for name, usual in _BRACKETS)
    return begin + middle.join(equation(each) for each in _each(element, "e")) + end


def _function(element: Element) -> str:
    return f"{_of(element, 'fName')} {_of(element, 'e')}"


def _rows(element: Element) -> str:
    return "; ".join(equation(each) for each in _each(element, "e"))


def _matrix(element: Element) -> str:
    rows = (", ".join(equation(each) for each in _each(row, "e")) for row in _each(element, "mr"))
    return f"[{'; '.join(rows)}]"


def _phantom(element: Element) -> str:
    """What only takes room."""
    shown = child(element, "phantPr", "show")
    return equation(child(element, "e")) if shown is None or is_on(shown) else ""


_BRACKETS = (("begChr", "("), ("sepChr", "|"), ("endChr", ")"))
_SHAPES: dict[str, Callable[[Element], str]] = {
    "f": _fraction,
    **dict.fromkeys(("sSub", "sSup", "sSubSup", "sPre", "limLow", "limUpp"), _scripts),
    "rad": _root,
    "nary": _sum,
    "d": _brackets,
    "func": _function,
    "eqArr": _rows,
    "m": _matrix,
    "phant": _phantom,
}


def _of(element: Element, name: str) -> str:
    return equation(child(element, name)).strip()


def _each(element: Element, name: str) -> Iterator[Element]:
    return (each for each in element if local(each) == name)


def _value(element: Element | None, usual: str) -> str:
    return usual if element is None else attribute(element, "val") or ""


def _grouped(text: str) -> str:
    """In brackets where it is more than a name or a figure."""
    return text if text.replace(".", "").replace(",", "").isalnum() or len(text) == 1 else f"({text})"
