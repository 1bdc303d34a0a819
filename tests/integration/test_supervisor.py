"""The supervisor as a process of its own: signalled, killed, and started twice."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.desk import wait

import refdesk

PROGRAM = Path(__file__).with_name("supervised.py")
WITHIN_S = 180.0


class Supervised:
    """A running `supervised.py` and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process, *, port: int) -> None:
        self.process = process
        self.port = port
        """Of its service."""
        self.news: list[dict[str, Any]] = []
        self._seen: list[psutil.Process] = []

    async def until(self, state: str, *, child: str | None = None) -> dict[str, Any]:
        """Read on until it reports this state."""
        assert self.process.stdout
        async with asyncio.timeout(WITHIN_S):
            async for line in self.process.stdout:
                self.news.append(json.loads(line))
                if self.news[-1]["state"] == state and self.news[-1].get("child") == child:
                    return self.news[-1]
        raise AssertionError(f"it ended without being {state}: {self.news} {await self.said()}")

    async def said(self) -> str:
        assert self.process.stderr
        return (await self.process.stderr.read()).decode()

    async def ended(self) -> int:
        """Its exit code, after reading the rest of its news."""
        assert self.process.stdout
        async with asyncio.timeout(WITHIN_S):
            self.news += [json.loads(line) async for line in self.process.stdout]
            return await self.process.wait()

    def family(self) -> list[psutil.Process]:
        """All its descendants that run now."""
        self._seen = psutil.Process(self.process.pid).children(recursive=True)
        return self._seen

    async def end(self) -> None:
        """Whatever the test did or did not achieve, nothing of it stays."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


Start = Callable[..., Awaitable[Supervised]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a supervisor on the test's data directory; at the end none is left."""
    started: list[Supervised] = []

    async def start(kind: str = "plain") -> Supervised:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            str(tmp_path / "data"),
            kind,
            str(port),
            env={**os.environ, "PYTHONPATH": str(Path(refdesk.__file__).parents[1])},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(Supervised(process, port=port))
        return started[-1]

    yield start
    for supervised in started:
        await supervised.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def all_gone(processes: list[psutil.Process], *, within_s: float = WITHIN_S) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=within_s)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


async def test_servers_start_before_services_and_stop_after_them(start: Start) -> None:
    """SIGTERM ends everything in reverse order, exit code 0, and leaves no process."""
    supervised = await start()
    ready = await supervised.until("ready")
    family = supervised.family()
    assert [news["child"] for news in supervised.news[:4]][3] == "desk"
    supervised.process.send_signal(signal.SIGTERM)
    assert await supervised.ended() == 0
    assert next(news["child"] for news in supervised.news if news["state"] == "stopped") == "desk"
    assert len(family) > 5
    await all_gone(family)
    assert ready["nats_url"]


async def test_services_are_told_the_addresses(start: Start, tmp_path: Path) -> None:
    """Through their environment."""
    supervised = await start()
    ready = await supervised.until("ready")
    assert (tmp_path / "data" / "served").read_text(encoding="utf-8") == ready["nats_url"]


async def test_ctrl_c_reaches_only_the_supervisor(start: Start) -> None:
    """No child is in its process group; each leads a session, so that one that stands back does so alone."""
    supervised = await start()
    await supervised.until("ready")
    children = psutil.Process(supervised.process.pid).children()
    assert all(os.getsid(child.pid) == child.pid for child in children if "guardian" not in "".join(child.cmdline()))
    groups = {os.getpgid(process.pid) for process in supervised.family()}
    assert os.getpgid(supervised.process.pid) not in groups
    supervised.process.send_signal(signal.SIGINT)
    assert await supervised.ended() == 0


async def test_a_service_that_dies_is_started_again(start: Start, tmp_path: Path) -> None:
    """With one line that says so."""
    supervised = await start()
    await supervised.until("ready")
    record = json.loads((tmp_path / "data" / "run" / "desk.pid").read_text(encoding="utf-8"))
    os.kill(record["pid"], signal.SIGKILL)
    failed = await supervised.until("failed", child="desk")
    assert "desk was ended by signal 9 (Killed); starting it again in 0.1 s" in failed["message"]
    await supervised.until("healthy", child="desk")


