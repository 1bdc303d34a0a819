"""The answers' HTTP contract, line by line, on the real services; only the language model is scripted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.desk import LEAVE, AnswerDesk, Client, Here, events, own_desk, text_of
from tests.support.packaged_vocabulary import packaged_tokenizer
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import ConfigurationError

QUESTION = "How many days of paid leave do employees have?"
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))
SOURCE_FIELDS = {"n", "document_id", "version", "title", "passage", "ordinal", "url", "stale"}


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=1) as desk:
        desk.ids = {
            "leave": await desk.add("Leave", LEAVE, tags=["hr"], external_id="wiki/hr/leave.md"),
            "canteen": await desk.add(
                "Canteen", "The canteen serves lunch from noon until two o'clock.", tags=["house"]
            ),
            "salaries": await desk.add(
                "Salaries", "The board's salary is a secret of seven figures.", readers=("board",)
            ),
        }
        yield desk


@pytest.fixture
def client(here: Here) -> Client:
    return here.client()


async def test_an_answer_is_a_stream_of_events_in_their_order(client: Client, desk: AnswerDesk) -> None:
    """Accepted, sources, deltas, the sentences after theirs, done; ids go up by one from one."""
    stream = await client.ask(QUESTION, cache="bypass")
    names = [event.name for event in stream]
    assert names == ["accepted", "sources", *["delta"] * 9, "sentence", "done"]
    assert [event.id for event in stream] == [*range(1, len(stream) + 1)]
    accepted, sources, done = stream[0].data, stream[1].data, stream[-1].data
    assert accepted.keys() == {"answer_id", "model", "cache"}
    assert (accepted["model"], accepted["cache"]) == ("scripted", "bypass")
    assert [source["n"] for source in sources] == [*range(1, len(sources) + 1)]
    assert all(source.keys() == SOURCE_FIELDS for source in sources)
    assert sources[0]["document_id"] == desk.ids["leave"]
    assert text_of(stream) == ANSWER
    assert stream[-2].data == {"text": ANSWER, "citations": [1], "support": "supported", "block": "paragraph"}
    assert done["finish_reason"] == "stop"
    assert done["usage"] == {"input_tokens": 100, "output_tokens": 9}
    assert done["timings"].keys() == {"queue", "embed", "retrieve", "first_token", "total"}
    assert (done["degraded"], done["index_lag_seconds"] >= 0) == (False, True)
    assert done["as_of"].endswith("Z")


async def test_the_stream_is_not_buffered_on_its_way(client: Client) -> None:
    """Its headers tell proxies so."""
    async with client.stream(QUESTION) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in response.headers


async def test_words_reach_the_reader_before_the_answer_is_complete(client: Client, desk: AnswerDesk) -> None:
    """As soon as the model has them."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=3)
    async with client.stream(QUESTION, cache="bypass") as response:
        seen = []
        async for event in events(response):
            seen.append(event)
            if len([e for e in seen if e.name == "delta"]) == 3:
                gate.set()
    assert text_of(seen) == ANSWER


async def test_as_json_an_answer_is_one_object(client: Client) -> None:
    """The same answer, finished; and again under its own address."""
    status, headers, answer = await client.json("POST", "/api/answers", json={"question": QUESTION})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (answer["status"], answer["text"], answer["finish_reason"]) == ("done", ANSWER, "stop")
    steps = [f"{name};dur={seconds * 1000:.1f}" for name, seconds in answer["timings"].items() if seconds is not None]
    assert headers["server-timing"] == ", ".join(steps) and "total;dur=" in headers["server-timing"]
    assert [sentence["text"] for sentence in answer["sentences"]] == [ANSWER]
    assert answer["sources"][0].keys() == SOURCE_FIELDS
    status, _, again = await client.json("GET", f"/api/answers/{answer['answer_id']}")
    assert (status, again) == (200, answer)


