"""What somebody asks to make of a document, checked and brought to one form before anything is written."""

import re
import secrets
import time
import unicodedata
from typing import Any
from urllib.parse import urlsplit

import msgspec

from refdesk.contracts.access import is_reader
from refdesk.contracts.documents import title_of
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import clean

DEFAULT_READERS = ("everyone",)

NAME_CHARACTERS_READ = 4096
"""The end of a filename, where its own name is: what comes before is a path that nobody bounds."""

_ID = re.compile(r"[0-9a-f]{32}")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings of one document and of one request."""

    upload_bytes_max: int = 50 * 1024 * 1024
    text_bytes_max: int = 8 * 1024 * 1024
    """Of a JSON body, which is held in memory whole."""
    upload_s_max: float = 900.0
    """How long a form may take to arrive: 50 MiB in it are half a megabit a second."""
    upload_pause_s_max: float = 30.0
    """How long it may stand still."""
    revocation_wait_s: float = 0.0
    """How long a change that takes a right away waits for the broker to have its event. 0: no relay runs here."""
    title_chars_max: int = 300
    filename_chars_max: int = 200
    external_id_chars_max: int = 512
    url_chars_max: int = 2048
    readers_max: int = 64
    tags_max: int = 32
    tag_chars_max: int = 64
    standing_ids_max: int = 1000
    versions_shown_max: int = 200
    versions_kept: int = 5
    """How many versions of a document keep their content, the current one included."""


class Content(msgspec.Struct, frozen=True):
    """Content that lies in the blob directory."""

    sha256: str
    bytes: int
    media_type: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A new document, or what to change of one. None means: not said, so keep it or take the default.

    An empty ``url`` removes it; empty ``readers`` leave the document to its owner and the administrators.
    """

    content: Content | None = None
    title: str | None = None
    readers: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    external_id: str | None = None
    filename: str | None = None
    url: str | None = None

    def checked(self, limits: Limits) -> "Change":
        """The change in its one form: trimmed, sorted, without repetition. Raises InvalidRequest naming the field."""
        return msgspec.structs.replace(
            self,
            title=None if self.title is None else _title(self.title, limits),
            readers=None if self.readers is None else _readers(self.readers, limits),
            tags=None if self.tags is None else _tags(self.tags, limits),
            external_id=None if self.external_id is None else external_id(self.external_id, limits),
            url=None if self.url is None else _url(self.url, limits),
        )

    def for_new_document(self) -> dict[str, Any]:
        """All columns of a new document. Raises InvalidRequest when content or title is missing."""
        if self.content is None:
            raise InvalidRequest("There is no content. Send a part `file`, or JSON with `text`.", field="file")
        title = self.title or title_of(self.filename)
        if not title:
            raise InvalidRequest("There is no title. Send `title`, or a file with a name.", field="title")
        return {
            **_content_columns(self.content),
            "title": title,
            "readers": list(DEFAULT_READERS if self.readers is None else self.readers),
            "tags": list(self.tags or ()),
            "external_id": self.external_id,
            "filename": self.filename,
            "url": self.url or None,
        }

    def over(self, row: dict[str, Any]) -> dict[str, Any]:
        """All columns of the next version of ``row``."""
        said = {
            "title": self.title,
            "readers": None if self.readers is None else list(self.readers),
            "tags": None if self.tags is None else list(self.tags),
            "external_id": self.external_id,
            "filename": self.filename,
            "url": self.url,
        }
        columns = {name: row[name] if value is None else value for name, value in said.items()}
        columns["url"] = columns["url"] or None
        kept = {name: row[name] for name in ("content_sha256", "content_bytes", "media_type")}
        return {**columns, **(kept if self.content is None else _content_columns(self.content))}