def service_pid(tmp_path: Path) -> int:
    return int(json.loads((tmp_path / "data" / "run" / "desk.pid").read_text(encoding="utf-8"))["pid"])


async def stop_process(supervised: Supervised, folder: Path) -> None:
    os.kill(service_pid(folder), signal.SIGSTOP)


async def block_loop(supervised: Supervised, _: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", supervised.port)
    writer.write(b"GET /freeze HTTP/1.0\r\n\r\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("freeze", [stop_process, block_loop])
async def test_a_service_that_freezes_is_started_again(
    start: Start, tmp_path: Path, freeze: Callable[[Supervised, Path], Awaitable[None]]
) -> None:
    """Stopped by a signal or busy for ever: after its silence it is killed, whatever grace it has, and back."""
    supervised = await start()
    await supervised.until("ready")
    frozen = service_pid(tmp_path)
    await freeze(supervised, tmp_path)
    failed = await supervised.until("failed", child="desk")
    assert "desk gave no sign of life for 2 s and was killed; starting it again" in failed["message"]
    await supervised.until("healthy", child="desk")
    assert service_pid(tmp_path) != frozen


async def test_a_machine_that_stood_still_restarts_nothing(start: Start, tmp_path: Path) -> None:
    """When supervisor and service have both slept, for longer than a silence may last."""
    supervised = await start()
    await supervised.until("ready")
    asleep = [supervised.process.pid, service_pid(tmp_path)]
    for process in asleep:
        os.kill(process, signal.SIGSTOP)
    await wait(5.0)
    for process in reversed(asleep):
        os.kill(process, signal.SIGCONT)
    await wait(3.0)
    supervised.process.send_signal(signal.SIGTERM)
    assert await supervised.ended() == 0
    assert not [news for news in supervised.news if news["state"] == "failed"]


async def test_a_service_that_cannot_start_ends_the_start(start: Start) -> None:
    """With what it said, exit code 1, and no process left."""
    supervised = await start("broken")
    await supervised.until("healthy", child="postgres")
    family = supervised.family()
    assert await supervised.ended() == 1
    assert "desk ended with exit code 1. It said: the widget is missing" in await supervised.said()
    await all_gone(family)


async def test_nothing_survives_a_killed_supervisor(start: Start) -> None:
    """Neither the servers, nor a service that is deaf to SIGTERM, nor its child, nor the guardian."""
    supervised = await start("deaf")
    await supervised.until("ready")
    family = supervised.family()
    supervised.process.kill()
    await all_gone(family)


async def test_a_start_after_a_crash_ends_what_was_left(start: Start) -> None:
    """The supervisor and its guardian are killed; the next start ends the deaf service, says so, and works."""
    first = await start("deaf")
    await first.until("ready")
    family = first.family()
    next(process for process in family if "guardian.py" in " ".join(process.cmdline())).kill()
    first.process.kill()
    await first.process.wait()
    second = await start()
    swept = await second.until("swept", child="desk")
    assert "had crashed" in swept["message"]
    await second.until("ready")
    await all_gone(family)


async def test_a_second_ctrl_c_hurries(start: Start) -> None:
    """A deaf service with a minute of grace is killed at once, and its child with it."""
    supervised = await start("deaf")
    await supervised.until("ready")
    family = supervised.family()
    supervised.process.send_signal(signal.SIGINT)
    await supervised.until("stopping", child="refdesk")  # two signals at once would count as one
    supervised.process.send_signal(signal.SIGINT)
    assert await supervised.ended() == 0
    await all_gone(family)


async def test_the_first_signal_may_come_while_starting(start: Start) -> None:
    """What was started is stopped, exit code 0."""
    supervised = await start()
    await supervised.until("healthy", child="valkey")
    family = supervised.family()
    supervised.process.send_signal(signal.SIGTERM)
    assert await supervised.ended() == 0
    await all_gone(family)


async def test_a_second_supervisor_is_refused(start: Start) -> None:
    """One sentence, exit code 1, and the first one goes on."""
    first = await start()
    await first.until("ready")
    second = await start()
    assert await second.ended() == 1
    said = await second.said()
    assert said.startswith(f"Another `refdesk up` (process {first.process.pid}) runs on ")
    assert first.process.returncode is None
