"""What requests carry: a body that comes in time and within its bound, and the JSON in it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from refdesk.contracts.errors import BodyTooLarge, InvalidRequest, MalformedJson, RequestTooSlow
from refdesk.contracts.texts import WITHOUT_NUL

T = TypeVar("T")

JSON_BYTES_MAX = 1 << 20
"""Ceiling of a JSON request body, in bytes; uploads have their own."""
BODY_CLOCK = "refdesk.body_clock"
"""Where a request's scope says how long its body may take."""


class BodyClock(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request's body may take, and stand still, in seconds; and the error that says which setting that is."""

    total_s: float = 30.0
    pause_s: float = 10.0
    total_setting: str = "REFDESK_BODY_SECONDS_MAX"
    pause_setting: str = "REFDESK_BODY_PAUSE_SECONDS_MAX"
    error: type[RequestTooSlow] = RequestTooSlow

    def ran_out(self, received: int, *, paused: bool) -> RequestTooSlow:
        if paused:
            what, seconds, setting = "paused for more than", self.pause_s, self.pause_setting
        else:
            what, seconds, setting = "was not complete after", self.total_s, self.total_setting
        return self.error(
            f"The request's body {what} {seconds:g} s, with {received:,} bytes here. Send it again over a faster "
            f"connection, or raise {setting}.",
            limit=str(seconds),
            actual=received,
        )


async def body_pieces(request: Request, clock: BodyClock) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; raises the clock's error when it stalls or drips."""
    received, has_more = 0, True
    loop = asyncio.get_running_loop()
    end_s = loop.time() + clock.total_s
    while has_more:
        pause_end_s = loop.time() + clock.pause_s
        try:
            async with asyncio.timeout_at(min(pause_end_s, end_s)):
                message = await request.receive()
        except TimeoutError:
            raise clock.ran_out(received, paused=pause_end_s < end_s) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        has_more = message.get("more_body", False)
        if piece := message.get("body", b""):
            received += len(piece)
            yield piece


async def read_body(request: Request, *, bytes_max: int, clock: BodyClock | None = None) -> bytes:
    """The whole body; raises BodyTooLarge at the first piece past ``bytes_max``, RequestTooSlow by the clock."""
    pieces, total = [], 0
    async with aclosing(body_pieces(request, clock or request.scope.get(BODY_CLOCK) or BodyClock())) as arriving:
        async for piece in arriving:
            total += len(piece)
            if total > bytes_max:
                raise BodyTooLarge(
                    f"The request body is larger than {bytes_max:,} bytes. Send less.", limit=bytes_max, actual=total
                )
            pieces.append(piece)
    return b"".join(pieces)


async def read_json(
    request: Request, kind: type[T], *, bytes_max: int = JSON_BYTES_MAX, clock: BodyClock | None = None
) -> T:
    """The JSON body as ``kind``; raises MalformedJson or InvalidRequest, naming the field."""
    return decode_json(await read_body(request, bytes_max=bytes_max, clock=clock), kind)


def decode_json(body: bytes | str, kind: type[T]) -> T:
    """Raises MalformedJson or InvalidRequest, naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request is not valid: {said(error)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(f"The body is not valid JSON ({error}). Send a JSON object.") from error
    except RecursionError as error:
        raise MalformedJson("The body is nested too deeply. Send the JSON object that /openapi.json shows.") from error


def said(error: msgspec.ValidationError) -> str:
    """What is wrong, for people."""
    return str(error).replace(f"matching regex {WITHOUT_NUL!r}", "without NUL characters")