def new_id() -> str:
    """A UUID of version 7 (RFC 9562) as 32 hexadecimal digits: ids sort by the time they were made."""
    milliseconds, random = time.time_ns() // 1_000_000, secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return f"{value:032x}"


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def filename(given: str | None, limits: Limits) -> str | None:
    """A name that is safe to show and to offer: no path, no control characters, bounded; None when nothing is left."""
    last = re.split(r"[/\\]", (given or "")[-NAME_CHARACTERS_READ:])[-1]
    visible = "".join(c for c in clean(last) if not unicodedata.category(c).startswith("C")).strip()
    if not visible.strip("."):
        return None
    stem, dot, extension = visible.rpartition(".")
    if not dot or len(extension) > 16:
        return visible[: limits.filename_chars_max]
    return f"{stem[: limits.filename_chars_max - len(extension) - 1]}.{extension}"


def external_id(given: str, limits: Limits) -> str:
    """Raises InvalidRequest."""
    return _line("external_id", given, chars_max=limits.external_id_chars_max)


def search_text(name: str, given: str | None, limits: Limits) -> str | None:
    """A filter's text, or None when it is absent or empty. Raises InvalidRequest."""
    return _line(name, given, chars_max=limits.title_chars_max) if given and given.strip() else None


def prefix(name: str, given: str | None, limits: Limits) -> str | None:
    """The beginning of external ids, or None when it is absent or empty. Raises InvalidRequest."""
    return _line(name, given, chars_max=limits.external_id_chars_max) if given and given.strip() else None


def _content_columns(content: Content) -> dict[str, Any]:
    return {"content_sha256": content.sha256, "content_bytes": content.bytes, "media_type": content.media_type}


def _line(field: str, given: str, *, chars_max: int) -> str:
    text = given.strip()
    if not text:
        raise InvalidRequest(f"{field} is empty. Give it a value, or leave it out.", field=field)
    if len(text) <= chars_max:  # normalising is not linear: never what has no bound
        text = unicodedata.normalize("NFC", text)
    if len(text) > chars_max:
        raise InvalidRequest(
            f"{field} has {len(text):,} characters; the limit is {chars_max:,}. Shorten it.",
            field=field,
            limit=chars_max,
            actual=len(text),
        )
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise InvalidRequest(f"{field} holds control characters. Remove them.", field=field)
    return text


def _title(given: str, limits: Limits) -> str:
    """Without hidden characters: models and people read it beside every passage. Raises InvalidRequest.

    Control characters are refused, and not taken out: whoever sends them has something else in mind.
    """
    shown = clean(_line("title", given, chars_max=limits.title_chars_max))
    return _line("title", shown, chars_max=limits.title_chars_max)


def _check_few(field: str, given: tuple[str, ...], most: int) -> None:
    """Before anything is done for each of them."""
    if len(given) > most:
        raise InvalidRequest(
            f"{field} has {len(given)} entries; the limit is {most}. Use fewer.",
            field=field,
            limit=most,
            actual=len(given),
        )


def _readers(given: tuple[str, ...], limits: Limits) -> tuple[str, ...]:
    _check_few("readers", given, limits.readers_max)
    for name in given:
        if not is_reader(name):
            raise InvalidRequest(
                f"{name[:140]!r} is not a reader. Use `everyone`, a group's name, or `principal:<id>`.", field="readers"
            )
    return tuple(sorted(set(given)))


def _tags(given: tuple[str, ...], limits: Limits) -> tuple[str, ...]:
    _check_few("tags", given, limits.tags_max)
    return tuple(sorted({_line("tags", tag, chars_max=limits.tag_chars_max) for tag in given}))


def _url(given: str, limits: Limits) -> str:
    """Only web addresses: the page shows this as a link, and a `javascript:` link would run in its reader's name."""
    if not given.strip():
        return ""
    url = _line("url", given, chars_max=limits.url_chars_max)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or any(c.isspace() for c in url):
        raise InvalidRequest(f"url={url[:200]!r} is not a web address. Use http:// or https://.", field="url")
    return url
