"""A nats-server of a test's own, to be killed, frozen and wiped."""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_S_MAX = 60.0
PORTS = range(20_000, 32_768)  # below the ephemeral ones: a client that knocks on a dead one may connect to itself


class NatsServer:
    """Same ports and store over every restart. ``jetstream``: more settings of its JetStream; ``more``: of the server."""

    def __init__(
        self, folder: Path, *, jetstream: Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.port, self.monitoring_port = free_ports(2)
        self._more = more or {}
        self._jetstream = {"store_dir": str(folder / "store"), **(jetstream or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        return f"http://127.0.0.1:{self.monitoring_port}"

    def start(self) -> None:
        """Returns once it accepts connections."""
        executable = Path(sys.executable).parent / "nats-server"
        log, settings = self.folder / "nats.log", self.folder / "nats.conf"
        listen, monitoring = (f"127.0.0.1:{port}" for port in (self.port, self.monitoring_port))
        given = {"listen": listen, "http": monitoring, "jetstream": self._jetstream, **self._more}
        settings.write_text(json.dumps(given))
        self._process = subprocess.Popen([executable, "-c", str(settings), "-l", str(log)])
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
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals) -> None:
        """End it by this signal, if it runs; returns when it has ended."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "store")


def free_ports(count: int) -> list[int]:
    free: list[int] = []
    for port in random.sample(PORTS, 50):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise AssertionError("no free ports")
