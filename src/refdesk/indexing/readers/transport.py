"""What Outlook packs for another Outlook, ``winmail.dat`` ([MS-OXTNEF]): the message and its attachments.

    signature, key │ level, name, length, data, checksum │ level, name, …
                     one of them holds the properties of the message, others those of an attachment each

Mail programs that do not know the format show one attachment of that name in place of all that was attached. The text of the
message stands in the mail itself, too, as a rule; where it stands in here alone and as compressed rich text ([MS-OXRTFCP]), it is
handed on as an attachment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refdesk.indexing.readers.encodings import Decoded, decode
from refdesk.indexing.readers.outlook import OutlookAttachment, OutlookMessage
from refdesk.outside import media_types as kinds

TEXT_NAME = "message.rtf"
"""Of the message's own text, where it is handed on as an attachment."""
SIGNATURE = b"\x78\x9f\x3e\x22"
_HEAD_BYTES = 6
_ATTRIBUTE_BYTES = 11  # level, name, length and checksum
_BODY, _SUBJECT, _CODE_PAGE, _MESSAGE = 0x0002800C, 0x00018004, 0x00069007, 0x00069003
_NEXT_ATTACHMENT, _DATA, _TITLE, _ATTACHMENT = 0x00069002, 0x0006800F, 0x00018010, 0x00069005
_DEPTH_MAX = 20  # messages in messages

# Properties ([MS-OXPROPS]) and their types ([MS-OXCDATA] 2.11.1)
_TEXT, _PAGE, _RTF, _ABOUT, _SENDER, _SENDER_ADDRESS, _SENT, _TO = (
    0x1000,
    0x1013,
    0x1009,
    0x37,
    0xC1A,
    0xC1F,
    0x39,
    0xE04,
)
_LONG_NAME, _NAME, _SHOWN_NAME, _CONTENT, _MEDIA_TYPE, _PAGE_CODE = 0x3707, 0x3704, 0x3001, 0x3701, 0x370E, 0x3FDE
_OBJECT, _ANSI, _UNICODE, _BINARY, _SEVERAL = 0x0D, 0x1E, 0x1F, 0x102, 0x1000
_MOMENT = 0x40
_FIXED_BYTES = {1: 4, 2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 0xA: 4, 0xB: 4, 0x14: 8, _MOMENT: 8, 0x48: 16}
_NAMED = 0x8000
_OBJECT_KIND_BYTES = 16
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)

_RTF_BYTES_MAX = 4 * 1024 * 1024
_RTF_COMPRESSED = b"LZFu"
_RTF_BEGINNING = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbolArial"
    rb"Times New RomanCourier{\colortbl\red0\green0\blue0" + b"\r\n" + rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
"""What a compressed text may point back to before it has any text ([MS-OXRTFCP] 2.1.2.1)."""

Property = bytes | str | int


@dataclass(slots=True)
class _Packed:
    """An attachment as its attributes say it."""

    title: str = ""
    data: bytes = b""
    properties: dict[int, Property] = field(default_factory=dict)


def read_transport(content: bytes, *, depth: int = 0) -> OutlookMessage:
    """The message. Raises ValueError for what is none, or ends too early."""
    if not content.startswith(SIGNATURE):
        raise ValueError("it does not begin as such a file does")
    encoding = "cp1252"
    told: dict[int, bytes] = {}
    properties: dict[int, Property] = {}
    packed: list[_Packed] = []
    for name, data in _attributes(content):
        if name == _CODE_PAGE and len(data) >= 4:
            encoding = f"cp{int.from_bytes(data[:4], 'little')}"
        elif name == _MESSAGE:
            properties = dict(_properties(data, encoding))
        elif name == _NEXT_ATTACHMENT:
            packed.append(_Packed())
        elif packed and name == _TITLE:
            packed[-1].title = _ansi(data, encoding)
        elif packed and name == _DATA:
            packed[-1].data = data
        elif packed and name == _ATTACHMENT:
            packed[-1].properties = dict(_properties(data, encoding))
        else:
            told[name] = data
    plain = _string(properties, _TEXT) or _ansi(told.get(_BODY, b""), encoding)
    page = _page(properties)
    return OutlookMessage(
        headers=_headers(properties, subject=_ansi(told.get(_SUBJECT, b""), encoding)),
        plain=plain,
        page=page,
        attachments=[
            *(_rich_text(properties) if not plain and not page.text else ()),
            *(attachment for each in packed for attachment in _attachment(each, depth)),
        ],
    )


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = _HEAD_BYTES
    while at + _ATTRIBUTE_BYTES <= len(content):
        name, length = (int.from_bytes(content[at + 1 + 4 * n : at + 5 + 4 * n], "little") for n in (0, 1))
        start = at + _ATTRIBUTE_BYTES - 2
        at = start + length + 2
        if at > len(content):
            raise ValueError("it ends too early")
        yield name, content[start : start + length]


