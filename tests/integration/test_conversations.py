"""Conversations are kept for whoever had them: listed, read, changed, exported, shared, and withdrawn with their documents."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest
from redis.asyncio import Redis
from tests.support.desk import ASKER, LEAVE, PATIENT, AnswerDesk, Client, Here, events, own_desk, text_of, until
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.answering.conversations.keeping import MARKS
from refdesk.answering.conversations.turns import WITHDRAWN
from refdesk.answering.logs.log import AnswerRecord
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

QUESTION = "How many days of paid leave do employees have?"
OTHER = Principal(id="olga")
READER = Principal(id="harriet", groups=("hr",))
COLLEAGUE = Principal(id="henry", groups=("hr",))
STRANGER = Principal(id="stan")
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))
SECRET = "The umbrella fund holds thirty days of leave in reserve each year."
FUND = "How many days of leave does the umbrella fund hold?"
SWEEP_S = 0.3


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(
        servers, tmp_path_factory, valkey_number=4, conversation_sweep_s=SWEEP_S, conversation_turns_max=8, **PATIENT
    ) as desk:
        desk.ids["leave"] = await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def secret(desk: AnswerDesk) -> AsyncIterator[str]:
    """A document for the group ``hr``; gone after the test."""
    document_id = await desk.add("Umbrellas", SECRET, readers=("hr",))
    yield document_id
    await desk.documents.call("DELETE", f"/{document_id}", by=ADMINISTRATOR)


async def shown(client: Client, conversation_id: str) -> Any:
    status, _, body = await client.json("GET", f"/api/conversations/{conversation_id}")
    return body if status == 200 else None


async def kept(client: Client, conversation_id: str, count: int) -> Any:
    """The conversation once so many of its answers are in the history, whoever else knows of them."""

    async def listed() -> Any:
        _, _, body = await client.json("GET", "/api/conversations?limit=200")
        found = [one for one in body["conversations"] if one["id"] == conversation_id]
        return bool(found) and found[0]["turns"] >= count

    await until(listed)
    return await shown(client, conversation_id)


async def forgotten_by_valkey(desk: AnswerDesk) -> None:
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        await valkey.flushdb()


# what is kept


async def test_a_conversation_has_its_turns_with_their_evidence(here: Here, desk: AnswerDesk) -> None:
    """As they were answered: text, sentences, sources, when; and not in the list of anybody else."""
    client = here.client()
    stream = await client.ask(QUESTION, conversation_id="evidence")
    await client.ask("And unused days?", conversation_id="evidence")
    talk = await kept(client, "evidence", 2)
    first, second = talk["turns"]
    assert (talk["title"], talk["id"]) == (QUESTION, "evidence")
    assert (first["question"], second["question"]) == (QUESTION, "And unused days?")
    assert first["answer_id"] == stream[0].data["answer_id"]
    assert (first["status"], first["finish_reason"], first["text"]) == ("done", "stop", text_of(stream))
    assert first["sentences"][0]["support"] == "supported" and first["sentences"][0]["citations"] == [1]
    assert first["sources"] == next(event.data for event in stream if event.name == "sources")
    assert first["asked_at"] < second["asked_at"]
    assert (await here.client(OTHER).json("GET", "/api/conversations"))[2] == {"conversations": []}


async def test_a_question_outside_a_conversation_is_not_kept(here: Here) -> None:
    """Programs ask so."""
    client = here.client(Principal(id="program"))
    await client.ask(QUESTION)
    await client.ask(QUESTION, conversation_id="kept")
    await kept(client, "kept", 1)
    assert [one["id"] for one in (await client.json("GET", "/api/conversations"))[2]["conversations"]] == ["kept"]


async def test_an_answer_that_is_still_written_is_in_its_conversation(here: Here, desk: AnswerDesk) -> None:
    """Another device finds it there, and can follow it from where it is."""
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
    client = here.client()
    async with client.stream(QUESTION, conversation_id="running", cache="bypass") as response:
        stream = events(response)
        answer_id = (await anext(stream)).data["answer_id"]
        while (await anext(stream)).name != "delta":
            pass
        talk = await shown(client, "running")
        assert [(turn["answer_id"], turn["status"]) for turn in talk["turns"]] == [(answer_id, "running")]
        assert talk["turns"][0]["text"]
        gate.set()
        rest = await client.rest(answer_id)
    assert text_of(rest) == ANSWER
    assert (await kept(client, "running", 1))["turns"][0]["status"] == "done"


async def test_an_answer_in_a_conversation_goes_on_while_its_reader_is_away(desk: AnswerDesk) -> None:
    """As somebody who reloads the page; a single answer stops."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
    async with desk.assistant_here(disconnect_grace_s=0.2) as here:
        client = here.client(Principal(id="mover"))

        async def begun_and_left(**fields: str) -> str:
            async with client.stream(QUESTION, cache="bypass", **fields) as response:
                stream = events(response)
                answer_id: str = (await anext(stream)).data["answer_id"]
                while (await anext(stream)).name != "delta":
                    pass
            return answer_id

        in_conversation = await begun_and_left(conversation_id="moved")
        single = await begun_and_left()
        async with within(20):
            await desk.llm.calls[-1].closed.wait()
        assert not desk.llm.calls[0].closed.is_set()
        gate.set()
        assert text_of(await client.rest(in_conversation)) == ANSWER
        assert (await client.json("GET", f"/api/answers/{single}"))[2]["finish_reason"] == "cancelled"