async def test_a_running_answer_can_be_looked_at(client: Client, desk: AnswerDesk) -> None:
    """What there is of it, marked as running."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=2)
    async with client.stream(QUESTION, cache="bypass") as response:
        seen = []
        async for event in events(response):
            seen.append(event)
            if text_of(seen) == "Thirty days":
                _, _, answer = await client.json("GET", f"/api/answers/{seen[0].data['answer_id']}")
                assert (answer["status"], answer["text"]) == ("running", "Thirty days")
                gate.set()


async def test_sentences_come_whole_when_they_are_asked_for(client: Client, desk: AnswerDesk) -> None:
    """No deltas; the ids and everything else are the log's."""
    desk.llm.default = say("Thirty days. [1] Unused days expire on 31 March. [1]")
    stream = await client.ask(QUESTION, granularity="sentence", cache="bypass")
    assert [event.name for event in stream] == ["accepted", "sources", "sentence", "sentence", "done"]
    assert [event.data["text"] for event in stream[2:4]] == ["Thirty days. [1]", "Unused days expire on 31 March. [1]"]
    ids = [event.id for event in stream]
    assert ids == sorted(set(ids))
    async with client.resume(stream[0].data["answer_id"], 2) as response:
        assert [event.id async for event in events(response)][-1] == ids[-1]


async def test_the_model_reads_the_passages_and_the_question(client: Client, desk: AnswerDesk) -> None:
    """And what it may write at most."""
    await client.ask(QUESTION, max_output_tokens=77, cache="bypass")
    call = desk.llm.calls[0]
    assert LEAVE in call.prompt
    assert call.prompt.endswith(f"Question: {QUESTION}")
    assert (call.body["max_tokens"], call.body["stream"]) == (77, True)
    assert "secret" not in str(call.body)


async def test_what_the_asker_may_not_read_is_not_there(here: Here, desk: AnswerDesk) -> None:
    """Neither as a source nor in the prompt; for its readers it is."""
    desk.llm.reset()
    question = "What is the board's salary?"
    stream = await here.client().ask(question)
    assert "Salaries" not in [source["title"] for source in stream[1].data]
    assert "seven figures" not in str([call.body for call in desk.llm.calls])
    stream = await here.client(Principal(id="bo", groups=("board",))).ask(question)
    assert stream[1].data[0]["title"] == "Salaries"


async def test_filters_narrow_an_answer_to_some_documents(client: Client, desk: AnswerDesk) -> None:
    """By id and by tag."""
    by_tag = await client.ask(QUESTION, filters={"tags": ["house"]})
    by_id = await client.ask(QUESTION, filters={"document_ids": [desk.ids["canteen"]]})
    for stream in (by_tag, by_id):
        assert [source["title"] for source in stream[1].data] == ["Canteen"]


async def test_filters_by_source_and_day_have_answers_of_their_own(client: Client) -> None:
    """Of a folder, or of those changed since a day; nobody is given the cached answer to the question without them."""
    today = datetime.now(UTC).date()
    for filters, titles in (
        ({}, {"Leave", "Canteen"}),
        ({"sources": ["wiki/"]}, {"Leave"}),
        ({"sources": ["wiki/it"]}, set()),
        ({"since": str(today - timedelta(days=1))}, {"Leave", "Canteen"}),
        ({"since": str(today + timedelta(days=2))}, set()),
        ({"until": str(today - timedelta(days=2)), "sources": ["wiki"]}, set()),
        ({"until": "9999-12-31", "sources": ["wiki"]}, {"Leave"}),
    ):
        for _ in range(2):
            stream = await client.ask(QUESTION, filters=filters)
            assert {source["title"] for source in stream[1].data} == titles, filters


async def test_without_a_passage_no_model_is_asked(client: Client, desk: AnswerDesk) -> None:
    """The answer says that nothing was found."""
    stream = await client.ask(QUESTION, filters={"tags": ["nothing"]})
    assert stream[1].data == []
    assert stream[-1].data["finish_reason"] == "not_found"
    assert stream[-2].data == {"text": text_of(stream), "citations": [], "support": "unchecked", "block": "paragraph"}
    assert not desk.llm.calls


async def test_a_model_that_finds_nothing_says_so(client: Client, desk: AnswerDesk) -> None:
    """And its answer is marked."""
    desk.llm.default = say("I could not find this in the documents.")
    stream = await client.ask("Who won the cup?", cache="bypass")
    assert stream[-1].data["finish_reason"] == "not_found"


