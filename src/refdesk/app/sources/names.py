"""A file's name as a document's external id, and as people read it.

File systems have names that no external id can be: bytes that are not UTF-8, line feeds, a blank at the end. And they differ in
what they take for one name: some keep `ü` as one character and as two apart, some make one of the two, some do not tell `A`
from `a`. So

    path ── key_of ──▶ key         in one normal form (NFC), what an external id may not hold as %XX: readable
         ── exact_key_of ──▶ key   all bytes beyond ASCII as %XX: for the twin of a name that has the readable key already
    key  ── path_of ──▶ path       the way back, up to the normal form

`keys_of` gives each file of a listing its key. A file keeps the key that its document has, also when its name comes in another
form or case, as long as no other file has a better right to it.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from urllib.parse import unquote_to_bytes

from refdesk.contracts.hidden_characters import clean

_BARRED = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\s\Z"
"""What an external id cannot hold: controls, line ends, undecodable bytes, and a blank at its end, which would be trimmed."""
_MISTAKABLE = r"%(?=[0-9A-Fa-f]{2})"
"""A per cent sign that would be read as the beginning of an escape."""
_ESCAPED = re.compile(f"{_MISTAKABLE}|{_BARRED}")
_ESCAPED_PREFIX = re.compile(_BARRED)
_ESCAPED_BYTES = re.compile(_MISTAKABLE.encode() + rb"|[\x00-\x1f\x7f-\xff]|\s\Z")
_UNDECODED = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

Holds = Callable[[str, str], bool]
"""Whether the document under a key has the content that the file at a path has."""


def key_of(path: str) -> str:
    """The readable key of a path. Paths of one normal form have one key, and no others have it."""
    key = _ESCAPED.sub(_escape, unicodedata.normalize("NFC", path))
    return (
        key if unicodedata.is_normalized("NFC", key) else exact_key_of(path)
    )  # a mark may stand right after an escape


def exact_key_of(path: str) -> str:
    """A key that no other path has. ASCII only."""
    return _ESCAPED_BYTES.sub(lambda found: b"%%%02X" % found.group()[0], _bytes_of(path)).decode("ascii")


def path_of(key: str) -> str:
    """The path of a key, undecodable bytes as `os.fsdecode` has them."""
    return unquote_to_bytes(key).decode("utf-8", "surrogateescape")


def prefix_of(name: str) -> str:
    """What the external ids below a source's name or address begin with; it ends in a slash."""
    line = unicodedata.normalize("NFC", name.strip()).rstrip("/")
    return unicodedata.normalize("NFC", _ESCAPED_PREFIX.sub(_escape, line)) + "/"


def same_form(path: str) -> str:
    """What paths have in common that are one name to some file system: normal form and case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).lower())


def shown_name(name: str) -> str:
    """A file's name as people read it, never empty.

    Bytes that are not UTF-8 are read as Windows-1252, which most of them are; controls and line feeds become blanks.
    """
    decoded = _UNDECODED.sub(lambda found: bytes([ord(found.group()) & 0xFF]).decode("cp1252", "replace"), name)
    shown = clean(_CONTROLS.sub(" ", decoded).replace("\\", "_")).strip()
    return shown if shown.strip(" .") else exact_key_of(name)


def keys_of(paths: Iterable[str], known: Collection[str], holds: Holds) -> dict[str, str]:
    """Each path's key; ``known`` are the keys that have documents."""
    twins = defaultdict(list)
    for path in paths:
        twins[unicodedata.normalize("NFC", path)].append(path)
    keys: dict[str, str] = {}
    for alike in twins.values():
        keys |= {alike[0]: _only_key(alike[0], known)} if len(alike) == 1 else _keys_of_twins(alike, known, holds)
    _adopt(keys, known)
    return keys


def _only_key(path: str, known: Collection[str]) -> str:
    """A twin whose other is gone keeps the key that it had beside it."""
    exact = exact_key_of(path)
    return exact if exact in known else key_of(path)


def _keys_of_twins(paths: list[str], known: Collection[str], holds: Holds) -> dict[str, str]:
    """The readable key is whose content its document has, else the composed name's; the others are told apart by their bytes."""
    keys = {path: exact_key_of(path) for path in paths}
    readable = key_of(paths[0])
    free = [path for path in paths if keys[path] not in known]
    if free:
        first = min(free, key=lambda path: (readable in known and not holds(path, readable), not _composed(path), path))
        keys[first] = readable
    return keys


def _composed(path: str) -> bool:
    return unicodedata.is_normalized("NFC", path)


def _adopt(keys: dict[str, str], known: Collection[str]) -> None:
    """A file without a document takes the one whose file is gone and had the same name in another form or case."""
    taken = set(keys.values())
    left = {same_form(path_of(key)): key for key in sorted(known) if key not in taken}
    if not left:
        return
    for path, key in keys.items():
        if key not in known:
            keys[path] = left.pop(same_form(path), key)


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes_of(found.group()))


def _bytes_of(path: str) -> bytes:
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which only a remote listing can have
        return path.encode("utf-8", "surrogatepass")
