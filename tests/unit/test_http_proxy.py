"""A proxy between us and a model: it is told whole addresses, or tunnels TLS that it cannot read."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from refdesk.outside.http_client import open_http_client
from refdesk.outside.http_proxy import Proxy

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Forwarder:
    """A proxy that knows one place, whatever it is asked for; ``heads`` are what it was sent."""

    def __init__(self, port: int = 0, *, refuses: bool = False) -> None:
        self.heads: list[str] = []
        self._port = port
        self._refuses = refuses

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                if self._refuses:
                    writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                elif head.startswith("CONNECT"):
                    writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
                    await self._tunnel(reader, writer)
                    return
                else:
                    await reader.readexactly(2)
                    writer.write(REPLY)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        with closing(there_writer):
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def listening(forwarder: Forwarder, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0, ssl=tls)
    try:
        async with asyncio.timeout(20):
            yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(url: str, proxy: str, *, times: int = 1) -> bytes:
    body = b""
    async with open_http_client(url, proxy=Proxy(proxy)) as client:
        for _ in range(times):
            reply = await client.post("/ask", b"{}", headers={}, connect_s=5)
            with closing(reply):
                body = await reply.read_all()
    return body


async def test_a_plain_request_names_its_whole_address() -> None:
    """To the proxy, with its credentials; the model's name is looked up by nobody here."""
    forwarder = Forwarder()
    async with listening(forwarder) as port:
        assert await ask("http://model.invalid:8000/v1", f"http://me:secret@127.0.0.1:{port}", times=2) == b"ok"
    assert forwarder.heads[0].startswith(
        "POST http://model.invalid:8000/v1/ask HTTP/1.1\r\nHost: model.invalid:8000\r\n"
    )
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in forwarder.heads[1]


async def test_tls_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked against the model's own name, and kept for the next request."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "certificate.pem", CERTIFICATES / "key.pem")
    model = Forwarder()
    async with listening(model, tls=context) as model_port:
        proxy = Forwarder(model_port)
        async with listening(proxy) as port:
            assert await ask("https://localhost/v1", f"http://me:secret@127.0.0.1:{port}", times=2) == b"ok"
    assert len(proxy.heads) == 1
    assert proxy.heads[0].startswith("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nProxy-Authorization: ")
    assert [head.split("\r\n")[0] for head in model.heads] == ["POST /v1/ask HTTP/1.1"] * 2
    assert "Proxy" not in "".join(model.heads)


async def test_a_proxy_that_refuses_is_named() -> None:
    """Without its password."""
    async with listening(Forwarder(refuses=True)) as port:
        with pytest.raises(OSError, match=f"proxy 127.0.0.1:{port} answered 407"):
            await ask("https://model.invalid/v1", f"http://me:secret@127.0.0.1:{port}")