@pytest.mark.parametrize("limit", [1, 5])
async def test_an_answer_never_exceeds_its_output_limit(client: Client, desk: AnswerDesk, limit: int) -> None:
    """Not by a token, whatever the model thinks of max_tokens; its connection is closed then."""
    desk.llm.default = say(" and", ending="endless")
    stream = await client.ask(QUESTION, max_output_tokens=limit, cache="bypass")
    assert text_of(stream).split() == ["and"] * limit
    assert stream[-1].data["finish_reason"] == "length"
    async with within(1):
        await desk.llm.calls[0].closed.wait()


async def test_a_follow_up_is_understood(client: Client, desk: AnswerDesk) -> None:
    """The question before it, and its answer, are part of it; for its owner alone."""
    await client.ask(QUESTION, conversation_id="c1")
    desk.llm.reset()
    await client.ask("When do they expire?", conversation_id="c1")
    messages = desk.llm.calls[0].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == QUESTION
    assert messages[2]["content"] == "Thirty days of leave are due each year."
    assert messages[3]["content"].endswith(f"Question: {QUESTION} When do they expire?")


async def test_a_new_topic_in_a_conversation_is_a_new_topic(client: Client, desk: AnswerDesk) -> None:
    """However short: what the documents say of it decides, not its words."""
    await client.ask(QUESTION, conversation_id="c2")
    desk.llm.reset()
    await client.ask("And when is lunch?", conversation_id="c2")
    assert desk.llm.calls[0].prompt.endswith("Question: And when is lunch?")


async def test_a_conversation_of_somebody_else_is_empty(here: Here, desk: AnswerDesk) -> None:
    """Its name tells nothing."""
    await here.client().ask(QUESTION, conversation_id="mine")
    desk.llm.reset()
    await here.client(Principal(id="other")).ask("And lunch?", conversation_id="mine")
    assert QUESTION not in str(desk.llm.calls[0].body)


async def test_whose_answer_was_somebody_elses_log_has_a_conversation_too(here: Here, desk: AnswerDesk) -> None:
    """A turn is the log it points at."""
    desk.llm.reset()
    for number in range(2):
        await here.client().ask("How many days of leave are there in a year?", conversation_id=f"shared{number}")
    assert len(desk.llm.calls) <= 1
    await here.client().ask("And lunch?", conversation_id="shared1")
    assert "How many days of leave are there in a year?" in str(desk.llm.calls[-1].body["messages"][1])


async def test_a_source_with_a_newer_version_on_its_way_is_stale(client: Client, desk: AnswerDesk) -> None:
    """Until the index has it."""
    document_id = await desk.add("Parking", "Bicycles are parked in the northern yard of the depot.")
    question = {"filters": {"document_ids": [document_id]}}
    assert not (await client.ask("Where are bicycles parked?", **question))[1].data[0]["stale"]
    changed = await desk.change(document_id, "Bicycles are parked in the southern yard of the depot.")
    assert (await client.ask("Where are bicycles parked?", **question))[1].data[0]["stale"]
    await desk.put_into_index(changed, "Bicycles are parked in the southern yard of the depot.")
    source = (await client.ask("Where are bicycles parked?", **question))[1].data[0]
    assert (source["stale"], "southern" in source["passage"]) == (False, True)


async def test_a_deleted_document_is_gone_before_the_index_follows(client: Client, desk: AnswerDesk) -> None:
    """From answers, searches and passages alike."""
    document_id = await desk.add("Umbrellas", "Umbrellas are lent out at the front desk.")
    await desk.documents.call("DELETE", f"/{document_id}", by=ADMINISTRATOR)
    stream = await client.ask("Where are umbrellas lent out?")
    assert document_id not in [source["document_id"] for source in stream[1].data]
    _, _, found = await client.json("POST", "/api/search", json={"query": "umbrellas front desk"})
    assert document_id not in [hit["document_id"] for hit in found["hits"]]
    assert (await client.json("GET", f"/api/passages/{document_id}"))[0] == 404


