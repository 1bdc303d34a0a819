"""The Document Service is told how a sync goes, so that whoever was not there can see what it did."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from refdesk.app.commands.client import CallFailed, Client, patiently
from refdesk.app.sources.reports import Report
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.syncs import SyncEntry, SyncReport, weightiest

TELL_EVERY_S = 10.0
"""Must be well below the minute after which a silent sync counts as stopped."""
ENTRIES_MAX = 1000
ENTRIES_BYTES_MAX = 900_000
"""Of the entries that are sent: a JSON body may have 1 MiB."""
REASON_CHARACTERS_MAX = 500
WITHOUT_RECEIPTS = frozenset({404, 405})
"""What a Document Service of an earlier release replies."""


@asynccontextmanager
async def receipted(client: Client, report: Report, *, source: str, owner: str | None) -> AsyncIterator[None]:
    """What happens inside is told while it goes on and at its end, whatever that is. A kill is not told: it shows by silence."""
    report.receipt = await _begin(client, report, source=source, owner=owner)
    if report.receipt is None:
        yield
        return
    telling = asyncio.create_task(_keep_telling(client, report))
    problem = "It broke off."
    try:
        yield
        problem = ""
    except (InvalidRequest, CallFailed) as error:
        problem = error.message
        raise
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        with suppress(CallFailed):  # what was done is done
            await patiently(lambda: _tell(client, report, finished=True, problem=problem))


async def _begin(client: Client, report: Report, *, source: str, owner: str | None) -> str | None:
    """The receipt's id; None where the Document Service keeps none."""
    body = {"source": source} | ({} if owner is None else {"owner": owner})
    try:
        begun = await patiently(lambda: client.call("POST", "/api/documents/syncs", json=body))
    except CallFailed as error:
        if error.refused_with in WITHOUT_RECEIPTS:
            return None
        raise
    report.also_running = begun["also_running"]
    return str(begun["id"])


async def _keep_telling(client: Client, report: Report) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        with suppress(CallFailed):
            await _tell(client, report, finished=False)


async def _tell(client: Client, report: Report, *, finished: bool, problem: str = "") -> None:
    entries = _that_fit(report.entries) if finished else []
    told = SyncReport(counts=report.counts, entries=entries, finished=finished, problem=problem)
    await client.call("PUT", f"/api/documents/syncs/{report.receipt}", json=told)


def _that_fit(entries: list[SyncEntry]) -> list[SyncEntry]:
    fitting, room = [], ENTRIES_BYTES_MAX
    for entry in weightiest(entries, count=ENTRIES_MAX):
        cut = len(entry.reason) > REASON_CHARACTERS_MAX
        short = msgspec.structs.replace(entry, reason=f"{entry.reason[:REASON_CHARACTERS_MAX]}…") if cut else entry
        room -= len(msgspec.json.encode(short)) + 1
        if room < 0:
            break
        fitting.append(short)
    return fitting
