"""Structured texts: JSON and XML without a known vocabulary, and what the general parser loses of reStructuredText."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from xml.etree.ElementTree import Element, fromstring

from refdesk.indexing.parsed import DocumentWriter, Kind, Sink
from refdesk.indexing.readers.html import feed_html
from refdesk.indexing.readers.packages import local
from refdesk.indexing.readers.xml_workbooks import is_workbook, write_workbook

XML_CHARACTERS_MAX = 16_000_000
"""A longer document is read by the general parser, which needs less memory for it."""

_PAGE = re.compile(r"</?(?:p|br|b|i|em|strong|div|span|ul|ol|li|a|img|table|tr|td|h[1-6])(?:\s[^<>]{0,2000})?/?>", re.I)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_ESCAPES = re.compile(r"\\\\|(?:\\u[0-9a-fA-F]{4})+")
_LONG_LINE = 2_000
_DIRECTIVE = re.compile(
    r"([ \t]*)\.\. (note|warning|tip|hint|important|caution|danger|attention|error|seealso|todo|admonition"
    r"|versionadded|versionchanged|deprecated)::[ \t]*+(.*)"
)
_OPTION = re.compile(r"[ \t]+:[\w-]+:")


def read_lines(text: str, sink: Sink) -> None:
    """YAML, TOML and their like: lines as they are."""
    for stretch in _BLANK_LINE.split(text):
        sink.add("code", stretch)


def read_json(text: str, sink: Sink) -> None:
    r"""JSON, its characters as such (``\u00fc`` is ü); what stands on one long line is laid out."""
    if max(map(len, text.splitlines()), default=0) > _LONG_LINE:
        with suppress(ValueError, RecursionError):  # JSON lines, or none at all
            text = json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    read_lines(_ESCAPES.sub(_character, text), sink)


def read_xml(text: str, writer: DocumentWriter) -> None:
    """XML: a line for each element that has words or attributes of its own, ``capital: Paris``.

    What stands among words belongs to them: an element in the middle of a sentence makes no line.
    """
    if len(text) > XML_CHARACTERS_MAX:
        raise ValueError("too long to be read at once")
    root = fromstring(text)  # noqa: S314 - in the sandbox; expat loads nothing and bounds entities
    if is_workbook(root):
        write_workbook(root, writer)
        return
    waiting: list[Element] = [root]
    while waiting:
        element = waiting.pop()
        name = local(element)
        attributes = [f"{key.rpartition('}')[2]}: {value}" for key, value in element.attrib.items() if value.strip()]
        if _has_words(element):
            _write_words(writer, element, name, attributes)
            continue
        writer.add("item", f"{name}: {', '.join(attributes)}" if attributes else name)
        waiting.extend(reversed(element))


def _write_words(writer: DocumentWriter, element: Element, name: str, attributes: list[str]) -> None:
    """Words that are a page of HTML, as feeds have them, are read as one."""
    words = " ".join(" ".join(element.itertext()).split()) if len(element) else element.text or ""
    page = _Lines()
    if _PAGE.search(words):
        feed_html(words, page)
        words = page.found.pop()[1] if len(page.found) == 1 else ""
    writer.add("item", f"{name}: {', '.join(filter(None, [*attributes, words.strip()]))}".removesuffix(": "))
    for kind, text in page.found:
        writer.add("paragraph" if kind == "heading" else kind, text)


class _Lines:
    """Remembers lines."""

    def __init__(self) -> None:
        self.found: list[tuple[Kind, str]] = []

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        if text.strip():
            self.found.append((kind, text))


def with_directives(text: str) -> str:
    """reStructuredText with its notes and warnings as paragraphs, which begin with what they are."""
    return "\n".join(_directives(text.split("\n")))


def _directives(lines: list[str]) -> Iterator[str]:
    margin: int | None = None  # of the directive that is open
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if match := _DIRECTIVE.fullmatch(line):
            margin = len(match[1])
            title = match[3] if match[2] == "admonition" else f"{match[2].capitalize()}: {match[3]}"
            yield from ("", match[1] + title.rstrip())
        elif margin is None:
            yield line
        elif not line.strip() or indent > margin:
            if not _OPTION.match(line):
                yield line[:margin] + line[margin:].lstrip()
        else:
            margin = None
            yield line


def _character(match: re.Match[str]) -> str:
    if match[0] == "\\\\":
        return match[0]
    text: str = json.loads(f'"{match[0]}"')
    plain = all(
        character >= " " and character not in '"\\' and not "\ud800" <= character <= "\udfff" for character in text
    )
    return text if plain else match[0]


def _has_words(element: Element) -> bool:
    own = [element.text, *(child.tail for child in element)]
    return any(text and text.strip() for text in own)