async def test_what_is_gone_takes_nobodys_place(client: Client, desk: AnswerDesk) -> None:
    """Twenty notes that the index still has push out none of what is there."""
    text = "Kayaks are lent out at the boathouse."
    gone = [await desk.add(f"Kayaks {number}", f"{text} Note {number}.") for number in range(20)]
    there = await desk.add("Boats", f"{text} Oars are lent out there, too, and sails, and whatever else goes on water.")
    for document_id in gone:
        await desk.documents.call("DELETE", f"/{document_id}", by=ADMINISTRATOR)
    _, _, found = await client.json("POST", "/api/search", json={"query": "kayaks boathouse", "limit": 3})
    assert there in [hit["document_id"] for hit in found["hits"]]
    assert len(found["hits"]) <= 3


async def test_an_answer_waits_for_the_writes_it_is_to_know(client: Client, desk: AnswerDesk) -> None:
    """As long as it may; then it says which are missing."""
    document_id = await desk.add("Keys", "Spare keys are kept in the safe.")
    changed = await desk.change(document_id, "Spare keys are kept by the porter.")
    body = {"question": "Where are spare keys kept?", "after": [changed["freshness_token"]], "wait_seconds": 0.1}
    status, headers, refused = await client.json("POST", "/api/answers", json=body)
    assert (status, refused["type"], refused["missing"]) == (409, "not-yet-searchable", [changed["freshness_token"]])
    assert int(headers["retry-after"]) >= 1
    asking = asyncio.create_task(client.ask(**body | {"wait_seconds": 20}))
    await asyncio.wait([asking], timeout=0.2)
    assert not asking.done()
    await desk.put_into_index(changed, "Spare keys are kept by the porter.")
    assert "porter" in (await asking)[1].data[0]["passage"]


async def test_a_search_gives_the_passages_without_an_answer(client: Client) -> None:
    """Best first, with the fields of a source."""
    status, _, found = await client.json("POST", "/api/search", json={"query": QUESTION, "limit": 1})
    assert status == 200
    assert found.keys() == {"hits", "as_of", "index_lag_seconds"}
    assert [hit["title"] for hit in found["hits"]] == ["Leave"]
    assert found["hits"][0].keys() == SOURCE_FIELDS


async def test_only_administrators_see_scores(here: Here) -> None:
    """They tell about documents that one may not read."""
    _, _, found = await here.client(ADMINISTRATOR).json("POST", "/api/search", json={"query": QUESTION})
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ({"question": ""}, "invalid-request"),
        ({"question": " \n "}, "invalid-request"),
        ({}, "invalid-request"),
        ({"question": 7}, "invalid-request"),
        ({"question": "Q?", "unknown": 1}, "invalid-request"),
        ({"question": "Q?", "max_output_tokens": 0}, "invalid-request"),
        ({"question": "Q?", "granularity": "word"}, "invalid-request"),
        ({"question": "Q?", "cache": "never"}, "invalid-request"),
        ({"question": "Q?", "wait_seconds": -1}, "invalid-request"),
        ({"question": "Q?", "after": ["nonsense"]}, "invalid-request"),
        ({"question": "Q?", "filters": {"colour": "red"}}, "invalid-request"),
        ({"question": "Q?", "filters": {"since": "yesterday"}}, "invalid-request"),
        ({"question": "Q?", "filters": {"until": "2026-02-30"}}, "invalid-request"),
        ({"question": "Q?", "filters": {"sources": "wiki"}}, "invalid-request"),
        ({"question": "Q?", "conversation_id": "c" * 129}, "invalid-request"),
        ([], "invalid-request"),
        (b"{", "malformed-json"),
        (b"\xff", "malformed-json"),
    ],
)
async def test_a_bad_question_is_refused_with_problem_details(client: Client, body: Any, type_: str) -> None:
    """422 with a type, a title and what to do."""
    arguments = {"data": body} if isinstance(body, bytes) else {"json": body}
    status, headers, refused = await client.json("POST", "/api/answers", **arguments)
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert (refused["type"], refused["status"]) == (type_, 422)
    assert refused["title"]
    assert refused["detail"]


