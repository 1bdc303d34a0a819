"""Mail to blocks: who wrote what to whom, the message as its reader sees it, and what is attached to it.

    Subject, From, To, Date …        the header lines people ask for
    body                             HTML, for it has the tables; what only the plain text says follows
    Attachment: price list.pdf       a part each, read by the reader of its kind
    Subject of a forwarded message   a part, and everything again inside it

Every charset that senders use is read, by its declaration where that fits. Whatever is malformed is read as far as it goes:
a mail program shows it, too.
"""

import email
import email.header
import email.message
import email.policy
import re
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from functools import partial

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.archives import damaged
from refdesk.indexing.attachments import Attachments
from refdesk.indexing.paragraphs import split_paragraphs
from refdesk.indexing.parsed import DocumentWriter, Kind, rejected
from refdesk.indexing.readers import encodings
from refdesk.indexing.readers.calendars import read_calendar
from refdesk.indexing.readers.html import feed_html
from refdesk.indexing.readers.outlook import OutlookAttachment, OutlookMessage, read_message
from refdesk.indexing.readers.plain import note_doubts
from refdesk.indexing.readers.transport import TEXT_NAME, read_transport
from refdesk.outside import media_types as kinds

HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MBOX_START = re.compile(rb"^From [^\n]*\n(?=[!-9;-~]+:)", re.M)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.M)
_META = re.compile(rb"""charset\s*=\s*["']?([a-zA-Z0-9_.:-]{2,40})""", re.I)
_FLOWED = re.compile(r"(?m)(?<!^--)[ ]\n(?=[^\n>])")  # RFC 3676
_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NO_SUBJECT = "(no subject)"
_WORD = re.compile(r"\w{3,}")
_NOT_SAID = re.compile(r"(?:https?|mailto|cid):[^\s>\])]*|\[image:[^\]]*\]")  # in plain text, for links and pictures
_FOR_PROGRAMS = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
    | {
        "text/css",
        "text/javascript",
        "text/x-amp-html",
        "text/watch-html",
    }  # what a page is made with; the page once more
)


