"""Every fault is named by the right service within ten seconds, by `doctor` too, and is over without a hand when it ends."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect
from playwright.async_api import Error as PlaywrightError
from redis.asyncio import Redis
from tests.chaos import faults
from tests.chaos.cluster import HEADERS, OPERATOR_KEY, Cluster, open_cluster
from tests.chaos.faults import EACH_DOWN_AND_SLOW, FAULTS, Fault, Models, Scene
from tests.chaos.links import Link
from tests.chaos.nursery import Nursery
from tests.chaos.writers import Tell
from tests.support.running import until

from refdesk.app.commands.checks.running import check_running
from refdesk.settings.loading import load

NAMED_S_MAX = 10.0
OVER_S_MAX = 45.0
PAGE_MS_MAX = 15_000
SERVICES = ("documents", "assistant", "indexer-1")
SHORT = (
    "content directory full",
    "keys cannot be read",
    "changes exhaust their pool",
    "stream of documents full",
    "Valkey a replica",
)
HEAD = "| fault | named by | after | doctor | over after |\n| --- | --- | --- | --- | --- |"
TABLE = Path(__file__).parents[2] / "docs" / "howto" / "operate.md"

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")


@pytest.mark.timeout(500)
async def test_faults_are_named_and_pass(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """One of each kind."""
    await suffer(nursery, tmp_path, tell, [fault for fault in FAULTS if fault.name in SHORT])


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_every_fault_is_named_and_passes(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """All of them, one after the other, and none needs a restart."""
    await suffer(nursery, tmp_path, tell, FAULTS)


PAGE_HEAD = "| fault | readiness | doctor | operations | page |\n| --- | --- | --- | --- | --- |"


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_the_operations_page_names_what_is_down_or_slow(
    nursery: Nursery, tmp_path: Path, tell: Tell, browser: Browser
) -> None:
    """Each of PostgreSQL, NATS, Valkey, the model and the Document Service: first of all, and in the page's first line."""
    async with open_scene(tmp_path, nursery) as scene, await browser.new_context(extra_http_headers=HEADERS) as context:
        page = await context.new_page()
        await well(scene.cluster)
        await page.goto(scene.cluster.address("/#operations", of="assistant"))
        rows, failures = [PAGE_HEAD], []
        for fault in EACH_DOWN_AND_SLOW:
            try:
                rows.append(await be_seen(scene, fault, page))
            except (AssertionError, PlaywrightError) as error:
                failures.append(f"{fault.name}: {error}")
                rows.append(f"| {fault.name} | FAILED | | | |")
            tell(rows[-1])
        tell("\n".join(["", *rows, "", f"{len(EACH_DOWN_AND_SLOW) - len(failures)} of {len(EACH_DOWN_AND_SLOW)}"]))
        assert not failures, "\n".join(failures)


async def be_seen(scene: Scene, fault: Fault, page: Page) -> str:
    cluster = scene.cluster
    async with fault.happens(scene):
        began = time.monotonic()
        await until(lambda: named(cluster, fault), what=f"{fault.name}: it is named", within_s=NAMED_S_MAX)
        named_s = time.monotonic() - began
        told = await doctor(cluster, fault)
        await until(lambda: leads(cluster, fault), what=f"{fault.name}: operations name it first", within_s=NAMED_S_MAX)
        operations_s = time.monotonic() - began
        await page.reload()
        verdict = page.get_by_test_id("operations-status")
        await expect(verdict).to_have_text(re.compile(f": ({'|'.join(first_of(fault))})\\b"), timeout=PAGE_MS_MAX)
        said = await verdict.inner_text()
    await well(cluster, within_s=OVER_S_MAX, what=fault.name)
    return f"| {fault.name} | {named_s:.1f} s | {told} | {operations_s:.1f} s | {said} |"


def first_of(fault: Fault) -> tuple[str, ...]:
    """The part that the assistant names of it. Its databases are on one server: either may come first."""
    name = fault.seen["assistant"][0]
    return ("index database", "access database") if name == "index database" else (name,)