async def test_a_follow_up_is_understood_when_valkey_has_forgotten_the_conversation(
    here: Here, desk: AnswerDesk
) -> None:
    """History has the turns."""
    client = here.client()
    await client.ask(QUESTION, conversation_id="recalled")
    await kept(client, "recalled", 1)
    await forgotten_by_valkey(desk)
    desk.llm.reset()
    await client.ask("And unused days?", conversation_id="recalled")
    await client.ask("And expired ones?", conversation_id="recalled")
    for call in desk.llm.calls:
        assert QUESTION in str(call.body["messages"])
    assert len((await kept(client, "recalled", 3))["turns"]) == 3


async def test_a_question_stays_whose_answer_was_erased_before_it_was_kept(here: Here, desk: AnswerDesk) -> None:
    """Neither Valkey nor history has the answer; the follow-up still knows what was asked."""
    client = here.client()
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        await valkey.flushdb()
        await client.ask(QUESTION, conversation_id="unkept")
        key = f"refdesk:conversation:{ASKER.id}:unkept"
        turn = msgspec.json.decode(await valkey.lindex(key, 0))
        await valkey.lset(key, 0, msgspec.json.encode(turn | {"log_id": "erased", "answer_id": "erased"}))
    desk.llm.reset()
    await client.ask("And unused days?", conversation_id="unkept")
    sent = str(desk.llm.calls[0].body["messages"])
    assert QUESTION in sent and WITHDRAWN in sent and ANSWER not in sent


async def test_only_the_last_turns_of_a_long_conversation_are_kept(here: Here) -> None:
    """As many as is set; each page leads to the one before."""
    client = here.client()
    for number in range(10):
        await client.ask(f"{QUESTION} Number {number}.", conversation_id="long")
    last = list("23456789")

    async def is_trimmed() -> bool:
        return [turn["question"][-2] for turn in (await shown(client, "long"))["turns"]] == last

    await until(is_trimmed)
    _, _, page = await client.json("GET", "/api/conversations/long?limit=3")
    _, _, before = await client.json("GET", f"/api/conversations/long?limit=7&cursor={page['next_cursor']}")
    assert [turn["question"][-2] for turn in [*before["turns"], *page["turns"]]] == last
    assert "next_cursor" not in before or before["next_cursor"] is None


# what its owner does with it