class _Bytes:
    """Bytes that are read from their beginning to their end. Raises ValueError where they end too early."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._content):
            raise ValueError("its properties end too early")
        return self._content[self._at - count : self._at]

    def number(self, count: int = 4) -> int:
        return int.from_bytes(self.take(count), "little")

    def padded(self) -> bytes:
        """What begins with its length and is filled up to whole words of four bytes."""
        length = self.number()
        return self.take(length + -length % 4)[:length]


def _properties(data: bytes, encoding: str) -> Iterator[tuple[int, Property]]:
    """Those that are strings, bytes, numbers or moments, each by its number."""
    source = _Bytes(data)
    for _ in range(source.number()):
        kind, number = source.number(2), source.number(2)
        if number >= _NAMED:
            source.take(16)
            if source.number():
                source.padded()
            else:
                source.take(4)
        varies = kind & ~_SEVERAL in {_ANSI, _UNICODE, _BINARY, _OBJECT}
        count = source.number() if varies or kind & _SEVERAL else 1
        for _ in range(count):
            if not varies:
                value: Property = source.number(_FIXED_BYTES.get(kind & ~_SEVERAL) or _unknown(kind))
            else:
                value = _value(kind & ~_SEVERAL, source.padded(), encoding)
            yield number, value


def _unknown(kind: int) -> int:
    raise ValueError(f"it has a property of the unknown type {kind:#x}")


def _value(kind: int, value: bytes, encoding: str) -> Property:
    if kind == _UNICODE:
        return value.decode("utf-16-le", "replace").rstrip("\0")
    return _ansi(value, encoding) if kind == _ANSI else value


def _ansi(value: bytes, encoding: str) -> str:
    return decode(value.rstrip(b"\0"), declared=encoding).text


def _string(properties: dict[int, Property], *numbers: int) -> str:
    return next((value for each in numbers if isinstance(value := properties.get(each), str) and value), "")


def _page(properties: dict[int, Property]) -> Decoded:
    page = properties.get(_PAGE)
    if not isinstance(page, bytes):
        return Decoded(_string(properties, _PAGE), "utf-16-le")
    code = properties.get(_PAGE_CODE)
    return decode(
        page, declared={65001: "utf-8", 20127: "ascii"}.get(code, f"cp{code}") if isinstance(code, int) else None
    )


def _headers(properties: dict[int, Property], *, subject: str) -> dict[str, str]:
    sent = properties.get(_SENT)
    name, address = _string(properties, _SENDER), _string(properties, _SENDER_ADDRESS)
    headers = {
        "From": f"{name} <{address}>" if name and "@" in address and name != address else name or address,
        "To": _string(properties, _TO),
        "Date": _moment(sent) if isinstance(sent, int) else "",
        "Subject": _string(properties, _ABOUT) or subject,
    }
    return {name: value for name, value in headers.items() if value}


def _moment(ticks: int) -> str:
    """Of ten million a second since 1601; nothing for one beyond the calendar."""
    try:
        return (_EPOCH + timedelta(microseconds=ticks // 10)).isoformat(sep=" ", timespec="minutes")
    except OverflowError:
        return ""


def _attachment(packed: _Packed, depth: int) -> Iterator[OutlookAttachment]:
    properties = packed.properties
    name = _string(properties, _LONG_NAME, _NAME, _SHOWN_NAME) or packed.title
    content = properties.get(_CONTENT)
    content = content if isinstance(content, bytes) else packed.data
    inner = content[_OBJECT_KIND_BYTES:]
    if not packed.data and inner.startswith(SIGNATURE) and depth < _DEPTH_MAX:
        yield OutlookAttachment(name, "", read_transport(inner, depth=depth + 1))
    elif content:
        yield OutlookAttachment(name, _string(properties, _MEDIA_TYPE), content)


def _rich_text(properties: dict[int, Property]) -> Iterator[OutlookAttachment]:
    packed = properties.get(_RTF)
    if isinstance(packed, bytes) and (text := unpacked(packed)):
        yield OutlookAttachment(TEXT_NAME, kinds.RTF, text)


def unpacked(packed: bytes) -> bytes:
    """Compressed rich text ([MS-OXRTFCP] 2.2): runs of characters, and places of what came before. Raises ValueError."""
    length, form, data = int.from_bytes(packed[4:8], "little"), packed[8:12], packed[16:]
    if form != _RTF_COMPRESSED:
        return data[:length]
    if length > _RTF_BYTES_MAX:
        raise ValueError("its text is too long")
    made, at = bytearray(_RTF_BEGINNING), 0
    while at < len(data) and len(made) < length + len(_RTF_BEGINNING):
        flags, at = data[at], at + 1
        for bit in range(8):
            if not flags >> bit & 1:
                made += data[at : at + 1]
                at += 1
                continue
            place = int.from_bytes(data[at : at + 2], "big")
            at += 2
            back = (len(made) - (place >> 4)) % 4096  # places are those in a ring of 4,096
            if not back:
                return bytes(made[len(_RTF_BEGINNING) :])
            for _ in range((place & 15) + 2):
                made.append(made[-back] if back <= len(made) else 0x20)
    return bytes(made[len(_RTF_BEGINNING) :])
