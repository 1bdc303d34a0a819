"""Dead letters as people meet them: listed, inspected, retried for good, discarded; over HTTP and on the command line."""

from pathlib import Path
from typing import Any

from tests.integration.documents_desk import ALICE, eventually
from tests.support.pipeline import Pipeline

from refdesk.contracts.access import Principal
from refdesk.contracts.documents import FreshnessToken
from refdesk.indexing.dead_letters import DeadLetters, Fault, Work

EDITOR = Principal(id="edgar", groups=("editors",))
BLANK = "&nbsp;"
"""Content without any text to read."""


async def fail(pipeline: Pipeline, title: str = "Blank") -> Any:
    """A document that the indexer has given up."""
    document = await pipeline.documents.add(title, text=BLANK)
    await eventually(lambda: is_failed(pipeline, document["id"]))
    return document


async def is_failed(pipeline: Pipeline, document_id: str) -> bool:
    return bool((await pipeline.document(document_id))["state"] == "failed")


async def listed(pipeline: Pipeline, **wanted: str) -> list[Any]:
    found: list[Any] = (await pipeline.call("GET", "/api/dead-letters", params=wanted))["dead_letters"]
    return found


async def mend(pipeline: Pipeline, document_id: str) -> None:
    """Give the same version content that can be read: what made it fail is gone."""
    fine = await pipeline.documents.add("Fine", text="# Fine\n\nThirty days of leave.")
    await pipeline.documents.query(
        "UPDATE documents d SET content_sha256 = f.content_sha256, content_bytes = f.content_bytes "
        "FROM documents f WHERE d.id = %s AND f.id = %s",
        document_id,
        fine["id"],
    )


async def test_a_dead_letter_says_what_failed_and_why(pipeline: Pipeline) -> None:
    """Listed with reason, attempts and times; shown with its event."""
    document = await fail(pipeline)
    [letter] = await listed(pipeline)
    assert (letter["document_id"], letter["version"]) == (document["id"], 1)
    assert (letter["code"], letter["attempts"]) == ("document-rejected", 1)
    assert "no text" in letter["reason"]
    assert letter["first_failed_at"] <= letter["last_failed_at"]
    assert "event" not in letter and "log" not in letter
    shown = await pipeline.call("GET", f"/api/dead-letters/{letter['id']}")
    assert shown["event"]["data"]["document_id"] == document["id"]
    assert shown["event"]["id"] == shown["event_id"] == letter["event_id"]
    assert shown["log"].startswith("1. Traceback") and shown["reason"] in shown["log"]


async def test_the_log_of_every_attempt_is_kept_and_bounded(pipeline: Pipeline) -> None:
    """In their order; a new series begins a new one; of a long one the end stays."""
    work = Work(event_id="e", subject="documents.x.changed", payload=b"{", document_id="x", version=1)
    for attempt in (1, 2):
        await pipeline.letters.record(work, Fault(reason="No.", code="late", log=f"said {attempt}"), attempts_max=2)
    [letter] = await pipeline.letters.list()
    assert letter.log == "1. said 1\n2. said 2"
    await pipeline.letters.mark_replayed(letter)
    letters = DeadLetters(pipeline.pool, log_characters_max=50)
    for _ in range(2):
        await letters.record(work, Fault(reason="No.", code="late", log="x" * 100 + "the end"), attempts_max=1)
        [letter] = await letters.list()
        assert len(letter.log) == 50 and letter.log.endswith("the end")


async def test_a_retry_really_queues(pipeline: Pipeline) -> None:
    """The document is pending at once and takes the whole way; what succeeds is a dead letter no more."""
    document = await fail(pipeline)
    [letter] = await listed(pipeline)
    await mend(pipeline, document["id"])
    reply = await pipeline.call("POST", f"/api/dead-letters/{letter['id']}/retry", expect=202)
    assert reply == {"outcome": "queued"}
    await pipeline.settled()
    retried = await pipeline.document(document["id"])
    assert (retried["state"], retried["failure"], retried["attempts"]) == ("indexed", None, 0)
    assert (await pipeline.index.versions([document["id"]])) == {document["id"]: 1}
    assert await listed(pipeline) == []
    await pipeline.call("GET", f"/api/dead-letters/{letter['id']}", expect=404)