class MailReader:
    """Reads messages into a writer; attachments by the readers of their kinds."""

    def __init__(self, writer: DocumentWriter, attachments: Attachments) -> None:
        self._writer = writer
        self._attachments = attachments

    def read(self, content: bytes) -> None:
        """One message; its subject is the document's title."""
        message = email.message_from_bytes(content.lstrip(b"\r\n"), policy=email.policy.compat32)
        if message.get_content_type() == "multipart/encrypted":
            raise self.encrypted()
        headers = _headers(message)
        self._writer.title = headers.get("Subject")
        with self._writer.part(_about(headers), level=1):
            self._message(message, depth=0)

    def read_mailbox(self, content: bytes) -> None:
        """The messages of an mbox file, a part each: one subject may have many, so its name says from whom and when, too."""
        content = content.replace(b"\r\n", b"\n")
        starts = [match.span() for match in _MBOX_START.finditer(content)]
        ends = [start for start, _ in starts[1:]] + [len(content)]
        for (_, start), end in zip(starts, ends, strict=True):
            message = email.message_from_bytes(_QUOTED_FROM.sub(rb"\1", content[start:end]))
            with self._writer.part(_entry(_headers(message)), level=1):
                self._message(message, depth=1)

    def read_outlook(self, content: bytes) -> None:
        """One message of Outlook (.msg)."""
        message = read_message(content)
        self._writer.title = message.headers.get("Subject")
        with self._writer.part(_about(message.headers), level=1):
            self._outlook(message, depth=0)

    def read_packed(self, content: bytes) -> None:
        """What Outlook packed for another Outlook (winmail.dat)."""
        try:
            message = read_transport(content)
        except ValueError as error:
            raise damaged(self._writer.name, str(error)) from error
        self._writer.title = message.headers.get("Subject")
        with self._writer.part(_about(message.headers), level=1):
            self._outlook(message, depth=0)

    def encrypted(self) -> DocumentRejected:
        """The refusal of a message of which only who wrote to whom could be read."""
        return rejected(f"{self._writer.name} is an encrypted message", "decrypt it and upload it again")

    def _outlook(self, message: OutlookMessage, *, depth: int) -> None:
        self._write_headers(message.headers)
        self._note_doubts(message.page)
        self._write_body(message.plain, message.page.text)
        self._outlook_attachments(message.attachments, depth=depth)

    def _outlook_attachments(self, attachments: Iterable[OutlookAttachment], *, depth: int) -> None:
        for attachment in attachments:
            inner = attachment.content
            if isinstance(inner, bytes):
                self._attachments.add(partial(bytes, inner), attachment.name, attachment.media_type)
                continue
            with self._forwarding(_entry(inner.headers, name=attachment.name), depth=depth) as is_read:
                if is_read:
                    self._outlook(inner, depth=depth + 1)

    def _message(self, message: Message, *, depth: int) -> None:
        self._write_headers(_headers(message))
        texts: dict[str, list[str]] = {"plain": [], "html": []}
        rest: list[Message] = []
        for part in _parts(message):
            kind = part.get_content_type()
            if kind in {"text/plain", "text/html"} and not _is_attached(part):
                texts[kind.removeprefix("text/")].append(self._text(part))
            elif kind not in _FOR_PROGRAMS and not _is_picture_in_text(part):
                rest.append(part)
        self._write_body("\n\n".join(texts["plain"]), "\n".join(texts["html"]))
        has_text = any(text.strip() for text in (*texts["plain"], *texts["html"]))
        for part in sorted(rest, key=_has_name_of_its_own):  # what has none would stand below the last that has one
            if has_text and _is_packed(part):
                self._packed(part, depth=depth)
            else:
                self._part(part, depth=depth)

    def _packed(self, part: Message, *, depth: int) -> None:
        """What Outlook packed beside the text of a message, as if it were attached to it; its own text is the same."""
        try:
            packed = read_transport(_bytes(part))
        except ValueError:  # the reader of its kind says what is the matter with it
            self._part(part, depth=depth)
        else:
            self._outlook_attachments((each for each in packed.attachments if each.name != TEXT_NAME), depth=depth)

    def _part(self, part: Message, *, depth: int) -> None:
        kind, name = part.get_content_type(), _filename(part)
        if kind == "message/rfc822":
            self._forwarded(part, depth=depth)
        elif kind == "text/calendar":
            with self._writer.part(name or "Calendar", level=2):
                read_calendar(self._text(part), self._writer)
        elif kind.startswith("text/") and not name:
            self._write_plain(self._text(part))
        elif kind == "message/delivery-status":
            self._write_plain("\n".join(str(each) for each in part.get_payload() or []))
        elif name or not kind.startswith(("image/", "multipart/", "message/")):
            self._attachments.add(partial(_bytes, part), name, kind)

    def _forwarded(self, part: Message, *, depth: int) -> None:
        payload = part.get_payload()
        inner = payload[0] if isinstance(payload, list) and payload else email.message_from_bytes(_bytes(part))
        if not isinstance(inner, Message):
            return
        with self._forwarding(_entry(_headers(inner), name=_filename(part)), depth=depth) as is_read:
            if is_read:
                self._message(inner, depth=depth + 1)

    @contextmanager
    def _forwarding(self, name: str, *, depth: int) -> Iterator[bool]:
        """A part for a message in a message, and whether it is to be read."""
        with self._writer.part(name, level=2):
            if not (is_read := depth < self._attachments.depth_max):
                self._attachments.say_unread(f"{name} is a message in {depth} others; upload it by itself.")
            yield is_read

    def _note_doubts(self, found: encodings.Decoded) -> None:
        note_doubts(found, self._writer, what=f"A message in {self._writer.name}")

    def _text(self, part: Message) -> str:
        charset = part.get_param("charset")
        declared = charset[2] if isinstance(charset, tuple) else charset
        content = _bytes(part)
        if not declared and part.get_content_type() == "text/html" and (match := _META.search(content[:2048])):
            declared = match[1].decode("ascii")
        found = encodings.decode(content, declared=declared or None)
        self._note_doubts(found)
        if part.get_param("format") != "flowed":
            return found.text
        text = found.text.replace("\r\n", "\n")
        return _FLOWED.sub("" if part.get_param("delsp") == "yes" else " ", text)

    def _write_headers(self, headers: dict[str, str]) -> None:
        self._writer.add("fields", "\n".join(f"{name}: {value}" for name, value in headers.items()))

    def _write_body(self, plain: str, page: str) -> None:
        """The HTML, and those paragraphs of the plain text that say something else."""
        sink = _Words(self._writer)
        feed_html(page, sink)
        for paragraph in _paragraphs(plain):
            words = {word.lower() for word in _WORD.findall(_NOT_SAID.sub(" ", paragraph))}
            if not sink.words or words - sink.words:
                self._writer.add("paragraph", paragraph)

    def _write_plain(self, text: str) -> None:
        for paragraph in _paragraphs(text):
            self._writer.add("paragraph", paragraph)