async def test_conversations_are_listed_page_by_page_and_found_by_their_words(here: Here) -> None:
    """Newest first; in titles and in questions, whatever their case."""
    client = here.client(Principal(id="lister"))
    for number in range(3):
        await client.ask(f"Leave of 50% or {number}?", conversation_id=f"list-{number}")
        await kept(client, f"list-{number}", 1)
    await client.ask("And the Umbrella?", conversation_id="list-0")
    await kept(client, "list-0", 2)
    _, _, first = await client.json("GET", "/api/conversations?limit=2")
    _, _, second = await client.json("GET", f"/api/conversations?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["conversations"] + second["conversations"]] == ["list-0", "list-2", "list-1"]
    assert "next_cursor" not in second

    async def found(words: str) -> list[str]:
        _, _, body = await client.json("GET", "/api/conversations", params={"q": words})
        return [one["id"] for one in body["conversations"]]

    assert await found("umbrella") == ["list-0"]
    assert await found("50% OR 1") == ["list-1"]
    assert await found("5_%") == []


async def test_a_conversation_is_renamed_and_deleted_by_its_owner_alone(here: Here) -> None:
    """To others, administrators among them, it is not there."""
    client = here.client()
    await client.ask(QUESTION, conversation_id="mine")
    await kept(client, "mine", 1)
    path = "/api/conversations/mine"
    for other in (here.client(OTHER), here.client(ADMINISTRATOR)):
        missing = [
            await other.json(method, "/api/conversations/none", json={"title": "T"})
            for method in ("GET", "PATCH", "DELETE")
        ]
        foreign = [await other.json(method, path, json={"title": "T"}) for method in ("GET", "PATCH", "DELETE")]
        assert [(status, body) for status, _, body in foreign] == [(status, body) for status, _, body in missing]
        assert {status for status, _, _ in foreign} == {404}
    assert (await client.json("PATCH", path, json={"title": "  Our  \u202e leave\u200b "}))[2]["title"] == "Our leave"
    await client.ask("And unused days?", conversation_id="mine")
    assert (await kept(client, "mine", 2))["title"] == "Our leave"
    assert (await client.json("PATCH", path, json={"title": " "}))[0] == 422
    assert (await client.json("DELETE", path))[0] == 204
    assert await shown(client, "mine") is None
    assert (await client.json("DELETE", path))[0] == 404


async def test_a_conversation_goes_on_from_an_earlier_turn(here: Here, desk: AnswerDesk) -> None:
    """That turn and those after it are dropped, for the next question as well."""
    client = here.client()
    answers = [
        (await client.ask(f"{QUESTION} {word}?", conversation_id="edited"))[0].data["answer_id"]
        for word in ("Alpha", "Bravo", "Charlie")
    ]
    await kept(client, "edited", 3)
    path = f"/api/conversations/edited/turns/{answers[1]}"
    assert (await here.client(OTHER).json("DELETE", path))[0] == 404
    assert (await client.json("DELETE", path))[0] == 204
    assert [turn["answer_id"] for turn in (await shown(client, "edited"))["turns"]] == answers[:1]
    desk.llm.reset()
    await client.ask("And unused days?", conversation_id="edited")
    sent = str(desk.llm.calls[0].body["messages"])
    assert "Alpha" in sent and "Bravo" not in sent and "Charlie" not in sent
    assert (await client.json("DELETE", path))[0] == 404


async def test_an_answer_does_not_bring_its_deleted_conversation_back(here: Here, desk: AnswerDesk) -> None:
    """One that was still being written when all of it was deleted; a new question begins anew."""
    gate = asyncio.Event()
    client = here.client(Principal(id="deleter"))
    desk.llm.default = say(ANSWER, gate=gate, gate_at=2)
    async with client.stream(QUESTION, conversation_id="gone", cache="bypass") as response:
        stream = events(response)
        answer_id = (await anext(stream)).data["answer_id"]
        await desk.llm.called()
        assert (await client.json("DELETE", "/api/conversations/gone"))[0] == 204
        gate.set()
        assert [event.name async for event in stream][-1] == "done"
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:

        async def is_settled() -> bool:
            return await valkey.zscore(MARKS, answer_id) is None

        await until(is_settled)
    assert await shown(client, "gone") is None
    desk.llm.reset()
    await client.ask("And unused days?", conversation_id="gone")
    assert [turn["question"] for turn in (await kept(client, "gone", 1))["turns"]] == ["And unused days?"]


async def test_a_conversation_is_exported_as_markdown_and_as_json(here: Here, desk: AnswerDesk) -> None:
    """With every source that is cited, and where it is."""
    client = here.client()
    await client.ask(QUESTION, conversation_id="out")
    talk = await kept(client, "out", 1)
    async with client.call("GET", "/api/conversations/out/export?format=markdown") as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("text/markdown")
        assert "attachment" in response.headers["Content-Disposition"]
    assert text.startswith(f"# {QUESTION}\n\n## {QUESTION}\n") and "[^1-1]" in text
    assert "\n[^1-1]: Leave (version 1)" in text
    _, headers, exported = await client.json("GET", "/api/conversations/out/export?format=json")
    assert exported == talk and "attachment" in headers["Content-Disposition"]
    assert (await client.json("GET", "/api/conversations/out/export?format=pdf"))[0] == 422


@pytest.mark.parametrize("cursor", ["x", "%00", "WzEsMl0", "W10", "a" * 600])
async def test_a_cursor_that_is_none_is_refused(here: Here, cursor: str) -> None:
    """With a sentence."""
    status, _, body = await here.client().json("GET", f"/api/conversations?cursor={cursor}")
    assert (status, body["type"]) == (422, "invalid-request")


# sharing


async def test_a_shared_answer_is_read_by_whoever_may_read_all_its_evidence(
    here: Here, desk: AnswerDesk, secret: str
) -> None:
    """As its owner reads it; to others it is like one that never was, before and after as to strangers meanwhile."""
    owner, colleague, stranger = (here.client(one) for one in (READER, COLLEAGUE, STRANGER))
    answer_id = (await owner.ask(FUND, conversation_id="shared"))[0].data["answer_id"]
    path = f"/api/answers/{answer_id}"
    missing = (await stranger.json("GET", f"/api/answers/{answer_id[:-4]}0000"))[::2]
    assert missing[0] == 404

    async def seen(client: Client) -> tuple[int, Any]:
        status, _, body = await client.json("GET", path)
        return status, body

    assert await seen(colleague) == missing
    assert (await colleague.json("POST", f"{path}/share"))[::2] == missing
    assert (await owner.json("POST", f"{path}/share"))[0] == 204
    status, theirs = await seen(colleague)
    assert (status, theirs["sources"][0]["document_id"]) == (200, secret)
    _, own = await seen(owner)
    assert theirs == {name: value for name, value in own.items() if name != "conversation_id"}
    assert (await kept(owner, "shared", 1))["turns"][0]["shared"] is True
    assert await seen(stranger) == missing
    assert (await here.client(ADMINISTRATOR).json("GET", path))[0] == 200
    assert (await colleague.json("DELETE", f"{path}/share"))[::2] == missing
    assert (await owner.json("DELETE", f"{path}/share"))[0] == 204
    assert await seen(colleague) == missing


async def test_a_shared_follow_up_needs_what_the_answers_before_it_stand_on(
    here: Here, desk: AnswerDesk, secret: str
) -> None:
    """Its writer has read them, also after Valkey has forgotten them, and may repeat them."""
    owner, colleague, stranger = (here.client(one) for one in (READER, COLLEAGUE, STRANGER))
    await owner.ask(FUND, conversation_id="told")
    public = {"document_ids": [desk.ids["leave"]]}
    second = await owner.ask("Paid leave?", conversation_id="told", filters=public)
    await kept(owner, "told", 2)
    await forgotten_by_valkey(desk)
    third = await owner.ask("And unused days?", conversation_id="told", filters=public)
    await kept(owner, "told", 3)
    for stream in (second, third):
        sources = next(event.data for event in stream if event.name == "sources")
        assert secret not in {source["document_id"] for source in sources}
        path = f"/api/answers/{stream[0].data['answer_id']}"
        assert (await owner.json("POST", f"{path}/share"))[0] == 204
        assert (await colleague.json("GET", path))[0] == 200
        assert (await stranger.json("GET", path))[0] == 404


async def test_a_shared_answer_outlives_what_valkey_keeps_of_it(here: Here, desk: AnswerDesk) -> None:
    """Its owner reads it again, too, and it need not be of a conversation."""
    owner = here.client()
    answer_id = (await owner.ask(QUESTION))[0].data["answer_id"]
    path = f"/api/answers/{answer_id}"
    _, _, before = await owner.json("GET", path)
    assert (await owner.json("POST", f"{path}/share"))[0] == 204
    await forgotten_by_valkey(desk)
    assert (await owner.json("GET", path))[2] == before
    assert (await here.client(OTHER).json("GET", path))[2] == before


async def test_an_answer_that_is_still_written_is_not_shared_yet(here: Here, desk: AnswerDesk) -> None:
    """It says so."""
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=2)
    client = here.client()
    async with client.stream(QUESTION, cache="bypass") as response:
        answer_id = (await anext(events(response))).data["answer_id"]
        status, _, body = await client.json("POST", f"/api/answers/{answer_id}/share")
        gate.set()
    assert (status, body["type"]) == (409, "conflict")


