"""What changed between versions, over HTTP: for whoever may read both, whatever they are written in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.documents_desk import (
    ADMINISTRATOR,
    ALICE,
    HR,
    STRANGER,
    Desk,
    authenticate,
    key,
    open_desk,
    serving,
)
from tests.support.office import word

from refdesk.app.services.page_drawing import open_drawing
from refdesk.contracts.access import Principal
from refdesk.documents import comparing_routes
from refdesk.documents.changes import Limits
from refdesk.documents.comparing import Comparisons, compared
from refdesk.settings.tree import Settings
from refdesk.web.http import create_app


class Compared:
    """A desk, and the address that compares."""

    def __init__(self, desk: Desk, url: str) -> None:
        self.desk = desk
        self._url = url

    async def get(self, document_id: str, path: str, *, by: Principal = ALICE) -> tuple[int, Any]:
        address = f"{self._url}/api/documents/{document_id}/versions/{path}"
        async with self.desk.session.get(address, headers=key(by)) as reply:
            return reply.status, await reply.json(content_type=None)

    async def put(self, document_id: str, **body: Any) -> None:
        assert (await self.desk.call("PUT", f"/{document_id}", **body)).status == 200


@pytest.fixture
async def compare(fresh_database: str, tmp_path: Path) -> AsyncIterator[Compared]:
    limits = Limits(versions_kept=3)
    async with (
        open_desk(fresh_database, tmp_path / "blobs", limits=limits) as desk,
        open_drawing(Settings()) as drawing,
    ):
        comparisons = Comparisons(desk.service, drawing.read)
        app = create_app(comparing_routes.endpoints(comparisons), authenticate=authenticate)
        async with serving(app) as url:
            yield Compared(desk, url)


def told(changes: Any) -> list[tuple[str, str]]:
    return [(line["kind"], line.get("text", str(line.get("count", 1)))) for line in changes["lines"]]


async def test_a_version_tells_which_lines_it_changed(compare: Compared) -> None:
    """Those around them too; the rest is counted. A change of metadata alone changes no line."""
    lines = [f"Line {number}." for number in range(20)]
    document = await compare.desk.add("Long", text="\n".join(lines))
    lines[10] = "Another line."
    await compare.put(document["id"], json={"text": "\n".join(lines)})
    status, changes = await compare.get(document["id"], "2/changes")
    assert status == 200
    assert told(changes) == [
        ("skipped", "7"), ("same", "Line 7."), ("same", "Line 8."), ("same", "Line 9."),
        ("removed", "Line 10."), ("added", "Another line."),
        ("same", "Line 11."), ("same", "Line 12."), ("same", "Line 13."), ("skipped", "6"),
    ]  # fmt: skip
    await compare.put(document["id"], json={"tags": ["new"]})
    assert (await compare.get(document["id"], "3/changes?since=2"))[1]["lines"] == []
    assert len((await compare.get(document["id"], "3/changes?since=1"))[1]["lines"]) == 10


async def test_office_files_are_compared_by_their_text(compare: Compared) -> None:
    """Read by the fenced processes of the parser."""
    document = await compare.desk.add("Policy")
    for text in ("Leave is 28 days.", "Leave is 30 days."):
        form = aiohttp.FormData()
        form.add_field("file", word(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"), filename="policy.docx")
        await compare.put(document["id"], data=form)
    status, changes = await compare.get(document["id"], "3/changes")
    assert (status, told(changes)) == (200, [("removed", "Leave is 28 days."), ("added", "Leave is 30 days.")])


async def test_only_what_could_be_read_is_compared(compare: Compared) -> None:
    """A version that was not for a reader stays hidden after the document was opened to them; strangers learn nothing."""
    document = await compare.desk.add("Secret", readers=["legal"], text="The secret.")
    await compare.put(document["id"], json={"readers": ["hr"], "text": "The open part."})
    missing = await compare.get("0" * 32, "2/changes", by=STRANGER)
    assert missing[0] == 404
    assert await compare.get(document["id"], "2/changes", by=STRANGER) == missing
    assert (await compare.get(document["id"], "2/changes", by=HR))[0] == 404
    assert (await compare.get(document["id"], "2/changes?since=1", by=HR))[0] == 404
    assert (await compare.get(document["id"], "2/changes", by=ADMINISTRATOR))[0] == 200


async def test_contents_that_are_kept_no_more_are_not_compared(compare: Compared) -> None:
    """The problem names the setting."""
    document = await compare.desk.add()
    for number in range(3):
        await compare.put(document["id"], json={"text": f"Version {number}."})
    await compare.desk.service.contents.sweep(grace_s=-1)
    assert (await compare.get(document["id"], "4/changes"))[0] == 200
    status, problem = await compare.get(document["id"], "2/changes")
    assert status == 404 and "REFDESK_VERSION_CONTENTS_KEPT" in problem["detail"]


@pytest.mark.parametrize(
    "path", ["0/changes", "x/changes", "9/changes", "1/changes", f"{1 << 70}/changes", "1/changes?since=0"]
)
async def test_versions_that_are_none_are_refused(compare: Compared, path: str) -> None:
    """As missing, or as no number."""
    document = await compare.desk.add()
    assert (await compare.get(document["id"], path))[0] in (404, 422)


def test_texts_of_one_hard_shape_are_compared_at_once() -> None:
    """Many equal lines, and a stretch that is too long to be compared: bounded work, and every line is told."""
    old, new = ["a", "b"] * 40_000, ["b", "a", "c"] * 30_000
    lines = compared(old, new)
    assert sum(line.count for line in lines if line.kind != "added") == len(old)
    assert sum(line.count for line in lines if line.kind != "removed") == len(new)
    hard = compared(["a", "b"] * 500, ["b", "a", "c"] * 330)
    assert sum(line.count for line in hard if line.kind != "added") == 1000
