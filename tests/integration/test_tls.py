"""TLS on our own port: the real server, a certificate that is renewed, a client that never finishes its handshake."""

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from starlette.responses import PlainTextResponse
from tests.integration.documents_desk import eventually
from tests.support.patience import within

from refdesk.app import server
from refdesk.app.services.common import plain_sockets, secure_sockets
from refdesk.app.tls import Certificate
from refdesk.contracts.errors import ConfigurationError
from refdesk.settings.tree import Settings
from refdesk.web.connections import ConnectionLimits

FILES = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key that a test may change."""
    for name in ("certificate.pem", "key.pem"):
        shutil.copy(FILES / name, tmp_path / name)
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[dict[str, int]]:
    """The ports of a server with these settings."""
    secure, plain = secure_sockets(settings), plain_sockets(settings)
    listeners = {"https": secure.sockets if secure else [], "http": plain}
    async with listening(secure, plain):
        yield {scheme: port_of(found) for scheme, found in listeners.items() if found}


@asynccontextmanager
async def listening(secure: server.Secure | None, plain: list[socket.socket]) -> AsyncIterator[None]:
    running = server.open_server(PlainTextResponse("served"), ConnectionLimits())
    running.secure = secure
    task = asyncio.create_task(running.serve(sockets=plain))
    await eventually(lambda: running.started)
    try:
        yield
    finally:
        running.stop()
        await task


def port_of(listeners: Sequence[socket.socket]) -> int:
    return int(listeners[0].getsockname()[1])


def with_tls(files: tuple[Path, Path], **changes: object) -> Settings:
    certificate, key = files
    given = {"port": 0, "tls_certificate": certificate, "tls_key": key, **changes}
    return Settings.of(**given)  # type: ignore[arg-type]


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=FILES / "certificate.pem")


async def get(url: str, *, tls: ssl.SSLContext | bool = True) -> str:
    async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as reply:
        return await reply.text()


async def test_the_port_speaks_tls_and_nothing_else(files: tuple[Path, Path]) -> None:
    """A client that trusts the certificate is served, one that does not is not, and plain HTTP gets no answer."""
    async with serving(with_tls(files)) as ports:
        assert set(ports) == {"https"}
        assert await get(f"https://localhost:{ports['https']}", tls=trusting()) == "served"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(f"https://localhost:{ports['https']}")
        with pytest.raises(aiohttp.ClientError):
            await get(f"http://localhost:{ports['https']}")


async def test_refdesks_own_services_have_a_plain_port_on_loopback(files: tuple[Path, Path]) -> None:
    """Beside the one that speaks TLS, on the same server; without TLS there is one port."""
    async with serving(with_tls(files, host="0.0.0.0", plain_port=0)) as ports:
        assert await get(f"http://127.0.0.1:{ports['http']}") == "served"
        assert await get(f"https://localhost:{ports['https']}", tls=trusting()) == "served"
    [plain] = plain_sockets(with_tls(files, plain_port=0))
    with plain:
        assert plain.getsockname()[0] == "127.0.0.1"
    async with serving(Settings.of(port=0)) as ports:
        assert set(ports) == {"http"}


async def test_old_versions_of_tls_are_refused(files: tuple[Path, Path]) -> None:
    """Nothing below 1.2."""
    assert Certificate(*files).context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_handshake_that_does_not_come_is_ended(files: tuple[Path, Path]) -> None:
    """As a request whose headers do not come."""
    async with serving(with_tls(files, headers_seconds_max=0.3)) as ports:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports["https"])
        async with within(10):
            assert await reader.read() == b""
        writer.close()


async def test_a_renewed_certificate_is_served_without_a_restart(files: tuple[Path, Path]) -> None:
    """Half of a pair, rubbish and nothing are not taken: the one before goes on."""
    certificate, key = files
    secure = secure_sockets(with_tls(files))
    assert secure is not None
    async with listening(secure, []):
        for damage in (
            lambda: shutil.copy(FILES / "renewed.pem", certificate),
            lambda: key.write_text("no key"),
            key.unlink,
        ):
            damage()
            secure.certificate.look()
            assert await served(secure) == (FILES / "certificate.pem").read_text()
        shutil.copy(FILES / "renewed-key.pem", key)
        secure.certificate.look()
        assert await served(secure) == (FILES / "renewed.pem").read_text()


async def served(secure: server.Secure) -> str:
    """The certificate that a new connection is shown."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port_of(secure.sockets)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_key": None}, "REFDESK_TLS_KEY is not set"),
        ({"tls_certificate": None}, "REFDESK_TLS_CERTIFICATE is not set"),
        ({"tls_certificate": Path("/no/such/file")}, "No such file"),
        ({"tls_key": FILES / "certificate.pem"}, "are not a certificate and its key"),
    ],
    ids=["no key", "no certificate", "no file", "no pair"],
)
def test_files_that_are_no_pair_are_named_at_the_start(
    files: tuple[Path, Path], change: dict[str, object], words: str
) -> None:
    """With what to give."""
    with pytest.raises(ConfigurationError, match=words):
        secure_sockets(with_tls(files, **change))
