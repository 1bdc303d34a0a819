"""The first hour with Refdesk: what one adds, asks, replaces, deletes and gets wrong."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fpdf import FPDF
from tests.support.running import Refdesk, cited, command, start

from refdesk.app.embedded.nats import free_port

MANUAL = (
    "The wind tunnel of the Halvorsen laboratory opens at seven in the morning.",
    "Calibrating the Halvorsen gyroscope takes 43 minutes and needs two technicians.",
    "The Halvorsen laboratory is closed on the second Friday of October.",
)
CALIBRATION = "How long does calibrating the Halvorsen gyroscope take?"


def pdf(pages: tuple[str, ...]) -> bytes:
    """A PDF with one sentence on each page."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    for text in pages:
        document.add_page()
        document.multi_cell(0, text=text)
    return bytes(document.output())


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    path = tmp_path / "manual.pdf"
    path.write_bytes(pdf(MANUAL))
    return path


async def test_the_indexer_alone_stands_back(desk: Refdesk) -> None:
    """By `REFDESK_INDEX_NICENESS`, from all that was started with it."""
    own = desk.child("desk").nice()
    assert desk.child("indexer").nice() == min(19, own + 1)
    assert own == os.getpriority(os.PRIO_PROCESS, 0)


# adding and asking


async def test_a_pdf_is_cited_with_its_page(desk: Refdesk) -> None:
    """The fact stands on the second page, and the citation says so."""
    async with desk.holding("manual.pdf", pdf(MANUAL)) as document:
        assert document["state"] == "indexed"
        answer = await desk.ask(CALIBRATION)
        assert answer["finish_reason"] == "stop"
        telling = [sentence for sentence in answer["sentences"] if "43 minutes" in sentence["text"]]
        places = {(source["document_id"], source["page"]) for one in telling for source in cited(answer, one)}
        assert places == {(document["id"], 2)}


async def test_an_answer_streams_its_events_in_order(desk: Refdesk) -> None:
    """Accepted, sources, then words and sentences, then done; the deltas add up to the sentences."""
    events = [
        event async for event in desk.stream("How many days of paid annual leave do full-time employees receive?")
    ]
    names = [event.name for event in events]
    assert names[:2] == ["accepted", "sources"]
    assert set(names[2:-1]) == {"delta", "sentence"}
    assert names[-1] == "done"
    text = "".join(event.data["text"] for event in events if event.name == "delta")
    assert all(event.data["text"] in text for event in events if event.name == "sentence")


async def test_a_replaced_document_is_found_by_its_new_content_only(desk: Refdesk) -> None:
    """Once the new version is `indexed`, nothing of the old one is left."""
    async with desk.holding("buoys.md", b"The Marlowe buoy is painted vermilion.") as document:
        assert "vermilion" in (await desk.ask("What colour is the Marlowe buoy painted?"))["text"]
        address = f"/api/documents/{document['id']}"
        replaced = await desk.upload("buoys.md", b"The Marlowe buoy is painted turquoise.", path=address, method="PUT")
        assert (await desk.settled(replaced))["indexed_version"] == 2
        hits = await desk.search("What colour is the Marlowe buoy painted?")
        assert not [hit for hit in hits if "vermilion" in hit["passage"]]
        answer = await desk.ask("What colour is the Marlowe buoy painted?")
        assert "turquoise" in answer["text"] and "vermilion" not in str(answer["sources"])


async def test_a_deleted_document_is_gone_at_once(desk: Refdesk) -> None:
    """From reading, search, answers and passages, without waiting for the index."""
    question = "Who repairs the Ostrander winch?"
    async with desk.holding("winch.md", b"The Ostrander winch is repaired by Philippa Grange.") as document:
        assert "Philippa Grange" in (await desk.ask(question))["text"]
        await desk.delete(document)
        answer, hits = await asyncio.gather(desk.ask(question), desk.search(question))
        assert "Philippa" not in str(answer) and "Philippa" not in str(hits)
        for path in (f"/api/documents/{document['id']}", f"/api/passages/{document['id']}"):
            await desk.call("GET", path, expect=(404,))
        await desk.call("GET", f"/api/documents/{document['id']}/content", expect=(404,))


async def test_a_freshness_token_waits_for_the_write(desk: Refdesk) -> None:
    """An answer `after` a write knows it, though nobody waited for the index."""
    document = await desk.upload("kiosk.md", b"The Tillinghast kiosk sells 19 kinds of tea.")
    try:
        answer = await desk.ask(
            "How many kinds of tea does the Tillinghast kiosk sell?", after=[document["freshness_token"]]
        )
        assert "19 kinds" in answer["text"]
    finally:
        await desk.delete(document)


