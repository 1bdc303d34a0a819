"""Structured texts: JSON and XML without a known vocabulary, and what the general parser loses of reStructuredText."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from xml.etree.ElementTree import Element, fromstring

from refdesk.indexing.parsed import DocumentWriter, Sink
from refdesk.indexing.readers.packages import local

XML_CHARACTERS_MAX = 16_000_000
"""A longer document is read by the general parser, which needs less memory for it."""

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
    waiting: list[Element] = [fromstring(text)]  # noqa: S314 - in the sandbox; expat loads nothing and bounds entities
    while waiting:
        element = waiting.pop()
        name = local(element)
        attributes = [f"{key.rpartition('}')[2]}: {value}" for key, value in element.attrib.items() if value.strip()]
        if _has_words(element):
            words = " ".join(" ".join(element.itertext()).split()) if len(element) else element.text or ""
            writer.add("item", f"{name}: {', '.join([*attributes, words.strip()])}")
            continue
        writer.add("item", f"{name}: {', '.join(attributes)}" if attributes else name)
        waiting.extend(reversed(element))


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
