"""A nats-server of a test's own, to be killed, frozen and wiped."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START_S_MAX = 15.0
PORTS = range(20_000, 32_768)  # below the ephemeral ones: a client that knocks on a dead one may connect to itself


class NatsServer:
    """Same port and store over every restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it accepts connections."""
        executable = Path(sys.executable).parent / "nats-server"
        arguments = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "store")]
        log = self.folder / "nats.log"
        self._process = subprocess.Popen([executable, *arguments, "-l", str(log)])
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "store")


def _free_port() -> int:
    for port in random.sample(PORTS, 50):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
