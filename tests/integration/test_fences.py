"""What the kernel refuses a parser process. Each attempt is made inside real fences, in a process of its own."""

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from refdesk.app.commands.checks.machine import check_fences
from refdesk.indexing.fences import PARSER_ID, UNLANDLOCKED
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.sandbox import Sandbox
from refdesk.settings.loading import load

INSIDE = Path(__file__).parents[1] / "support" / "fenced.py"
WITHIN_S = 180.0


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The directory that the fenced process may write. Its parents let others pass, as those of temporary files do."""
    everybodys = Path(tempfile.gettempdir()).resolve()
    for folder in (tmp_path, *tmp_path.parents):
        if everybodys in folder.parents:
            folder.chmod(0o711)
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def tried(own: Path, *attempts: tuple[str, object]) -> dict[str, Any]:
    """What became of each attempt: "refused", or what it got; and the `missing` fences."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(INSIDE), json.dumps(attempts)),
        cwd=own,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


async def test_a_parser_reaches_no_network(own: Path, listener: int) -> None:
    """Neither TCP, nor UDP, nor a unix socket of this machine's servers."""
    if not (said := await tried(own, ("connect", listener), ("datagram", listener), ("unix", str(own / "s")))):
        pytest.fail("nothing was tried")
    require_fences(said)
    assert [said[name] for name in ("connect", "datagram", "unix")] == ["refused"] * 3


async def test_a_parser_reads_and_writes_nothing_but_its_own(own: Path) -> None:
    """Not what everybody on this machine may read, and not the data directory beside it; its own directory it writes."""
    beside = own.parent / "data"
    beside.mkdir(mode=0o755)
    (beside / "content").write_text("somebody's")
    (beside / "content").chmod(0o666)
    attempts = [("read", str(beside / "content")), ("read", "/etc/shadow"), ("read", "/etc/passwd")]
    writes = [("write", str(beside / "content")), ("write", "/tmp/left-by-a-parser"), ("make", str(beside / "more"))]
    for attempt in (*attempts, *writes):
        said = await tried(own, attempt)
        require_fences(said)
        assert said[attempt[0]] == "refused", attempt
    assert (await tried(own, ("write", str(own / "page.png"))))["write"] == "done"
    assert (beside / "content").read_text() == "somebody's"


async def test_a_parser_touches_no_other_process(own: Path) -> None:
    """It does not signal, trace or look into its parent, and starts no program; itself it may end."""
    parent = os.getpid()
    said = await tried(own, ("signal", parent), ("trace", parent), ("look", parent), ("run", "/bin/true"), ("raise", 0))
    require_fences(said)
    assert {name: said[name] for name in ("signal", "trace", "look", "run", "raise")} == {
        "signal": "refused",
        "trace": "refused",
        "look": "refused",
        "run": "refused",
        "raise": "done",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
async def test_a_parser_that_root_starts_is_nobody(own: Path) -> None:
    """A user of its own, in no group, without any capability, for good."""
    said = await tried(own, ("status", 0), ("root", 0))
    status = dict(line.split(":\t", 1) for line in said["status"].splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == [str(PARSER_ID)] * 4
    assert status["Groups"].strip() == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], said["root"]) == ("1", "refused")


async def test_the_parsers_of_a_pool_stand_inside_these_fences() -> None:
    """The one that reads documents, not only the one that is tried here; it still knows Python's rarest encodings."""
    sandbox = await Sandbox.start(ParsingLimits())
    try:
        process = psutil.Process(sandbox.pid)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{sandbox.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert (status["NoNewPrivs"], status["Seccomp"], status["CapEff"]) == ("1", "2", "0" * 16)
        assert os.geteuid() != 0 or process.uids().real == PARSER_ID
    finally:
        await sandbox.stop()


def require_fences(said: dict[str, Any]) -> None:
    """Skips, and says so, where this kernel has no Landlock."""
    if UNLANDLOCKED in said["missing"]:
        pytest.skip(f"this kernel does not fence processes in: {said['missing']}")
    assert said["missing"] == []


async def test_the_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts such a process, and asks it; here Landlock is taken from the kernel for it."""
    [there] = [finding async for finding in check_fences(load(environ={}))]
    assert there.level in ("ok", "warn")
    started = Sandbox.start

    async def without(limits: ParsingLimits) -> Sandbox:
        sandbox = await started(limits)
        sandbox.unfenced = (UNLANDLOCKED,)
        return sandbox

    monkeypatch.setattr(Sandbox, "start", without)
    [found] = [finding async for finding in check_fences(load(environ={}))]
    assert found.level == "warn" and UNLANDLOCKED in found.what and "kernel" in found.mend
