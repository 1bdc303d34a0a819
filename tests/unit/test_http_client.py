"""The HTTP client on the token path, against real sockets: at once, to the end, and no longer than it is wanted."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_client import READ_AHEAD_BYTES_MAX, Connection, HttpClient, Reply, open_http_client

CERTIFICATE = Path(__file__).parents[1] / "data" / "tls"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

Answer = Callable[["Caller"], Awaitable[None]]


class Caller:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> bytes:
        """The next request; empty when the client has closed the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    def say(self, data: bytes) -> None:
        self.writer.write(data)


@asynccontextmanager
async def server(
    answer: Answer, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[HttpClient, list[Caller]]]:
    """A client of a server that treats each connection with ``answer``; the connections so far."""
    callers: list[Caller] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(Caller(reader, writer))
        with closing(writer):
            await answer(callers[-1])

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    async with open_http_client(f"http{'s' if tls else ''}://localhost:{port}/v1/") as client:
        try:
            async with asyncio.timeout(20):
                yield client, callers
        finally:
            for caller in callers:
                caller.writer.close()
            listening.close()


async def post(client: HttpClient, body: bytes = b"{}") -> Reply:
    return await client.post("/ask", body, headers={"Accept": "*/*"}, connect_s=5)


async def whole(reply: Reply, *, handed: bool = False) -> bytes:
    """Read, or handed over as it comes."""
    body = bytearray()

    def take(piece: bytes) -> bool:
        body.extend(piece)
        return True

    with closing(reply):
        if handed:
            await reply.each(take)
        while piece := await reply.read():
            body += piece
    return bytes(body)


async def test_each_piece_is_there_before_the_next_is_sent() -> None:
    """Really streaming: the server waits until the reader has what it sent last."""
    seen = asyncio.Queue[bytes]()

    async def answer(caller: Caller) -> None:
        await caller.request()
        caller.say(CHUNKED)
        for number in range(20):
            caller.say(b"2\r\n%02d\r\n" % number)
            assert await seen.get() == b"%02d" % number
        caller.say(b"0\r\n\r\n")

    async with server(answer) as (client, _):
        with closing(await post(client)) as reply:
            while piece := await reply.read():
                seen.put_nowait(piece)
        assert reply.complete


@pytest.mark.parametrize("handed", [False, True], ids=["read", "handed"])
@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"3\r\nabc\r\n2;note=x\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nabcde",
        HEAD + b"Connection: close\r\n\r\nabcde",
        b"HTTP/1.0 200 OK\r\n\r\nabcde",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 9\r\n\r\n" + HEAD + b"\r\nabcde",
    ],
    ids=["chunked", "length", "open-end", "http-1.0", "early-hints"],
)
async def test_a_body_is_read_to_its_end(sent: bytes, handed: bool) -> None:
    """However its end is told, even byte by byte."""

    async def answer(caller: Caller) -> None:
        await caller.request()
        for place in range(len(sent)):
            caller.say(sent[place : place + 1])
            await caller.writer.drain()

    async with server(answer) as (client, _):
        assert await whole(await post(client), handed=handed) == b"abcde"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50))
async def test_chunks_may_be_cut_anywhere(chunks: list[bytes], step: int) -> None:
    """The body is the same, whatever arrives together."""
    reply = Reply(Connection({}, loop=asyncio.get_running_loop()))  # a short body never touches the transport
    sent = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    for place in range(0, len(sent), step):
        assert not reply.complete
        reply.feed(sent[place : place + step])
    assert reply.complete
    assert await reply.read() == b"".join(chunks)


async def test_the_request_is_what_was_asked_for() -> None:
    """Path, host, headers and body."""
    requests = []

    async def answer(caller: Caller) -> None:
        requests.append(await caller.request())
        caller.say(b"HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno")

    async with server(answer) as (client, _):
        with closing(await post(client, b'{"a": 1}')) as reply:
            assert (reply.status, reply.headers["retry-after"], await reply.read()) == (429, "7", b"no")
        head, _, body = requests[0].partition(b"\r\n\r\n")
        assert body == b'{"a": 1}'
        host = client.url.removeprefix("http://").removesuffix("/v1").encode()
        assert head.split(b"\r\n") == [b"POST /v1/ask HTTP/1.1", b"Host: " + host, b"Accept: */*", b"Content-Length: 8"]


async def twice(caller: Caller) -> None:
    while await caller.request():
        caller.say(HEAD + b"Content-Length: 2\r\n\r\nok")