async def test_what_fails_again_is_open_again(pipeline: Pipeline) -> None:
    """A retry settles only the failure that was seen, however fast the next one is."""
    document = await fail(pipeline)
    [letter] = await listed(pipeline)
    await pipeline.call("POST", f"/api/dead-letters/{letter['id']}/retry", expect=202)

    async def failed_again() -> bool:
        again = await listed(pipeline)
        return [found["id"] for found in again if found["last_failed_at"] > letter["last_failed_at"]] == [letter["id"]]

    await eventually(failed_again)
    await eventually(lambda: is_failed(pipeline, document["id"]))


async def test_a_letter_about_an_older_version_is_settled_by_the_newer_one(pipeline: Pipeline) -> None:
    """Nothing is queued for it; so too when the document was deleted meanwhile."""
    replaced, deleted = await fail(pipeline, "Replaced"), await fail(pipeline, "Deleted")
    stale = await listed(pipeline)
    await pipeline.documents.call("PUT", f"/{replaced['id']}", json={"text": "# Now\n\nThere is text."})
    await pipeline.documents.call("DELETE", f"/{deleted['id']}")
    await pipeline.settled()
    assert await listed(pipeline) == [], "a newer version that succeeds forgets them by itself"
    for letter in stale:
        work = Work(
            event_id="late",
            subject=letter["subject"],
            payload=b"{}",
            document_id=letter["document_id"],
            version=letter["version"],
        )
        await pipeline.letters.record(work, Fault(reason="late", code="late"), attempts_max=1)
    report = await pipeline.call("POST", "/api/dead-letters/retry", json={"code": "late"})
    assert report == {"queued": 0, "superseded": 2, "unreadable": 0}
    assert await listed(pipeline) == []
    assert (await pipeline.document(replaced["id"]))["state"] == "indexed"


async def test_many_are_retried_by_code_or_by_a_part_of_the_reason(pipeline: Pipeline) -> None:
    """Exactly those; one that names no document stays."""
    for number in range(3):
        work = Work(
            event_id=f"e{number}", subject="documents.x.changed", payload=b"{", document_id="x", version=number + 1
        )
        await pipeline.letters.record(
            work, Fault(reason=f"Reason {number}.", code=f"code-{number % 2}"), attempts_max=1
        )
    nonsense = Work(event_id=None, subject="documents.x.changed", payload=b"\xff", document_id=None, version=None)
    await pipeline.letters.record(nonsense, Fault(reason="Nonsense.", code="unreadable-event"), attempts_max=1)
    assert [letter["code"] for letter in await listed(pipeline, code="code-0")] == ["code-0"] * 2
    by_reason = await pipeline.call("POST", "/api/dead-letters/retry", json={"reason": "reason 1"})
    assert by_reason == {"queued": 0, "superseded": 1, "unreadable": 0}
    assert len(await listed(pipeline)) == 3
    everything = await pipeline.call("POST", "/api/dead-letters/retry", json={"all": True})
    assert everything == {"queued": 0, "superseded": 2, "unreadable": 1}
    [kept] = await listed(pipeline)
    refused = await pipeline.call("POST", f"/api/dead-letters/{kept['id']}/retry", expect=409)
    assert "names no document" in refused["detail"]
    assert "payload" in await pipeline.call("GET", f"/api/dead-letters/{kept['id']}")
    for given in ({}, {"all": True, "code": "late"}):
        await pipeline.call("POST", "/api/dead-letters/retry", json=given, expect=422)


async def test_a_discarded_letter_is_gone_from_the_list_and_its_document_stays(pipeline: Pipeline) -> None:
    """Discarded once; what is not there, or no number, is not found."""
    document = await fail(pipeline)
    [letter] = await listed(pipeline)
    address = f"/api/dead-letters/{letter['id']}"
    await pipeline.call("DELETE", address, expect=204)
    assert await listed(pipeline) == []
    assert (await pipeline.document(document["id"]))["state"] == "failed"
    assert "discarded already" in (await pipeline.call("DELETE", address, expect=409))["detail"]
    await pipeline.call("POST", f"{address}/retry", expect=409)
    for unknown in ("999999", "seven", "9" * 30):
        await pipeline.call("DELETE", f"/api/dead-letters/{unknown}", expect=404)