class _Words:
    """Hands lines on and remembers their words."""

    def __init__(self, writer: DocumentWriter) -> None:
        self.words: set[str] = set()
        self._writer = writer

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        self.words.update(word.lower() for word in _WORD.findall(text))
        self._writer.add("paragraph" if kind == "heading" else kind, text)  # large type in a mail is no chapter


def _paragraphs(text: str) -> Iterator[str]:
    return split_paragraphs(text.replace("\r\n", "\n").replace("\r", "\n"))


def _parts(message: Message) -> Iterator[Message]:
    """The parts that hold something, in order; a forwarded message is one part."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            waiting.extend(each for each in reversed(payload) if isinstance(each, Message))
        elif part.get_content_maintype() != "multipart":
            yield part
        elif isinstance(payload, str):  # a multipart without parts
            part.set_type("text/plain")
            yield part


def _is_attached(part: Message) -> bool:
    return (part.get_content_disposition() or "") == "attachment" or bool(_filename(part))


def _is_picture_in_text(part: Message) -> bool:
    """A logo in a signature, a picture between two paragraphs: nobody calls it an attachment."""
    is_shown = part.get_content_disposition() != "attachment" and (part["Content-ID"] or not _filename(part))
    return part.get_content_maintype() == "image" and bool(is_shown)


def _is_packed(part: Message) -> bool:
    return kinds.by_declaration(part.get_content_type()) == kinds.TNEF or _filename(part).lower() == "winmail.dat"


def _has_name_of_its_own(part: Message) -> bool:
    return bool(_filename(part)) or part.get_content_type() in {"message/rfc822", "text/calendar"}


def _entry(headers: Mapping[str, str], *, name: str = "") -> str:
    """A message as a list of messages shows it: ``Offer of May (Ada Jones, 2026-03-02)``."""
    subject, about = headers.get("Subject") or name or _NO_SUBJECT, _about(headers)
    return f"{subject} ({about})" if about else subject


def _about(headers: Mapping[str, str]) -> str:
    """Who wrote it, and when: ``Ada Jones, 2026-03-02``."""
    sender = headers.get("From", "")
    name, address = parseaddr(sender)
    return ", ".join(
        filter(None, (name or (address if "@" in address else sender.strip("<>")), _day(headers.get("Date", ""))))
    )


def _day(date: str) -> str:
    if _ISO_DAY.match(date):  # as Outlook's are written here
        return date[:10]
    try:
        return parsedate_to_datetime(date).date().isoformat()
    except (ValueError, OverflowError):
        return ""


def _bytes(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, AssertionError, LookupError):
        return b""
    return payload if isinstance(payload, bytes) else b""


def _filename(part: Message) -> str:
    try:
        name = part.get_filename() or ""
    except (ValueError, LookupError):
        return ""
    return " ".join(_decoded(name).split())


def _headers(message: Message) -> dict[str, str]:
    """The header lines people ask for, decoded."""
    found: dict[str, str] = {}
    for name, value in message.raw_items():
        proper = name.title()
        if proper in HEADERS and proper not in found and (text := " ".join(_decoded(str(value)).split())):
            found[proper] = text
    return {name: found[name] for name in HEADERS if name in found}


def _decoded(value: str) -> str:
    """A header with its encoded words read, in the encodings they name or in the one that reads best."""
    try:
        parts = email.header.decode_header(value.replace("\r", "").replace("\n", ""))
    except (email.errors.HeaderParseError, ValueError, Base64Error):
        parts = [(value, None)]
    return "".join(_decoded_part(part, charset) for part, charset in parts)


def _decoded_part(part: bytes | str, charset: str | None) -> str:
    try:
        content = (
            part if isinstance(part, bytes) else part.encode("ascii", "surrogateescape")
        )  # as the parser keeps bytes
    except UnicodeEncodeError:
        return str(part)
    return encodings.decode(content, declared=charset if charset != "unknown-8bit" else None).text
