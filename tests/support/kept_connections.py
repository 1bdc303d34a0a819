"""A server that promises to keep connections and does not: as one that closes them just when the next call comes."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


@asynccontextmanager
async def breaking_server(reply: bytes = b"{}", *, answers: bool = True) -> AsyncIterator[str]:
    """Its address. Every connection is good for one call, with this JSON as the reply; without ``answers``, for none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        if answers:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(reply), reply))
            await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
