"""Mail to blocks: who wrote what to whom, the message as its reader sees it, and what is attached to it.

    Subject, From, To, Date …        the header lines people ask for
    body                             HTML, for it has the tables; what only the plain text says follows
    Attachment: price list.pdf       a section each, read by the reader of its kind
    Subject of a forwarded message   a section, and everything again inside it

Every charset that senders use is read, by its declaration where that fits. Whatever is malformed is read as far as it goes:
a mail program shows it, too.
"""

import email
import email.header
import email.message
import email.policy
import io
import re
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from email.message import Message

import oxmsg
import oxmsg.recipient

from refdesk.contracts.errors import DocumentRejected, UnsupportedMediaType
from refdesk.indexing.paragraphs import split_paragraphs
from refdesk.indexing.parsed import DocumentWriter, Kind, rejected
from refdesk.indexing.readers import encodings
from refdesk.indexing.readers.calendars import read_calendar
from refdesk.indexing.readers.html import feed_html

ReadAttachment = Callable[[bytes, str, str], None]
"""Reads (content, filename, declared media type) into the section that is open. Raises RefdeskError."""

HEADERS = ("From", "To", "Cc", "Date", "Subject")
_DEPTH_MAX = 8
_MBOX_START = re.compile(rb"^From [^\n]*\n(?=[!-9;-~]+:)", re.M)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.M)
_WORD = re.compile(r"\w{3,}")
_NOT_SAID = re.compile(r"(?:https?|mailto|cid):[^\s>\])]*|\[image:[^\]]*\]")  # in plain text, for links and pictures
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
_OPAQUE = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/ms-tnef"})


class MailReader:
    """Reads messages into a writer; attachments by the readers of their kinds."""

    def __init__(self, writer: DocumentWriter, read_attachment: ReadAttachment) -> None:
        self._writer = writer
        self._read_attachment = read_attachment

    def read(self, content: bytes) -> None:
        """One message; its subject is the document's title."""
        message = email.message_from_bytes(content.lstrip(b"\r\n"), policy=email.policy.compat32)
        if message.get_content_type() == "multipart/encrypted":
            raise rejected(f"{self._writer.name} is an encrypted message", "decrypt it and upload it again")
        self._writer.title = _headers(message).get("Subject")
        self._message(message, depth=0)

    def read_mailbox(self, content: bytes) -> None:
        """The messages of an mbox file, a section each."""
        content = content.replace(b"\r\n", b"\n")
        starts = [match.span() for match in _MBOX_START.finditer(content)]
        ends = [start for start, _ in starts[1:]] + [len(content)]
        for (_, start), end in zip(starts, ends, strict=True):
            message = email.message_from_bytes(_QUOTED_FROM.sub(rb"\1", content[start:end]))
            self._writer.add("heading", _headers(message).get("Subject", "(no subject)"), level=1)
            with self._writer.section():
                self._message(message, depth=1)

    def read_outlook(self, content: bytes) -> None:
        """One message of Outlook (.msg)."""
        message = oxmsg.Message.load(io.BytesIO(content))
        headers = {
            "From": message.sender,
            "To": "; ".join(filter(None, map(_outlook_address, message.recipients))),
            "Date": message.sent_date.isoformat(sep=" ", timespec="minutes") if message.sent_date else None,
            "Subject": message.subject,
        }
        self._write_headers({name: value for name, value in headers.items() if value})
        self._write_body(message.body or "", message.html_body or "")
        self._writer.title = message.subject
        for attachment in message.attachments:
            if attachment.file_bytes is not None:
                self._attachment(attachment.file_bytes, attachment.file_name or "", attachment.mime_type or "")

    def _message(self, message: Message, *, depth: int) -> None:
        self._write_headers(_headers(message))
        texts: dict[str, list[str]] = {"plain": [], "html": []}
        rest: list[Message] = []
        for part in _parts(message):
            kind = part.get_content_type()
            if kind in {"text/plain", "text/html"} and not _is_attached(part):
                texts[kind.removeprefix("text/")].append(_text(part))
            elif kind not in _SIGNATURES:
                rest.append(part)
        self._write_body("\n\n".join(texts["plain"]), "\n".join(texts["html"]))
        for part in rest:
            self._part(part, depth=depth)

    def _part(self, part: Message, *, depth: int) -> None:
        kind, name = part.get_content_type(), _filename(part)
        if kind == "message/rfc822":
            self._forwarded(part, depth=depth)
        elif kind == "text/calendar":
            self._writer.add("heading", name or "Calendar", level=2)
            read_calendar(_text(part), self._writer)
        elif kind.startswith("text/") and not name:
            self._write_plain(_text(part))
        elif kind == "message/delivery-status":
            self._write_plain("\n".join(str(each) for each in part.get_payload() or []))
        elif name or not kind.startswith(("image/", "multipart/", "message/")):
            self._attachment(_bytes(part), name or "", kind)

    def _forwarded(self, part: Message, *, depth: int) -> None:
        payload = part.get_payload()
        inner = payload[0] if isinstance(payload, list) and payload else email.message_from_bytes(_bytes(part))
        if not isinstance(inner, Message) or depth >= _DEPTH_MAX:
            return
        self._writer.add("heading", _headers(inner).get("Subject") or _filename(part) or "(no subject)", level=2)
        with self._writer.section():
            self._message(inner, depth=depth + 1)

    def _attachment(self, content: bytes, name: str, kind: str) -> None:
        if not name and not content.strip():
            return
        self._writer.add("heading", f"Attachment: {name or kind}", level=2)
        if kind in _OPAQUE:
            return
        with self._writer.section(name):
            try:
                self._read_attachment(content, name, kind)
            except (DocumentRejected, UnsupportedMediaType) as rejection:
                self._writer.add("paragraph", f"[Not read: {rejection.message}]")

    def _write_headers(self, headers: dict[str, str]) -> None:
        self._writer.add("paragraph", "\n".join(f"{name}: {value}" for name, value in headers.items()))

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


def _outlook_address(recipient: oxmsg.recipient.Recipient) -> str:
    name, address = recipient.name, recipient.email_address
    return f"{name} <{address}>" if name and name != address else address


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


def _bytes(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, AssertionError, LookupError):
        return b""
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    charset = part.get_param("charset")
    declared = charset[2] if isinstance(charset, tuple) else charset
    content = _bytes(part)
    if not declared and part.get_content_type() == "text/html" and (match := _META.search(content[:2048])):
        declared = match[1].decode("ascii")
    text = encodings.decode(content, declared=declared or None)
    if part.get_param("format") == "flowed":  # RFC 3676
        text = re.sub(
            r"(?m)(?<!^--)[ ]\n(?=[^\n>])", "" if part.get_param("delsp") == "yes" else " ", text.replace("\r\n", "\n")
        )
    return text


_META = re.compile(rb"""charset\s*=\s*["']?([a-zA-Z0-9_.:-]{2,40})""", re.I)


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
    return encodings.decode(content, declared=charset if charset != "unknown-8bit" else None)