# what is taken away


async def test_a_kept_answer_is_withdrawn_from_who_may_not_read_its_documents(
    here: Here, desk: AnswerDesk, secret: str
) -> None:
    """Its question stays, nothing of the answer is shown or reaches the model; given back, it is there again."""
    reader = here.client(READER)
    await reader.ask(FUND, conversation_id="closed")
    await kept(reader, "closed", 1)
    await forgotten_by_valkey(desk)

    async def let_read(readers: list[str]) -> None:
        assert (
            await desk.documents.call("PUT", f"/{secret}", by=ADMINISTRATOR, json={"readers": readers})
        ).status == 200

    await let_read(["board"])
    talk = await shown(reader, "closed")
    (turn,) = talk["turns"]
    assert (turn["question"], turn["status"], turn["text"], turn["sources"]) == (FUND, "withdrawn", "", [])
    assert SECRET not in str(talk)
    desk.llm.reset()
    await reader.ask("And what about paid leave?", conversation_id="closed")
    assert "umbrella fund holds" not in str(desk.llm.calls[0].body["messages"])
    async with reader.call("GET", "/api/conversations/closed/export?format=markdown") as response:
        text = await response.text()
    assert FUND in text and SECRET not in text and "withdrawn" in text
    await let_read(["hr"])
    assert (await shown(reader, "closed"))["turns"][0]["status"] == "done"