# the command line


async def test_files_are_added_from_the_command_line(desk: Refdesk, manual: Path) -> None:
    """One JSON object for scripts; the same file again is unchanged, a new one updated."""
    (manual.parent / "notes.md").write_text("The Halvorsen laboratory keeps its spare fuses in the blue cabinet.")
    try:
        added = await desk.command("add", str(manual.parent), "--json", "--tags", "halvorsen")
        assert (added.code, added.last["added"], added.last["indexed"]) == (0, 2, 2), added
        assert "2 searchable" in added.out
        assert (await desk.command("add", str(manual), "--json")).last["unchanged"] == 1
        manual.write_bytes(pdf(MANUAL[:2]))
        assert (await desk.command("add", str(manual), "--json")).last["updated"] == 1
    finally:
        for document in (await desk.call("GET", "/api/documents", params={"tag": "halvorsen"}))["documents"]:
            await desk.delete(document)


async def test_a_file_that_cannot_be_added_fails_the_command(desk: Refdesk, manual: Path) -> None:
    """Others are added all the same; the reason names the file, and the exit code is 1."""
    (manual.parent / "tool.exe").write_bytes(b"MZ\x90\x00" + bytes(500))
    try:
        said = await desk.command("add", str(manual), str(manual.parent / "tool.exe"), "--json", "--tags", "halvorsen")
        assert said.code == 1
        assert (said.last["added"], said.last["indexed"]) == (1, 1)
        assert [failure["path"] for failure in said.last["failed"]] == [str(manual.parent / "tool.exe")]
        assert "Traceback" not in said.err
    finally:
        for document in (await desk.call("GET", "/api/documents", params={"tag": "halvorsen"}))["documents"]:
            await desk.delete(document)


async def test_a_question_is_answered_on_the_command_line(desk: Refdesk) -> None:
    """The answer with its sources below; --json prints the same as one object."""
    question = "How many days of paid annual leave do full-time employees receive?"
    people, script = await asyncio.gather(desk.command("ask", question), desk.command("ask", question, "--json"))
    assert people.code == script.code == 0
    assert "27 days" in people.out and "[1] " in people.out
    assert "27 days" in script.last["text"] and script.last["sources"]


async def test_search_and_status_and_doctor_tell_what_is_there(desk: Refdesk) -> None:
    """Each for people and for scripts."""
    search, status, doctor = await asyncio.gather(
        desk.command("search", "annual leave", "--limit", "3", "--json"),
        desk.command("status", "--json"),
        desk.command("doctor", "--data-dir", str(desk.data_dir), "--json"),
    )
    assert search.code == status.code == 0
    assert len(search.last["hits"]) == 3
    assert status.last["documents_indexed"] >= 30 and status.last["documents_pending"] == 0
    assert doctor.last["settings"] and doctor.last["checks"]


async def test_from_the_first_key_on_nobody_is_let_in_without_one(desk: Refdesk) -> None:
    """A key reads what its groups may read; without keys, this machine is administrator again."""
    made = await desk.command("keys", "create", "trainee", "--groups", "staff", "--json")
    try:
        key = {"Authorization": f"Bearer {made.last['key']}"}
        await desk.call("GET", "/api/documents", expect=(401,))
        await desk.call("GET", "/api/documents", headers=key)
        await desk.call("GET", "/api/keys", headers=key, expect=(403,))
        listed = await desk.command("keys", "list", "--json")
        assert [one["name"] for one in listed.last["keys"]] == ["trainee"] and made.last["key"] not in listed.out
    finally:
        assert (await desk.command("keys", "revoke", "trainee")).code == 0
    await desk.call("GET", "/api/documents")


async def test_commands_say_when_nothing_answers(tmp_path: Path) -> None:
    """One sentence and exit code 1."""
    said = await command("ask", "Anybody?", home=tmp_path, REFDESK_URL=f"http://127.0.0.1:{free_port()}")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1 and "Nothing answers" in said.err


# bad input