async def test_limits_are_refused_with_both_numbers(client: Client) -> None:
    """The limit, the actual value and the setting."""
    status, _, refused = await client.json("POST", "/api/answers", json={"question": "word " * 600})
    assert (status, refused["type"], refused["limit"]) == (422, "question-too-long", 500)
    assert refused["actual"] > 500
    assert "REFDESK_QUESTION_TOKENS_MAX" in refused["detail"]
    status, _, refused = await client.json("POST", "/api/answers", json={"question": "Q?", "max_output_tokens": 9999})
    assert (status, refused["type"], refused["limit"], refused["actual"]) == (422, "output-limit-too-high", 1024, 9999)
    for limit in (0, 101):
        status, _, refused = await client.json("POST", "/api/search", json={"query": "Q?", "limit": limit})
        assert (status, refused["limit"], refused["actual"]) == (422, 100, limit)


async def test_with_the_models_tokenizer_a_question_is_counted_exactly(desk: AnswerDesk) -> None:
    """Neither more nor less; without it a question of this length would be refused."""
    async with desk.assistant_here(llm_tokenizer=str(packaged_tokenizer()), question_tokens_max=100) as here:
        for question, status in (("leave " * 100, 200), ("leave " * 101, 422)):
            told, _, body = await here.client().json("POST", "/api/answers", json={"question": question})
            assert told == status
        assert (body["type"], body["actual"]) == ("question-too-long", 101)


async def test_a_service_whose_tokenizer_is_missing_says_so_and_does_not_start(
    desk: AnswerDesk, tmp_path: Path
) -> None:
    """Rather than counting as it was not told to."""
    with pytest.raises(ConfigurationError, match="is not there"):
        async with desk.assistant_here(llm_tokenizer=str(tmp_path / "tokenizer.json")):
            pass


async def test_a_foreign_answer_looks_like_a_missing_one(here: Here) -> None:
    """404 with the same body, on every address of it."""
    answer_id = (await here.client().ask(QUESTION))[0].data["answer_id"]
    other = here.client(Principal(id="other"))
    for method, suffix in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/feedback")):
        arguments = {"json": {"rating": "up"}} if method == "POST" else {}
        foreign = await other.json(method, f"/api/answers/{answer_id}{suffix}", **arguments)
        missing = await other.json(method, f"/api/answers/{'0' * 32}{suffix}", **arguments)
        assert (foreign[0], foreign[2]) == (missing[0], missing[2])
        assert (foreign[0], foreign[2]["type"]) == (404, "not-found")


async def test_nobody_asks_without_a_key(here: Here) -> None:
    """401, and how to come by one."""
    nobody = Client(here.url, {}, here.session)
    status, headers, refused = await nobody.json("POST", "/api/answers", json={"question": QUESTION})
    assert (status, refused["type"]) == (401, "unauthenticated")
    assert "www-authenticate" in headers


async def test_a_wrong_method_is_named(client: Client) -> None:
    """405, not 404, and what it takes instead."""
    status, headers, refused = await client.json("PUT", "/api/answers", json={})
    assert (status, refused["type"], headers["allow"]) == (405, "method-not-allowed", "POST")


async def test_a_wrong_address_is_told_where_to_look(client: Client) -> None:
    """404 as a problem."""
    status, _, refused = await client.json("GET", "/api/nowhere")
    assert (status, refused["type"]) == (404, "not-found")
    assert "/openapi.json" in refused["detail"]


async def test_a_last_event_id_must_be_a_number(client: Client) -> None:
    """422 otherwise."""
    answer_id = (await client.ask(QUESTION))[0].data["answer_id"]
    path, headers = f"/api/answers/{answer_id}/events", {"Last-Event-ID": "many"}
    assert (await client.json("GET", path, headers=headers))[0] == 422


async def test_an_asker_says_whether_an_answer_helped(client: Client) -> None:
    """Once or again; a bad rating is refused."""
    answer_id = (await client.ask(QUESTION))[0].data["answer_id"]
    path = f"/api/answers/{answer_id}/feedback"
    for feedback in ({"rating": "down", "comment": "No."}, {"rating": "up"}):
        assert (await client.json("POST", path, json=feedback))[0] == 204
    assert (await client.json("POST", path, json={"rating": "meh"}))[0] == 422


