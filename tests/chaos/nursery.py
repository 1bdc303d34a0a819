"""Starts services by forking from one process that has imported them already: a restart costs milliseconds, not a second.

Run as a program it reads a line of JSON per birth and answers with the child's process id:

    {"arguments": ["indexer"], "environment": {…}, "log": "…", "sabotage": ["…"]}

A child leads a process group of its own, runs exactly what the command `refdesk` runs, and dies with its nursery, which
ends with its standard input.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.chaos import sabotage

from refdesk.app import cli
from refdesk.app.embedded.launch import die_with_parent

ROOT = Path(__file__).parents[2]
SERVICES = ("documents", "indexer", "assistant")


class Nursery:
    """The parent's side of a running nursery."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator["Nursery"]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.nursery"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin
        try:
            yield cls(process)
        finally:
            process.stdin.close()
            await process.wait()

    async def bear(
        self, *arguments: str, environment: Mapping[str, str], log: Path, sabotage: Sequence[str] = ()
    ) -> int:
        """Start `refdesk` with these arguments; the process id. ``sabotage``: see there."""
        assert self._process.stdin and self._process.stdout
        wish = {"arguments": arguments, "environment": environment, "log": str(log), "sabotage": sabotage}
        async with self._turn:
            self._process.stdin.write(json.dumps(wish).encode() + b"\n")
            return int(await self._process.stdout.readline())


def main() -> None:
    """The nursery's own side: single-threaded, no event loop, so that forking is safe."""
    for name in SERVICES:
        import_module(f"refdesk.app.services.{name}")
    import_module("refdesk.app.commands.services")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    nursery = os.getpid()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(json.loads(line), nursery=nursery)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _live(wish: dict[str, Any], *, nursery: int) -> None:
    """A child's whole life."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    die_with_parent(parent=nursery, death_signal=signal.SIGKILL)
    log = os.open(str(wish["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(opened, descriptor)
    os.environ.clear()
    os.environ.update(wish["environment"])
    for name in wish["sabotage"]:
        sabotage.commit(name)
    sys.argv = ["refdesk", *wish["arguments"]]
    try:
        cli.main()
    except Exception:  # noqa: BLE001 (the child's border: its log shall say it)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
