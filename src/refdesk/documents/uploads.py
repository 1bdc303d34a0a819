"""From a request's body to a `Change`: multipart forms and JSON, bounded while they are read.

A form's file goes to a temporary file as it arrives and from there into the blob directory; it is never in memory whole.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from refdesk.contracts.errors import BodyTooLarge, InvalidRequest, Unavailable, UnsupportedMediaType, UploadTooSlow
from refdesk.contracts.texts import Text, whole_number
from refdesk.documents.changes import Change, Limits, filename
from refdesk.documents.contents import too_large
from refdesk.documents.service import DocumentService
from refdesk.outside.storage_errors import translated
from refdesk.web.bodies import BodyClock, body_pieces, decode_json, read_body

FIELDS = ("title", "readers", "tags", "external_id", "url")
FIELDS_MAX = 128
FIELD_BYTES_MAX = 8 * 1024
FORM_BYTES = 256 * 1024
"""What a form may need beside its file: part headers, boundaries and the small fields."""
TEXT_MEDIA_TYPE = "text/markdown"


class UploadForm(msgspec.Struct, frozen=True, kw_only=True):
    """A document as a form. ``readers`` and ``tags`` may be repeated, or separated by commas."""

    file: Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})] | None = None
    title: str | None = None
    readers: list[str] | None = None
    tags: list[str] | None = None
    external_id: str | None = None
    url: str | None = None


class TextDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document as JSON."""

    title: Text | None = None
    text: str | None = None
    media_type: Text | None = None
    """Of the text; ``text/markdown`` unless said otherwise."""
    readers: list[Text] | None = None
    tags: list[Text] | None = None
    external_id: Text | None = None
    url: Text | None = None


class _Outline(msgspec.Struct, frozen=True):
    """The same as far as it is lists, not decoded."""

    readers: msgspec.Raw = msgspec.Raw()
    tags: msgspec.Raw = msgspec.Raw()