async def test_rated_questions_are_listed_with_what_their_answers_cited(here: Here, desk: AnswerDesk) -> None:
    """For administrators, oldest first, page by page; no text of a document is kept."""
    client = here.client()
    rated = [(await client.ask(QUESTION, cache="bypass"))[0].data["answer_id"] for _ in range(3)]
    for answer_id in rated:
        path = f"/api/answers/{answer_id}/feedback"
        assert (await client.json("POST", path, json={"rating": "up", "comment": "Yes."}))[0] == 204
    assert (await client.json("GET", "/api/feedback"))[0] == 403
    administrator = here.client(ADMINISTRATOR)
    found, cursor = [], None
    while True:
        page = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        status, _, body = await administrator.json("GET", "/api/feedback", params=page)
        assert status == 200, body
        found += body["rated"]
        cursor = body.get("next_cursor")
        if cursor is None:
            break
    assert [one["answer_id"] for one in found if one["answer_id"] in rated] == rated
    last = found[-1]
    assert (last["question"], last["rating"], last["comment"], last["finish_reason"]) == (
        QUESTION,
        "up",
        "Yes.",
        "stop",
    )
    assert last["documents"] == [desk.ids["leave"]]
    assert (await administrator.json("GET", "/api/feedback", params={"limit": 0}))[0] == 422


async def test_a_document_can_be_read_as_it_was_indexed(client: Client, desk: AnswerDesk) -> None:
    """By its readers."""
    _, _, document = await client.json("GET", f"/api/passages/{desk.ids['leave']}")
    assert [passage["text"] for passage in document["passages"]] == [LEAVE]
    assert (await client.json("GET", f"/api/passages/{desk.ids['salaries']}"))[0] == 404


async def test_waiting_for_the_model_is_told(desk: AnswerDesk) -> None:
    """Position and estimate while in line; beyond the line 429 and 503, each with its numbers, at once."""
    gate = asyncio.Event()
    desk.llm.reset()
    desk.llm.default = say(gate=gate)
    limits = {"concurrent_answers_max": 1, "waiting_per_principal_max": 1, "waiting_principals_max": 2}
    async with desk.assistant_here(**limits) as here:
        first = asyncio.create_task(here.client().ask("First?", cache="bypass"))
        await desk.llm.called()
        async with here.client().stream("Second?", cache="bypass") as response:
            seen = []
            async for event in events(response):
                seen.append(event)
                if event.name == "queued" and not gate.is_set():
                    status, headers, refused = await here.client().json(
                        "POST", "/api/answers", json={"question": "Third?", "cache": "bypass"}
                    )
                    assert (status, refused["type"]) == (429, "rate-limited")
                    assert (refused["limit"], refused["actual"], int(headers["retry-after"]) >= 1) == (1, 1, True)
                    third = asyncio.create_task(here.client(Principal(id="p3")).ask("Third?", cache="bypass"))
                    await asyncio.wait([third], timeout=0.5)
                    status, headers, refused = await here.client(Principal(id="p4")).json(
                        "POST", "/api/answers", json={"question": "Fourth?", "cache": "bypass"}
                    )
                    assert (status, refused["type"]) == (503, "overloaded")
                    assert (refused["limit"], refused["actual"], int(headers["retry-after"]) >= 1) == (2, 2, True)
                    gate.set()
        queued = [event.data for event in seen if event.name == "queued"]
        assert queued[0]["position"] == 1
        assert queued[0]["estimated_seconds"] > 0
        assert seen[-1].data["timings"]["queue"] > 0
        for asking in (first, third):
            assert (await asking)[-1].name == "done"


async def test_without_a_model_the_desk_quotes(desk: AnswerDesk) -> None:
    """A product feature: sentences as they stand, with their sources."""
    async with desk.assistant_here(llm_url=None) as here:
        stream = await here.client().ask(QUESTION)
    assert stream[0].data["model"] == "extractive"
    assert "thirty days of paid leave" in text_of(stream)
    assert (stream[-1].data["finish_reason"], stream[-1].data["degraded"]) == ("stop", False)
    assert next(event.data for event in stream if event.name == "sentence")["citations"] == [1]