async def test_bad_input_is_refused_with_a_problem(desk: Refdesk) -> None:
    """Problem details with the status, and words that say what to do."""
    document = await desk.upload("harmless.md", b"The Quillfeather lamp burns paraffin.")
    one, json_type = f"/api/documents/{document['id']}", {"Content-Type": "application/json"}
    missing = "0" * 32
    refusals = [
        (404, "GET", f"/api/documents/{missing}", {}),
        (404, "GET", f"/api/passages/{missing}", {}),
        (404, "GET", f"/api/answers/{missing}", {}),
        (412, "DELETE", one, {"headers": {"If-Match": '"7"'}}),
        (415, "POST", "/api/documents", {"data": b"plain", "headers": {"Content-Type": "text/plain"}}),
        (422, "POST", "/api/documents", {"data": b"{not json", "headers": json_type}),
        (422, "POST", "/api/documents", {"json": {"title": "empty", "text": ""}}),
        (422, "POST", "/api/documents", {"json": {"title": "a", "text": "b", "colour": "red"}}),
        (422, "POST", "/api/answers", {"json": {"question": "   "}}),
        (422, "POST", "/api/answers", {"json": {"question": "why " * 2000}}),
        (422, "POST", "/api/answers", {"json": {"question": "Why?", "max_output_tokens": 10**6}}),
        (422, "POST", "/api/answers", {"json": {"question": "Why?", "after": ["yesterday"]}}),
        (422, "POST", "/api/search", {"json": {"query": "leave", "limit": 10**6}}),
    ]
    try:
        for status, method, path, options in refusals:
            async with desk.open(method, path, **options) as reply:
                problem = await reply.json(content_type="application/problem+json")
            assert (reply.status, problem["status"]) == (status, status), (method, path, options, problem)
            assert problem["type"] and problem["title"] and problem["detail"].endswith((".", ">", "@version>."))
    finally:
        await desk.delete(document)


async def test_a_question_too_long_is_told_the_limit(desk: Refdesk) -> None:
    """With the limit and what was sent."""
    problem = await desk.call("POST", "/api/answers", json={"question": "why " * 2000}, expect=(422,))
    assert problem["limit"] == 500
    assert problem["actual"] > 1500


async def test_an_oversized_upload_is_refused_before_it_is_read(desk: Refdesk) -> None:
    """413 by its announced length, with the limit."""
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(10**9)}
    reader, writer = await asyncio.open_connection("127.0.0.1", int(desk.url.rpartition(":")[2]))
    lines = [f"{name}: {value}" for name, value in {"Host": "127.0.0.1", **headers}.items()]
    writer.write("\r\n".join(["POST /api/documents HTTP/1.1", *lines, "", ""]).encode())
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert b" 413 " in status


async def test_a_file_of_no_known_kind_is_refused(desk: Refdesk) -> None:
    """415, and what to convert it to."""
    with pytest.raises(AssertionError, match="415"):
        await desk.upload("tool.exe", b"MZ\x90\x00" + bytes(500))


async def test_a_file_that_cannot_be_parsed_fails_with_a_reason_and_blocks_nobody(desk: Refdesk) -> None:
    """A truncated PDF fails; what was added after it is indexed."""
    broken = await desk.upload("broken.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 4)
    async with desk.holding("after.md", b"The Penhaligon gate is opened with a brass key.") as after:
        assert after["state"] == "indexed"
        failed = await desk.settled(broken)
        await desk.delete(broken)
    assert failed["state"] == "failed"
    assert failed["failure"]


# a start that cannot be


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path, taken_port: int) -> None:
    """Before anything is started."""
    said = await command("up", "--data-dir", str(tmp_path / "data"), "--port", str(taken_port), home=tmp_path)
    assert said.code == 1
    assert said.err.splitlines() == [
        f"refdesk: 127.0.0.1:{taken_port} cannot be used: Address already in use. "
        "Stop what listens there, or choose another with --port."
    ]


async def test_a_data_directory_in_use_is_one_clear_sentence(desk: Refdesk, tmp_path: Path) -> None:
    """It names the process that has it, and leaves it alone."""
    said = await command("up", "--data-dir", str(desk.data_dir), "--port", str(free_port()), home=tmp_path)
    assert said.code == 1
    assert len(said.err.splitlines()) == 1 and f"(process {desk.process.pid})" in said.err
    health = await desk.call("GET", "/health/ready?verbose")
    assert health["facts"] == {"NATS on disk before acknowledging": "yes"}


@pytest.mark.parametrize(
    ("setting", "scheme"),
    [("REFDESK_DATABASE_URL", "postgresql"), ("REFDESK_NATS_URL", "nats"), ("REFDESK_VALKEY_URL", "redis")],
)
async def test_an_unreachable_configured_server_is_one_clear_sentence(
    tmp_path: Path, setting: str, scheme: str
) -> None:
    """It names the setting; nothing is left running."""
    address = f"127.0.0.1:{free_port()}"
    refdesk = await start(tmp_path, "--no-samples", **{setting: f"{scheme}://{address}"})
    async with asyncio.timeout(150):
        code = await refdesk.process.wait()
    await refdesk.stop()
    assert code == 1
    assert refdesk.lines[-1].startswith("refdesk: ") and setting in refdesk.lines[-1], refdesk.lines
    assert "Traceback" not in "\n".join(refdesk.lines)