async def leads(cluster: Cluster, fault: Fault) -> bool:
    """It stands before whatever else suffers from it."""
    status, seen = await cluster.call("GET", "/api/operations", of="assistant")
    return status == 200 and seen["culprits"][:1] != [] and seen["culprits"][0] in first_of(fault)


async def suffer(nursery: Nursery, folder: Path, tell: Tell, chosen: Sequence[Fault]) -> None:
    async with open_scene(folder, nursery) as scene:
        await well(scene.cluster)
        assert await parts(scene.cluster) == table()
        rows, failures = [HEAD], []
        for fault in chosen:
            try:
                rows.append(await suffer_one(scene, fault))
            except AssertionError as error:
                failures.append(f"{fault.name}: {error}")
                rows.append(f"| {fault.name} | FAILED | | | |")
            tell(rows[-1])
        tell("\n".join(["", *rows, "", f"{len(chosen) - len(failures)} of {len(chosen)}"]))
        assert not failures, "\n".join(failures)
        restarted = {name for name, member in scene.cluster.members.items() if member.lives > 1}
        assert restarted <= {"documents", "postgres", "nats", "valkey"}, "a service has ended under a fault"


async def suffer_one(scene: Scene, fault: Fault) -> str:
    cluster = scene.cluster
    async with fault.happens(scene):
        began = time.monotonic()
        await until(lambda: named(cluster, fault), what=f"{fault.name}: it is named", within_s=NAMED_S_MAX)
        named_s = time.monotonic() - began
        told = await doctor(cluster, fault)
        await until(lambda: shown(cluster, fault), what=f"{fault.name}: operations name it", within_s=NAMED_S_MAX)
        for name in set(SERVICES) - _away(fault):
            assert (await cluster.call("GET", "/health/live", of=name))[0] == 200, name
        if fault.refusal is not None:
            assert await refusal(cluster) == fault.refusal, fault.name
    began = time.monotonic()
    await well(cluster, within_s=OVER_S_MAX, what=fault.name)
    if fault.refusal is not None:
        status, body = await upload(cluster)
        assert status == 201, body
    over_s = time.monotonic() - began
    services = ", ".join(f"{name} ({part}: {level})" for name, (part, level) in fault.seen.items())
    return f"| {fault.name} | {services} | {named_s:.1f} s | {told} | {over_s:.1f} s |"


def _away(fault: Fault) -> set[str]:
    return {"documents"} if fault.name.startswith("Document Service") else set()


async def verbose(cluster: Cluster, name: str) -> tuple[int, dict[str, Any]]:
    status, body = await cluster.call("GET", "/health/ready?verbose", of=name)
    return status, body or {}


async def named(cluster: Cluster, fault: Fault) -> bool:
    """By every service that suffers from it, at its level or worse, in words that say what it is."""
    for name, (part, level) in fault.seen.items():
        status, body = await verbose(cluster, name)
        worse = body.get("unavailable", ())
        if part not in (*body.get(level, ()), *worse) or fault.says not in body["parts"][part]:
            return False
        if (status == 503) != bool(worse):
            return False
    return True


async def shown(cluster: Cluster, fault: Fault) -> bool:
    """On the operations page, where the assistant suffers from it: among the culprits."""
    if "assistant" not in fault.seen:
        return True
    status, seen = await cluster.call("GET", "/api/operations", of="assistant")
    return status == 200 and fault.seen["assistant"][0] in seen["culprits"]


async def doctor(cluster: Cluster, fault: Fault) -> str:
    """What `refdesk doctor` says of the first of these services: the finding's level."""
    name, (part, _) = next(iter(fault.seen.items()))
    given = {"url": cluster.address("", of=name), "api_key": OPERATOR_KEY}
    findings = [finding async for finding in check_running(load(given, environ={}))]
    [told] = [finding for finding in findings if finding.name == f"running Refdesk, {part}"]
    assert told.level != "ok" and told.mend, told
    return told.level


async def well(cluster: Cluster, *, within_s: float = 60.0, what: str = "at first") -> None:
    async def all_ok() -> bool:
        answers = [await verbose(cluster, name) for name in SERVICES]
        return all(status == 200 and body.get("status") == "ok" for status, body in answers)

    try:
        await until(all_ok, what=f"all is well: {what}", within_s=within_s)
    except AssertionError:
        raise AssertionError({name: await verbose(cluster, name) for name in SERVICES}) from None