async def test_the_list_comes_in_pages(pipeline: Pipeline) -> None:
    """Newest first, every letter once."""
    for number in range(5):
        work = Work(event_id=None, subject="s", payload=b"", document_id="x", version=number + 1)
        await pipeline.letters.record(work, Fault(reason="No.", code="late"), attempts_max=1)
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await pipeline.call("GET", "/api/dead-letters", params={"limit": "2", **cursor})
        assert page["open"] == 5
        seen += [letter["version"] for letter in page["dead_letters"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [5, 4, 3, 2, 1]


async def test_dead_letters_are_for_administrators(pipeline: Pipeline) -> None:
    """They tell of documents that others may not know of."""
    for by in (ALICE, EDITOR):
        await pipeline.call("GET", "/api/dead-letters", by=by, expect=403)
        await pipeline.call("POST", "/api/dead-letters/retry", by=by, json={"all": True}, expect=403)


async def test_a_retry_without_the_document_service_settles_nothing(pipeline: Pipeline) -> None:
    """The letter is as it was, and the refusal says who is away."""
    work = Work(event_id=None, subject="s", payload=b"", document_id="x", version=1)
    await pipeline.letters.record(work, Fault(reason="No.", code="late"), attempts_max=1)
    [letter] = await listed(pipeline)
    await pipeline.documents.query("ALTER TABLE documents RENAME TO elsewhere")
    refused = await pipeline.call("POST", f"/api/dead-letters/{letter['id']}/retry", expect=503)
    assert "Document Service" in refused["detail"]
    await pipeline.documents.query("ALTER TABLE elsewhere RENAME TO documents")
    assert await listed(pipeline) == [letter]


async def test_the_command_line_lists_shows_retries_and_discards(pipeline: Pipeline, tmp_path: Path) -> None:
    """`refdesk dead-letters`."""
    mended, kept = await fail(pipeline, "Mended"), await fail(pipeline, "Kept")
    numbers = {letter["document_id"]: str(letter["id"]) for letter in await listed(pipeline)}
    said = await pipeline.command("dead-letters", "list", home=tmp_path)
    assert said.code == 0, said.err
    assert f"{mended['id']}@1  document-rejected, 1 attempts: " in said.out and "2 open." in said.out
    shown = await pipeline.command("dead-letters", "show", numbers[mended["id"]], "--json", home=tmp_path)
    assert shown.last["event"]["data"]["title"] == "Mended"
    await mend(pipeline, mended["id"])
    retried = await pipeline.command("dead-letters", "retry", numbers[mended["id"]], "--json", home=tmp_path)
    assert retried.last == {"queued": 1, "superseded": 0, "unreadable": 0}
    await pipeline.settled()
    assert (await pipeline.document(mended["id"]))["state"] == "indexed"
    discarded = await pipeline.command("dead-letters", "discard", numbers[kept["id"]], home=tmp_path)
    assert (discarded.code, discarded.out) == (0, "")
    assert await listed(pipeline) == []
    assert (await pipeline.command("dead-letters", "retry", home=tmp_path)).code == 2


async def test_only_the_version_that_is_current_is_told_again(pipeline: Pipeline) -> None:
    """Tombstones too; what is told is pending, gets a new event and comes back to the same state."""
    kept, gone = await pipeline.documents.add("Kept"), await pipeline.documents.add("Gone")
    await pipeline.documents.call("DELETE", f"/{gone['id']}")
    await pipeline.settled()
    tokens = [FreshnessToken(kept["id"], 1), FreshnessToken(kept["id"], 2), FreshnessToken(gone["id"], 2)]
    told = await pipeline.documents.service.retell([*tokens, FreshnessToken("nonsense", 1)])
    assert set(told) == {tokens[0], tokens[2]}
    await pipeline.settled()
    assert (await pipeline.document(kept["id"]))["state"] == "indexed"
    assert (await pipeline.documents.call("GET", f"/{gone['id']}")).status == 404
