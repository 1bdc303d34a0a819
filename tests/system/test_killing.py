"""Everything that Refdesk starts is killed here, once at least; nothing is lost and nothing is left behind."""

import asyncio
import random
import signal
from pathlib import Path

import psutil
import pytest
from tests.support.running import Refdesk, Said, running, start, until

DOCUMENTS = 200
VICTIMS = ("indexer", "nats", "valkey", "postgres")
SEED = 20261123


def word(number: int) -> str:
    """One that stands in document ``number`` alone."""
    return f"quib{'bcdfghjklm'[number // 100]}o{'bcdfghjklm'[number // 10 % 10]}u{'bcdfghjklm'[number % 10]}ax"


def write_documents(folder: Path) -> None:
    folder.mkdir()
    for number in range(DOCUMENTS):
        text = f"The crate {word(number)} stands in bay {number}. It holds rope, tar and spare lanterns."
        (folder / f"crate-{number:03}.md").write_text(text)


async def kill_along_the_way(refdesk: Refdesk, adding: "asyncio.Task[Said]") -> dict[str, int]:
    """Kill each victim once, at seeded counts of stored documents; the process ids killed."""
    chosen = random.Random(SEED)
    victims = chosen.sample(VICTIMS, len(VICTIMS))
    moments = sorted(chosen.sample(range(10, DOCUMENTS - 20), len(victims)))
    killed: dict[str, int] = {}
    for victim, moment in zip(victims, moments, strict=True):

        async def reached(moment: int = moment) -> bool:
            async with refdesk.open("GET", "/api/documents/backlog") as reply:
                counts = await reply.json() if reply.status == 200 else {}
            stored = sum(counts.get(f"documents_{state}", 0) for state in ("pending", "indexed", "failed"))
            return bool(stored >= moment or adding.done())

        await until(reached, what=f"{moment} documents are stored")
        process = refdesk.child(victim)
        process.kill()
        killed[victim] = process.pid
    return killed


async def healthy(refdesk: Refdesk) -> bool:
    async with refdesk.open("GET", "/health/ready") as reply:
        return reply.status == 200


@pytest.mark.timeout(300)
async def test_killing_each_part_while_200_documents_are_added_loses_none(tmp_path: Path) -> None:
    """The indexer, NATS, Valkey and PostgreSQL die once each; all documents are searchable, each exactly once."""
    write_documents(tmp_path / "crates")
    async with running(tmp_path, "--no-samples") as refdesk:
        async with asyncio.TaskGroup() as tasks:
            adding = tasks.create_task(refdesk.command("add", str(tmp_path / "crates"), "--json", within_s=240))
            killed = await kill_along_the_way(refdesk, adding)
        said = adding.result()
        assert said.code == 0, said
        assert said.last["indexed"] == DOCUMENTS
        await until(lambda: healthy(refdesk), what="everything runs again")
        assert set(killed) == set(VICTIMS)
        assert all(refdesk.child(victim).pid != pid for victim, pid in killed.items())
        for number in range(DOCUMENTS):
            hits = await refdesk.search(f"Where does the crate {word(number)} stand?", limit=20)
            found = [hit["title"] for hit in hits if word(number) in hit["passage"]]
            assert found == [f"crate-{number:03}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_signal_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """And the exit code is 0: it was asked to."""
    refdesk = await start(tmp_path, "--no-samples")
    try:
        await refdesk.ready()
        family = refdesk.family()
    finally:
        code = await refdesk.stop(number)
    assert code == 0
    assert len(family) > len(VICTIMS)
    assert not [process for process in family if process.is_running()]


async def test_a_killed_supervisor_leaves_no_process_behind_and_starts_again(tmp_path: Path) -> None:
    """What it started ends without it, and the same data directory serves the next start."""
    refdesk = await start(tmp_path, "--no-samples")
    try:
        await refdesk.ready()
        document = await refdesk.settled(await refdesk.upload("anchor.md", b"The Carrick anchor weighs 410 kilograms."))
        family = refdesk.family()
    finally:
        await refdesk.stop(signal.SIGKILL)
    left = await asyncio.to_thread(psutil.wait_procs, family, timeout=20)
    assert not left[1]
    async with running(tmp_path, "--no-samples") as again:
        assert (await again.document(document["id"]))["state"] == "indexed"
        assert "410 kilograms" in (await again.ask("How much does the Carrick anchor weigh?"))["text"]