async def test_an_answer_on_a_deleted_document_is_erased(here: Here, desk: AnswerDesk, secret: str) -> None:
    """From the database, by the next sweep; from then on nobody can read it, its question excepted."""
    reader = here.client(READER)
    answer_id = (await reader.ask(FUND, conversation_id="erased"))[0].data["answer_id"]
    await kept(reader, "erased", 1)
    assert (await desk.documents.call("DELETE", f"/{secret}", by=ADMINISTRATOR)).status == 204
    url = desk.settings.databases.index_url or ""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def is_erased() -> bool:
            cursor = await connection.execute(
                "SELECT answer IS NULL AND erased FROM kept_answers WHERE answer_id = %s", (answer_id,)
            )
            row = await cursor.fetchone()
            return bool(row and row[0])

        await until(is_erased)
        cursor = await connection.execute("SELECT count(*) FROM kept_evidence WHERE answer_id = %s", (answer_id,))
        assert await cursor.fetchone() == (0,)
    assert (await shown(reader, "erased"))["turns"][0]["status"] == "withdrawn"


async def test_what_is_older_than_its_retention_goes(here: Here, desk: AnswerDesk) -> None:
    """Answers and conversations."""
    client = here.client(Principal(id="old"))
    await client.ask(QUESTION, conversation_id="old")
    await kept(client, "old", 1)
    url = desk.settings.databases.index_url or ""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in (
            b"UPDATE kept_answers SET asked_at = asked_at - interval '200 days' WHERE principal_id = 'old'",
            b"UPDATE conversations SET updated_at = updated_at - interval '200 days' WHERE principal_id = 'old'",
        ):
            await connection.execute(statement)

        async def is_gone() -> bool:
            cursor = await connection.execute("SELECT count(*) FROM conversations WHERE principal_id = 'old'")
            return await cursor.fetchone() == (0,)

        await until(is_gone)