async def upload(cluster: Cluster) -> tuple[int, Any]:
    body = {"title": "Upload", "text": f"# Upload\n\n{os.urandom(16).hex()}"}
    return await cluster.call("POST", "/api/documents", json=body)


async def refusal(cluster: Cluster) -> tuple[int, str]:
    """Of an upload: retryable, and with when to come again."""
    status, body = await upload(cluster)
    assert body["retryable"] and body["retry_after"] >= 1, body
    return status, body["type"]


async def parts(cluster: Cluster) -> dict[str, set[str]]:
    """The parts that each service looks at."""
    return {name: set((await verbose(cluster, name))[1]["parts"]) for name in SERVICES}


NOT_HERE = {"Qdrant", "identity provider"}
"""Parts that the scene does not have."""


def table() -> dict[str, set[str]]:
    """The same as docs/howto/operate.md has it."""
    rows = TABLE.read_text(encoding="utf-8").partition("| part | Document Service |")[2].partition("\n\n")[0]
    found: dict[str, set[str]] = {name: set() for name in SERVICES}
    for row in rows.splitlines()[2:]:
        _, part, *levels, _ = (cell.strip() for cell in row.split("|"))
        for name, level in zip(SERVICES, levels, strict=True):
            if level != "–" and part not in NOT_HERE:
                found[name].add(part)
    return found


def test_faults_agree_with_the_table() -> None:
    """What is needed makes its service not ready; what is not degrades it, whatever befalls it."""
    rows = TABLE.read_text(encoding="utf-8").partition("| part | Document Service |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()[2:]]
    levels = {(name, row[0]): row[n + 1] for row in cells for n, name in enumerate(SERVICES)}
    for fault in FAULTS:
        for name, (part, level) in fault.seen.items():
            assert levels[name, part] == "needed" or level == "degraded", (fault.name, name, part)
            assert levels[name, part] != "–", (fault.name, name, part)


@contextlib.asynccontextmanager
async def open_scene(folder: Path, nursery: Nursery) -> AsyncIterator[Scene]:
    content, tablespace = folder / "content", folder / "tablespace"
    async with contextlib.AsyncExitStack() as stack:
        for place, size in ((content, faults.CONTENT_BYTES), (tablespace, faults.TABLESPACE_BYTES)):
            await asyncio.to_thread(faults.mount, place, size=size)
            stack.callback(faults.unmount, place)
        embedding, language = [await stack.enter_async_context(Models().open()) for _ in range(2)]
        port = urlsplit(language.url).port
        model = await stack.enter_async_context(Link(lambda: asyncio.open_connection("127.0.0.1", port)).open())
        settings = {
            "REFDESK_CONTENT_DIR": str(content),
            "REFDESK_UPLOAD_BYTES_MAX": str(1 << 20),
            "REFDESK_EMBEDDING_URL": embedding.url,
            "REFDESK_LLM_URL": f"http://127.0.0.1:{model.port}/v1",
            "REFDESK_RERANK_URL": language.url,
            "REFDESK_LLM_MODEL": "scripted",
        }
        cluster = await stack.enter_async_context(
            open_cluster(folder, nursery, indexers=1, with_assistant=True, settings=settings)
        )
        valkey = Redis.from_url(cluster.urls.valkey_url)
        stack.push_async_callback(valkey.aclose)
        scene = Scene(cluster, content, tablespace, embedding, language, valkey, model)
        await _move_documents(scene)
        yield scene


async def _move_documents(scene: Scene) -> None:
    """The documents database to a disk of its own, which can be full without the others."""
    owner = (scene.cluster.folder / "data" / "postgres").stat().st_uid
    await asyncio.to_thread(os.chown, scene.tablespace, owner, -1)
    await scene.cluster.members["documents"].stop()
    await scene.sql(f"CREATE TABLESPACE small LOCATION '{scene.tablespace}'")
    await scene.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'documents'",
        "ALTER DATABASE documents SET TABLESPACE small",
    )
    await scene.cluster.start("documents")
