"""Comments in Office documents: what somebody said beside the text, with their name, behind the place that it is about."""

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from refdesk.indexing.readers.packages import Package, attribute, child, inside, local

_THREAD = "tc="  # the author of a note that stands for a thread in programs that know none ([MS-XLSX] 2.6.205)
_DAY_CHARACTERS = 10

Related = Mapping[str, tuple[str, str]]


def comment(text: str, *, author: str | None, moment: str | None) -> str:
    """``Comment (Ada Jones, 2026-05-01): Still true?``; nothing where it says nothing."""
    said = "\n".join(filter(None, (line.strip() for line in text.split("\n"))))
    about = ", ".join(filter(None, ((author or "").strip(), (moment or "")[:_DAY_CHARACTERS])))
    return f"Comment{about and f' ({about})'}: {said}" if said else ""


def people(package: Package, related: Related) -> dict[str, str]:
    """Who has written comments: id to name."""
    kinds = {"commentAuthors", "authors", "person"}
    listed = (each for kind, part in related.values() if kind in kinds for each in _elements(package, part))
    return {
        (attribute(each, "id") or "").lower(): attribute(each, "displayName") or attribute(each, "name") or ""
        for each in listed
    }


def slide_comments(package: Package, related: Related, named: Mapping[str, str]) -> Iterator[str]:
    """Of a slide, with the answers to each."""
    for kind, part in related.values():
        for element in _elements(package, part) if kind == "comments" else ():
            for each in (element, *inside(element, "reply")):
                author = named.get((attribute(each, "authorId") or "").lower())
                moment = attribute(each, "dt") or attribute(each, "created")
                yield comment(_said(each), author=author, moment=moment)


def _elements(package: Package, part: str) -> Iterator[Element]:
    root = package.xml(part)
    return iter(root if root is not None else ())


def _said(element: Element) -> str:
    plain = child(element, "text")
    if plain is not None:
        return plain.text or ""
    return "\n".join(_words(each) for each in inside(child(element, "txBody"), "p"))


def _words(element: Element | None) -> str:
    return "".join(each.text or "" for each in inside(element, "t"))


def sheet_comments(package: Package, sheet: str, named: Mapping[str, str]) -> dict[str, list[str]]:
    """The notes and threads of a sheet by the cell that they are about."""
    found: dict[str, list[str]] = {}
    for kind, part in package.related(sheet).values():
        if kind == "comments":
            said = _notes(package.xml(part))
        elif kind == "threadedComment":
            said = _threads(_elements(package, part), named)
        else:
            continue
        for cell, text in said:
            if text:
                found.setdefault(cell, []).append(text)
    return found


def _notes(part: Element | None) -> Iterator[tuple[str, str]]:
    authors = [each.text or "" for each in inside(child(part, "authors"), "author")]
    for each in inside(part, "comment"):
        number = attribute(each, "authorId") or ""
        author = authors[int(number)] if number.isdecimal() and int(number) < len(authors) else ""
        if not author.startswith(_THREAD):
            text = _words(child(each, "text")).strip().removeprefix(f"{author}:")
            yield attribute(each, "ref") or "", comment(text, author=author, moment=None)


def _threads(elements: Iterator[Element], named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for each in elements:
        if local(each) == "threadedComment":
            said, author = child(each, "text"), named.get((attribute(each, "personId") or "").lower())
            text = said.text or "" if said is not None else ""
            yield attribute(each, "ref") or "", comment(text, author=author, moment=attribute(each, "dT"))
