"""The embedded NATS server with JetStream: loopback only, behind passwords, every message on disk before its ack.

It has no monitoring port, which would ask nobody who they are: what it says of itself, it says to a user of its system account.
"""

import asyncio
import contextlib
import json
import random
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from refdesk.app.embedded.children import Child, StartFailed
from refdesk.app.embedded.kept_secrets import kept_secret, write_private
from refdesk.app.embedded.processes import Program
from refdesk.app.embedded.pulse import Pulse

USER = "refdesk"
SYSTEM_USER = "system"
SYSTEM_ACCOUNT = "SYS"
PORTS = range(20_000, 32_768)
"""Below Linux's ephemeral ports. A client that tries again and again to reach a dead server on an ephemeral port will one
day be given that very port as its own, connect to itself, and keep the server from coming back."""
PORT_ATTEMPTS = 50
PROBE_TIMEOUT_S = 2.0
WRITE_ERROR = b"write error"  # nats-server/server/monitor.go, healthz
ASK_S = 2.0
BROKEN_S_MAX = 6.0
ROOM_BYTES_MIN = 64 * 1024 * 1024
START_TIMEOUT_S = 120.0
FILE_STORE_BYTES_MIN = 8 * 1024 * 1024 * 1024
STREAMS_RESERVED = 4
"""How many streams of the size that is asked for the store has room for. NATS sets the room of a stream aside when it is made."""
PAYLOAD_BYTES_MIN = 1024 * 1024
GO_MEMORY_SOFT_MAX = "256MiB"


@dataclass(frozen=True, kw_only=True)
class NatsPlace:
    """Where one embedded NATS server lives: its directory (passwords, settings, store), its binary and its port."""

    directory: Path
    binary: Path
    port: int
    stream_bytes_max: int = 1 << 30
    message_bytes_max: int = PAYLOAD_BYTES_MIN

    @property
    def url(self) -> str:
        """Carries the password. Raises OSError when it can be neither read nor written."""
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        """The same of the system account, in which there are no messages of ours."""
        return f"nats://{SYSTEM_USER}:{self.system_password}@127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        return kept_secret(self.directory / "token")

    @property
    def system_password(self) -> str:
        return kept_secret(self.directory / "system-password")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses now. Raises StartFailed when there seems to be none."""
    for port in random.sample(PORTS, PORT_ATTEMPTS):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed(f"No free port was found on 127.0.0.1 between {PORTS[0]} and {PORTS[-1]}.")


def nats_child(place: NatsPlace) -> Child:
    url = place.url
    settings = place.directory / "nats-server.conf"

    async def prepare() -> None:
        write_private(settings, json.dumps(_settings(place), indent=2))

    return Child(
        program=Program(
            name="nats",
            command=(str(place.binary), "-c", str(settings)),
            working_directory=place.directory,
            environment={"GOMEMLIMIT": GO_MEMORY_SOFT_MAX},
        ),
        healthy=lambda: answers(url),
        pulse=Pulse(
            beats=Writing(place).goes_on,
            look_s_max=PROBE_TIMEOUT_S,
            silence_s_max=BROKEN_S_MAX,
            silence="wrote nothing, although there is room on its disk again,",
        ),
        prepare=prepare,
        start_timeout_s=START_TIMEOUT_S,
    )


class Writing:
    """Whether NATS can write. After a full disk a stream of its stays broken, whatever room there is: only a start mends it."""

    def __init__(self, place: NatsPlace) -> None:
        self._place = place
        self._goes_on = True
        self._ask_at = 0.0

    async def goes_on(self) -> bool:
        """False when NATS says that it could not write, and there is room by now. It is asked every few seconds."""
        now = asyncio.get_running_loop().time()
        if now >= self._ask_at:
            self._ask_at = now + ASK_S
            broken = WRITE_ERROR in await self._health()
            self._goes_on = not broken or shutil.disk_usage(self._place.directory).free < ROOM_BYTES_MIN
        return self._goes_on

    async def _health(self) -> bytes:
        """What NATS says of itself to its system account; nothing when it does not answer."""
        try:
            return await _asked(self._place.monitoring_url, "$SYS.REQ.SERVER.PING.HEALTHZ")
        except (OSError, ValueError):
            return b""


async def answers(url: str) -> bool:
    """True when the server at `url` lets us in and its JetStream tells about our account."""
    try:
        reply = await _asked(url, "$JS.API.INFO")
        return bool(reply) and "error" not in json.loads(reply)
    except (OSError, ValueError):  # ValueError: a line longer than any of the protocol's
        return False


async def _asked(url: str, subject: str) -> bytes:
    """The reply to a request without content; nothing when the server does not let us in. Raises OSError and ValueError.

    The protocol is spoken here directly: it is four lines, the client library weighs a third of the supervisor's memory,
    and it leaves a socket open for each attempt that fails.
    """
    address = urlsplit(url)
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            connect = {"user": address.username, "pass": address.password, "verbose": False}
            writer.write(f"CONNECT {json.dumps(connect)}\r\nSUB probe 1\r\nPUB {subject} probe 0\r\n\r\n".encode())
            return await _first_message(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _first_message(reader: asyncio.StreamReader) -> bytes:
    while line := await reader.readline():
        if line.startswith(b"-ERR"):
            return b""
        if line.startswith(b"MSG "):
            return await reader.readline()
    return b""


def _settings(place: NatsPlace) -> dict[str, object]:
    """JSON is a subset of the server's configuration language, but for escapes such as \\u00fc: so no path stands in it."""
    return {
        "server_name": "refdesk",
        "listen": f"127.0.0.1:{place.port}",
        "authorization": {"users": [{"user": USER, "password": place.password}]},  # of the account that always was
        "accounts": {SYSTEM_ACCOUNT: {"users": [{"user": SYSTEM_USER, "password": place.system_password}]}},
        "system_account": SYSTEM_ACCOUNT,
        "max_payload": max(PAYLOAD_BYTES_MIN, place.message_bytes_max),
        "jetstream": {
            "store_dir": "store",  # in its working directory
            "max_memory_store": STREAMS_RESERVED * place.stream_bytes_max,
            "max_file_store": max(FILE_STORE_BYTES_MIN, STREAMS_RESERVED * place.stream_bytes_max),
            "sync_interval": "always",  # the default flushes every 2 minutes: acked messages die with the power
        },
    }
