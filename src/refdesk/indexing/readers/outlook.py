"""Messages as Outlook saves them ([MS-OXMSG]): what stands in them, messages in messages included."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import olefile
import oxmsg
from oxmsg.attachment import Attachment
from oxmsg.domain import constants
from oxmsg.properties import Properties
from oxmsg.recipient import Recipient
from oxmsg.storage import Storage

from refdesk.indexing.readers.encodings import Decoded, decode

_EMBEDDED = "__substg1.0_3701000D"  # [MS-OXMSG] 2.2.2.1: where an attachment is a message itself
_EMBEDDED_HEADER_BYTES = 24  # [MS-OXMSG] 2.4.1.2; at the top it has 32


@dataclass(frozen=True, slots=True)
class OutlookMessage:
    """A message: its header lines, its body as text and as HTML, and what is attached to it."""

    headers: dict[str, str]
    plain: str
    page: Decoded
    attachments: list["OutlookAttachment"]


@dataclass(frozen=True, slots=True)
class OutlookAttachment:
    """A file, or a message."""

    name: str
    media_type: str
    content: bytes | OutlookMessage


class _Embedded(oxmsg.Message):
    """A message in a message, whose properties begin elsewhere."""

    @property
    def properties(self) -> Properties:
        return Properties(self._storage, properties_header_offset=_EMBEDDED_HEADER_BYTES)


def read_message(content: bytes) -> OutlookMessage:
    """Raises ValueError, LookupError or OSError for what is no sound message."""
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        return message_in(Storage.from_ole(container))


def message_in(storage: Storage, *, kind: type[oxmsg.Message] = oxmsg.Message) -> OutlookMessage:
    """The message of a storage that was taken out of its file."""
    message = kind(storage)
    sent = message.sent_date
    headers = {
        "From": message.sender,
        "To": "; ".join(filter(None, (_address(Recipient(each)) for each in storage.iter_recipient_storages()))),
        "Date": sent.isoformat(sep=" ", timespec="minutes") if sent else None,
        "Subject": message.subject,
    }
    return OutlookMessage(
        headers={name: value for name, value in headers.items() if value},
        plain=_text(lambda: message.body),
        page=_page(message),
        attachments=[attachment for each in storage.iter_attachment_storages() for attachment in _attachment(each)],
    )


def _page(message: oxmsg.Message) -> Decoded:
    properties = message.properties
    if (content := properties.binary_prop_value(constants.PID_HTML)) is None:
        return Decoded(_text(lambda: properties.str_prop_value(constants.PID_BODY_HTML)), "utf-16-le")
    return decode(content, declared=_text(lambda: properties.body_encoding))


def _text(ask: Callable[[], str | None]) -> str:
    """What a property says; nothing where its bytes are not in the encoding that the message claims."""
    try:
        return ask() or ""
    except (LookupError, ValueError):
        return ""


def _address(recipient: Recipient) -> str:
    name, address = recipient.name, recipient.email_address
    return f"{name} <{address}>" if name and name != address else address


def _attachment(storage: Storage) -> Iterator[OutlookAttachment]:
    attachment = Attachment(storage)
    name, content = attachment.file_name or "", attachment.file_bytes
    embedded = next((each for each in storage.storages if each.name.upper() == _EMBEDDED.upper()), None)
    if embedded is not None:
        yield OutlookAttachment(name, "", message_in(embedded, kind=_Embedded))
    elif content is not None:
        yield OutlookAttachment(name, attachment.mime_type or "", content)
