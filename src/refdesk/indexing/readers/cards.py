"""Contact cards (vCard, RFC 6350 and before): who somebody is, and how to reach them."""

import quopri
import re
from collections.abc import Iterator

from refdesk.indexing.parsed import Sink
from refdesk.indexing.readers import encodings

_FOLD = re.compile(r"\n[ \t]")
_SOFT_BREAK = re.compile(r"=\n")
_LINE = re.compile(r'(?:[\w-]++\.)?([A-Za-z-]++)((?:;[^:;"\n]*+(?:"[^"\n]*+"[^:;"\n]*+)*+)*+):(.*)')
_ESCAPE = re.compile(r"\\([nN,;:\\])")
_TYPE = re.compile(r"(?:^|[;,])(?:TYPE=)?\"?(HOME|WORK|CELL|FAX|MAIN)\b", re.I)
_CHARSET = re.compile(r"CHARSET=([\w-]+)", re.I)
_SHOWN = {
    "ORG": "Organisation",
    "TITLE": "Title",
    "ROLE": "Role",
    "TEL": "Telephone",
    "EMAIL": "E-mail",
    "ADR": "Address",
    "URL": "Page",
    "NICKNAME": "Called",
    "BDAY": "Birthday",
    "NOTE": "Note",
    "CATEGORIES": "Categories",
}


def read_cards(text: str, sink: Sink) -> None:
    """Writes each card as a heading, its name, and a paragraph of its fields."""
    lines: list[str] = []
    names: dict[str, str] = {}
    unfolded = _SOFT_BREAK.sub("", _FOLD.sub("", text))
    for match in map(_LINE.match, unfolded.splitlines()):
        if match is None:
            continue
        name, parameters, value = match[1].upper(), match[2], _decoded(match[2], match[3].strip())
        if name == "END":
            sink.add("heading", _called(names), level=2)
            sink.add("paragraph", "\n".join(lines))
            lines, names = [], {}
        if name in {"FN", "N", "ORG"}:
            names[name] = value
        if name in _SHOWN and value:
            lines.append(f"{_label(name, parameters)}: {_value(name, value)}")


def _called(names: dict[str, str]) -> str:
    """The name as it is written, else that in its parts (family name first), else whose card it is."""
    parts = list(_parts(names.get("N", "")))
    return _plain(names.get("FN", "")) or " ".join([*parts[1:2], *parts[:1]]) or ", ".join(_parts(names.get("ORG", "")))


def _label(name: str, parameters: str) -> str:
    kinds = dict.fromkeys(kind.lower() for kind in _TYPE.findall(parameters))
    return f"{_SHOWN[name]} ({', '.join(kinds)})" if kinds else _SHOWN[name]


def _value(name: str, value: str) -> str:
    if name in {"ADR", "ORG"}:
        return ", ".join(_parts(value))
    return _plain(value.removeprefix("tel:").removeprefix("mailto:"))


def _parts(value: str) -> Iterator[str]:
    for part in re.split(r"(?<!\\);", value):
        if plain := _plain(part).strip():
            yield plain


def _plain(value: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def _decoded(parameters: str, value: str) -> str:
    if "QUOTED-PRINTABLE" not in parameters.upper():
        return value
    charset = _CHARSET.search(parameters)
    return encodings.decode(quopri.decodestring(value.encode()), declared=charset[1] if charset else None).text
