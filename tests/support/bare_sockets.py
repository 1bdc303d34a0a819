"""Askers on bare sockets: what they send is bytes, and they read as slowly, and leave as rudely, as a test wants."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import msgspec

from tests.support.desk import Client, wait

WINDOW_BYTES = 4096
TEXT_FRAME, MASKED, LENGTH_16 = 0x81, 0x80, 126


Ask = Callable[[socket.socket, Client, str], Awaitable[None]]


def stream_request(client: Client, question: str, *, accept: str = "text/event-stream") -> bytes:
    body = msgspec.json.encode({"question": question})
    return _request(client, "POST /api/answers", f"Accept: {accept}\r\nContent-Length: {len(body)}") + body


def socket_handshake(client: Client) -> bytes:
    headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    return _request(client, "GET /api/answers/ws", headers + "dGhlIHNhbXBsZSBub25jZQ==")


def socket_question(question: str) -> bytes:
    return frame(msgspec.json.encode({"type": "ask", "question": question}))


async def ask_by_stream(reader: socket.socket, client: Client, question: str) -> None:
    await _send(reader, stream_request(client, question))


async def ask_by_socket(reader: socket.socket, client: Client, question: str) -> None:
    await _send(reader, socket_handshake(client))
    reply = b""
    while not reply.endswith(b"\r\n\r\n"):
        reply += await asyncio.get_running_loop().sock_recv(reader, 1)
    await _send(reader, socket_question(question))


def frame(message: bytes) -> bytes:
    """One masked text frame, as a client sends it."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[position % 4] for position, byte in enumerate(message))
    if len(message) < LENGTH_16:
        return bytes([TEXT_FRAME, MASKED | len(message)]) + mask + masked
    return bytes([TEXT_FRAME, MASKED | LENGTH_16]) + struct.pack("!H", len(message)) + mask + masked


def _request(client: Client, line: str, headers: str) -> bytes:
    key = client.headers["Authorization"]
    return f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n{headers}\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def reading_slowly(
    client: Client, question: str, asks: list[Ask], *, byte_every_s: float
) -> AsyncIterator[set[int]]:
    """A connection for each ask, half of them read a byte at a time, the others never; yields their ports."""
    with contextlib.ExitStack() as opened:
        readers = [opened.enter_context(_connection(client)) for _ in asks]
        async with asyncio.TaskGroup() as tasks:
            for reader, ask in zip(readers, asks, strict=True):
                await ask(reader, client, question)
            dripping = [tasks.create_task(_drip(reader, byte_every_s)) for reader in readers[: len(readers) // 2]]
            yield {reader.getsockname()[1] for reader in readers}
            for task in dripping:
                task.cancel()


def _connection(client: Client) -> socket.socket:
    address = urlsplit(client.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
    reader.connect((address.hostname, address.port))
    reader.setblocking(False)
    return reader


async def _send(reader: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(reader, data)


async def _drip(reader: socket.socket, every_s: float) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(reader, 1):
            await wait(every_s)