async def test_a_desk_may_keep_no_conversations(desk: AnswerDesk) -> None:
    """Follow-ups are understood all the same."""
    desk.llm.reset()
    person = Principal(id="private")
    async with desk.assistant_here(conversations_kept=False) as here:
        client = here.client(person)
        answer_id = (await client.ask(QUESTION, conversation_id="private"))[0].data["answer_id"]
        await client.ask("And unused days?", conversation_id="private")
        assert QUESTION in str(desk.llm.calls[-1].body["messages"])
        assert (await client.json("POST", f"/api/answers/{answer_id}/share"))[0] == 409
        async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
            assert await valkey.zscore(MARKS, answer_id) is None
        assert (await client.json("GET", "/api/conversations"))[2] == {"conversations": []}


# when something dies


async def test_the_answer_of_a_process_that_died_is_kept_by_another(desk: AnswerDesk) -> None:
    """Once, whole, though nobody asks for it again: whoever takes it over, or finds it ended."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.plan = [say(ANSWER, gate=gate, gate_at=3)]
    async with desk.assistants(1) as (dying,), Redis.from_url(desk.settings.valkey.url or "") as valkey:
        client = await dying.client()
        async with client.stream(QUESTION, conversation_id="orphan", cache="bypass") as response:
            stream = events(response)
            answer_id = (await anext(stream)).data["answer_id"]
            await desk.llm.called()

            async def is_marked() -> bool:
                return await valkey.zscore(MARKS, answer_id) is not None

            await until(is_marked)
            await dying.kill()
        await valkey.zadd(MARKS, {answer_id: int((await valkey.time())[0] * 1000 - 20_000)})
        async with desk.assistant_here() as here:
            (turn,) = (await kept(here.client(ASKER), "orphan", 1))["turns"]
            assert (turn["answer_id"], turn["status"], turn["text"]) == (answer_id, "done", ANSWER)

            async def is_settled() -> bool:
                return not await is_marked()

            await until(is_settled)


async def test_what_does_not_fit_into_the_queue_is_written_by_its_marks(desk: AnswerDesk) -> None:
    """A little later, and nothing twice."""
    desk.llm.reset()
    url = desk.settings.databases.index_url or ""
    async with (
        desk.assistant_here(conversation_answers_unwritten_max=1) as here,
        Redis.from_url(desk.settings.valkey.url or "") as valkey,
        await psycopg.AsyncConnection.connect(url) as connection,
    ):
        client = here.client(Principal(id="crowd"))
        await connection.execute("LOCK TABLE kept_answers IN SHARE MODE")
        asked = [(await client.ask(f"{QUESTION} {word}", conversation_id="crowd"))[0] for word in ("A", "B", "C")]
        answer_ids = [event.data["answer_id"] for event in asked]
        await valkey.zadd(MARKS, dict.fromkeys(answer_ids, 1000 * (await valkey.time())[0] - 20_000))
        await connection.commit()
        talk = await kept(client, "crowd", 3)
        assert [turn["answer_id"] for turn in talk["turns"]] == answer_ids

        async def is_settled() -> bool:
            return not any([await valkey.zscore(MARKS, one) for one in answer_ids])

        await until(is_settled)


async def test_answers_are_not_held_up_by_a_history_that_cannot_be_written(desk: AnswerDesk) -> None:
    """They are kept as soon as it can."""
    desk.llm.reset()
    person = Principal(id="patient")
    url = desk.settings.databases.index_url or ""
    async with desk.assistant_here() as here, await psycopg.AsyncConnection.connect(url) as connection:
        client = here.client(person)
        await connection.execute("LOCK TABLE kept_answers IN SHARE MODE")
        for number in range(3):
            stream = await client.ask(f"{QUESTION} {number}", conversation_id="held")
            assert stream[-1].name == "done"
        await connection.commit()
        assert len((await kept(client, "held", 3))["turns"]) == 3


def test_a_record_of_an_earlier_release_is_read() -> None:
    """It says nothing of how the question was read."""
    record = {"answer_id": "a", "log_id": "l", "principal_id": "p", "question": "q", "conversation_id": None}
    earlier = msgspec.json.encode({**record, "accepted": {"answer_id": "a", "model": "m", "cache": "miss"}})
    assert msgspec.json.decode(earlier, type=AnswerRecord).read_as == ""