async def test_a_connection_is_used_again() -> None:
    """By one exchange after the other, never by two at a time."""
    async with server(twice) as (client, callers):
        for _ in range(3):
            assert await whole(await post(client)) == b"ok"
        assert len(callers) == 1
        first, second = await post(client), await post(client)
        assert (await whole(first), await whole(second)) == (b"ok", b"ok")
        assert len(callers) == 2


async def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    """Even when the client finds out only by asking."""
    hurt = asyncio.Event()

    async def answer(caller: Caller) -> None:
        await caller.request()
        caller.say(HEAD + b"Content-Length: 2\r\n\r\nok")
        if not hurt.is_set():
            hurt.set()
            await caller.request()  # and closes without an answer

    async with server(answer) as (client, callers):
        assert await whole(await post(client)) == b"ok"
        assert await whole(await post(client)) == b"ok"
        assert len(callers) == 2


async def test_a_reply_that_is_not_wanted_closes_its_connection() -> None:
    """That is what stops a model; the next exchange has a connection of its own."""
    gone = asyncio.Event()

    async def answer(caller: Caller) -> None:
        await caller.request()
        caller.say(CHUNKED + b"1\r\na\r\n")
        assert await caller.request() == b""
        gone.set()

    async with server(answer) as (client, _):
        with closing(await post(client)) as reply:
            assert await reply.read() == b"a"
        await gone.wait()


@pytest.mark.parametrize(
    "sent", [b"", CHUNKED + b"5\r\nab", HEAD + b"Content-Length: 5\r\n\r\nab", b"SSH-2.0-x\r\n\r\n"]
)
async def test_a_reply_that_breaks_off_is_an_error(sent: bytes) -> None:
    """Never a short body; what came before is read first."""

    async def answer(caller: Caller) -> None:
        await caller.request()
        caller.say(sent)

    async with server(answer) as (client, _):
        with pytest.raises(OSError, match=r"closed|HTTP"):
            await whole(await post(client))


async def test_what_comes_is_handed_over_at_once_until_it_is_enough() -> None:
    """Within the call that brings it; then the rest is nobody's."""
    reply, taken = Reply(Connection({}, loop=asyncio.get_running_loop())), list[bytes]()

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return len(taken) < 2

    reply.feed(CHUNKED + b"1\r\na\r\n")
    reading = asyncio.create_task(reply.each(take))
    await asyncio.wait([reading], timeout=0.001)
    assert taken == [b"a"]
    reply.feed(b"1\r\nb\r\n1\r\nc\r\n")
    assert taken == [b"a", b"bc"]
    reply.feed(b"1\r\nd\r\n")
    await asyncio.wait_for(reading, 5)
    assert taken == [b"a", b"bc"]


async def test_what_breaks_while_it_is_handed_over_is_raised_where_it_is_waited_for() -> None:
    """And nothing is handed over after it."""
    reply, taken = Reply(Connection({}, loop=asyncio.get_running_loop())), list[bytes]()

    def take(piece: bytes) -> bool:
        taken.append(piece)
        raise ValueError(piece)

    reading = asyncio.create_task(reply.each(take))
    await asyncio.wait([reading], timeout=0.001)
    for piece in (CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"):
        reply.feed(piece)
    with pytest.raises(ValueError, match="a"):
        await reading
    assert taken == [b"a"]


@pytest.mark.parametrize("handed", [False, True], ids=["read", "handed"])
async def test_a_reader_who_does_not_read_makes_the_server_wait(handed: bool) -> None:
    """Little is kept in memory, and nothing is lost."""
    size = 64 * READ_AHEAD_BYTES_MAX

    async def answer(caller: Caller) -> None:
        while b"{}" not in (request := await caller.request()) and request:
            caller.say(HEAD + b"Content-Length: 2\r\n\r\nok")
        caller.say(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        await caller.writer.drain()

    async with server(answer) as (client, callers):
        reply = await post(client)
        for _ in range(200):  # time enough to have read it all
            assert await whole(await post(client, b"[]")) == b"ok"
        assert callers[0].writer.transport.get_write_buffer_size() > size // 2
        assert await whole(reply, handed=handed) == bytes(size)


async def test_the_certificate_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority that the machine trusts, or no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE / "certificate.pem", CERTIFICATE / "key.pem")
    async with server(twice, tls=context) as (client, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(client)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE / "certificate.pem"))
    async with server(twice, tls=context) as (client, callers):
        for _ in range(2):
            assert await whole(await post(client)) == b"ok"
        assert len(callers) == 1


async def test_only_web_addresses_are_taken() -> None:
    """A mistake in a setting is told at the start."""
    for url in ("localhost:8000/v1", "ftp://models/v1", "http:///v1"):
        with pytest.raises(ConfigurationError):
            HttpClient(url)