async def read_change(request: Request, service: DocumentService) -> Change:
    """The body as a change; its content, if any, is in the blob directory then.

    Raises BodyTooLarge, InvalidRequest, UnsupportedMediaType.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with _form(request, service.limits) as form:
            return await _change_of_form(form, service)
    if media_type == "application/json":
        return await _change_of_json(request, service)
    raise UnsupportedMediaType(
        f"Content-Type {media_type[:100] or '(none)'!r} is not taken here. Send multipart/form-data with a part `file`, "
        "or application/json with `title` and `text`."
    )


async def _change_of_json(request: Request, service: DocumentService) -> Change:
    bytes_max = service.limits.text_bytes_max
    _refuse_announced(request, bytes_max)
    body = await read_body(request, bytes_max=bytes_max, clock=_clock(service.limits))
    given, text = await asyncio.to_thread(_decoded, body)
    content = None
    if text is not None:
        content = await service.contents.keep_text(
            io.BytesIO(text), bytes_count=len(text), media_type=given.media_type or TEXT_MEDIA_TYPE
        )
    elif given.media_type is not None:
        raise InvalidRequest("media_type says what `text` is; there is no `text`.", field="media_type")
    return Change(
        content=content,
        title=given.title,
        readers=None if given.readers is None else tuple(given.readers),
        tags=None if given.tags is None else tuple(given.tags),
        external_id=given.external_id,
        url=given.url,
    )


def _decoded(body: bytes) -> tuple[TextDocument, bytes | None]:
    """The document and its text as it is stored.

    Decoding holds the interpreter, in whatever thread: so nothing but the text may be long, and long lists are refused unread.
    """
    if len(body) > FORM_BYTES:
        outline = decode_json(body, _Outline)
        for field in msgspec.structs.fields(_Outline):
            length = len(getattr(outline, field.name))
            if length > FORM_BYTES:
                raise InvalidRequest(
                    f"{field.name} has {length:,} bytes; the limit is {FORM_BYTES:,}. Use fewer.",
                    field=field.name,
                    limit=FORM_BYTES,
                    actual=length,
                )
    given = decode_json(body, TextDocument)
    return given, None if given.text is None else given.text.encode()


async def _change_of_form(form: FormData, service: DocumentService) -> Change:
    fields = _fields(form)
    change = Change(
        title=_one(fields, "title"),
        readers=_several(fields, "readers"),
        tags=_several(fields, "tags"),
        external_id=_one(fields, "external_id"),
        url=_one(fields, "url"),
    ).checked(service.limits)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        return change
    name = filename(file.filename, service.limits)
    content = await service.contents.keep(
        file.file, bytes_count=file.size or 0, filename=name, declared=file.content_type
    )
    return msgspec.structs.replace(change, content=content, filename=name)


def _fields(form: FormData) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise InvalidRequest(f"The file came as part {name[:60]!r}. Name the part `file`.", field="file")
        elif name not in FIELDS:
            raise InvalidRequest(
                f"The form has a field {name[:60]!r}. It may have: file (with a filename), {', '.join(FIELDS)}."
            )
        else:
            fields.setdefault(name, []).append(value)
    return fields


def _one(fields: dict[str, list[str]], name: str) -> str | None:
    values = fields.get(name, [])
    if len(values) > 1:
        raise InvalidRequest(f"{name} was given {len(values)} times. Give it once.", field=name)
    return values[0] if values else None


def _several(fields: dict[str, list[str]], name: str) -> tuple[str, ...] | None:
    """Repeated fields, each with one entry or several separated by commas."""
    if name not in fields:
        return None
    return tuple(entry.strip() for value in fields[name] for entry in value.split(",") if entry.strip())


class _FormParser(MultiPartParser):
    """Refuses a form without its end, whose last part would otherwise be dropped without a word."""

    ended = False

    def on_end(self) -> None:
        self.ended = True

    async def parse(self) -> FormData:
        try:
            with translated("The directory for temporary files"):
                form = await super().parse()
        except Unavailable:
            self._close_files()
            raise
        if not self.ended:
            self._close_files()
            raise MultiPartException("It ends before its last boundary.")
        return form

    def _close_files(self) -> None:
        for file in self._files_to_close_on_error:
            file.close()


@asynccontextmanager
async def _form(request: Request, limits: Limits) -> AsyncIterator[FormData]:
    """The parsed form; its temporary file is closed on leaving."""
    _refuse_announced(request, limits.upload_bytes_max + FORM_BYTES, limit=limits.upload_bytes_max)
    pieces = _pieces(request, limits)
    parser = _FormParser(request.headers, pieces, max_files=1, max_fields=FIELDS_MAX, max_part_size=FIELD_BYTES_MAX)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The form cannot be read: {error.message}") from error
    finally:
        await pieces.aclose()
    try:
        yield form
    finally:
        await form.close()


async def _pieces(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Raises BodyTooLarge at the first piece too many, UploadTooSlow when it stalls or drips."""
    total = 0
    async with aclosing(body_pieces(request, _clock(limits))) as pieces:
        async for piece in pieces:
            total += len(piece)
            if total > limits.upload_bytes_max + FORM_BYTES:
                raise too_large(total, limits.upload_bytes_max)
            yield piece


def _clock(limits: Limits) -> BodyClock:
    return BodyClock(
        total_s=limits.upload_s_max,
        pause_s=limits.upload_pause_s_max,
        total_setting="REFDESK_UPLOAD_SECONDS_MAX",
        pause_setting="REFDESK_UPLOAD_PAUSE_SECONDS_MAX",
        error=UploadTooSlow,
    )


def _refuse_announced(request: Request, bytes_max: int, *, limit: int | None = None) -> None:
    """Refuse by Content-Length before anything is read."""
    announced = whole_number(request.headers.get("content-length", ""))
    if announced is not None and announced > bytes_max:
        if limit is not None:
            raise too_large(announced, limit)
        raise BodyTooLarge(
            f"The JSON body has {announced:,} bytes; the limit is {bytes_max:,}. Upload the text as a file.",
            limit=bytes_max,
            actual=announced,
        )
