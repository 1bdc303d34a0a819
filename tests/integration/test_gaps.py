"""Questions that the documents do not answer: put together, shown to curators, and told to their askers when a document comes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from tests.support.desk import LEAVE, AnswerDesk, Client, own_desk, until
from tests.support.scripted_llm import say

from refdesk.answering.curating.gaps import GapStore, Unanswered
from refdesk.answering.writing.prompting import NOT_FOUND
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import ADMINISTRATORS, Principal
from refdesk.outside.postgres.database import open_pool
from refdesk.settings.answers import GapLimits

CHIEF = Principal(id="chief", groups=(ADMINISTRATORS,))
ANN, BEN = Principal(id="ann", groups=("crew",)), Principal(id="ben")
PARKING = (
    "Where can visitors park their cars?",
    "Where may visitors park a car?",
    "Where do visitors park their car?",
)
ANSWERING = "Visitors park their cars in the yard behind the building."


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=13, gap_interval_s=0.2) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def gaps(client: Client, state: str = "open") -> list[dict[str, Any]]:
    status, _, body = await client.json("GET", f"/api/gaps?state={state}")
    assert status == 200, body
    return list(body["gaps"])


async def mine(client: Client) -> list[dict[str, Any]]:
    return list((await client.json("GET", "/api/gaps/mine"))[2]["answered"])


async def test_alike_questions_are_one_gap_until_a_document_answers_them(desk: AnswerDesk) -> None:
    """Its askers hear of it, those who may read the document; whoever has seen it hears no more."""
    desk.llm.reset()
    desk.llm.default = say(NOT_FOUND)
    async with desk.assistant_here() as here:
        chief, ann, ben = (here.client(who) for who in (CHIEF, ANN, BEN))
        for client in (ann, ben):
            for question in PARKING:
                assert (await client.ask(question, cache="bypass"))[-1].data["finish_reason"] == "not_found"
        await ann.ask("How is the coffee machine cleaned?", cache="bypass")
        await until(lambda: _sizes(chief, [6, 1]))
        parking = (await gaps(chief))[0]
        assert (parking["askers"], parking["question"] in PARKING) == (2, True)
        _, _, asked = await chief.json("GET", f"/api/gaps/{parking['id']}")
        assert {one["question"] for one in asked["questions"]} == set(PARKING)
        assert await mine(ann) == []

        document_id = await desk.add("Visitors", ANSWERING, readers=("crew",))
        await until(lambda: gaps(chief, "answered"))
        (answered,) = await gaps(chief, "answered")
        assert (answered["id"], answered["answered_by"]) == (parking["id"], document_id)
        (told,) = await mine(ann)
        assert (told["document_id"], told["title"], told["question"] in PARKING) == (document_id, "Visitors", True)
        assert await mine(ben) == [], "the document is not his to read"

        assert (await ann.json("POST", f"/api/gaps/{told['id']}/seen"))[0] == 204
        assert await mine(ann) == []
        assert (await ann.json("POST", f"/api/gaps/{told['id']}/seen"))[0] == 404


async def _sizes(chief: Client, sizes: list[int]) -> bool:
    return [gap["questions"] for gap in await gaps(chief)] == sizes


async def test_an_answer_that_is_rated_badly_is_a_gap_once(desk: AnswerDesk) -> None:
    """However often it is rated; and a gap that is put away is gone."""
    desk.llm.reset()
    question = "Which days of leave expire at the end of March?"
    async with desk.assistant_here() as here:
        chief, ann = here.client(CHIEF), here.client(ANN)
        answer_id = (await ann.ask(question, cache="bypass"))[0].data["answer_id"]
        for _ in range(2):
            await ann.json("POST", f"/api/answers/{answer_id}/feedback", json={"rating": "down", "comment": "No."})
        gap = await until(lambda: _of(chief, question))
        _, _, asked = await chief.json("GET", f"/api/gaps/{gap['id']}")
        assert [one["reason"] for one in asked["questions"]] == ["rated_down"]
        assert (await chief.json("DELETE", f"/api/gaps/{gap['id']}"))[0] == 204
        assert await _of(chief, question) is None
        assert (await chief.json("DELETE", f"/api/gaps/{gap['id']}"))[0] == 404


async def _of(chief: Client, question: str) -> Any:
    return next((gap for gap in await gaps(chief, "all") if gap["question"] == question), None)


async def test_only_curators_read_questions(desk: AnswerDesk) -> None:
    """An asker is refused, whatever they ask for."""
    async with desk.assistant_here() as here:
        ann = here.client(ANN)
        calls = (("GET", "/api/gaps"), ("GET", "/api/gaps/1"), ("DELETE", "/api/gaps/1"), ("GET", "/api/feedback"))
        assert [(await ann.json(*call))[0] for call in calls] == [403] * 4


async def test_a_desk_that_keeps_no_questions_has_no_gaps(desk: AnswerDesk) -> None:
    """By setting."""
    desk.llm.reset()
    desk.llm.default = say(NOT_FOUND)
    question = "Who waters the plants in the lobby?"
    async with desk.assistant_here(gaps_kept=False) as off:
        await off.client(BEN).ask(question, cache="bypass")
    async with desk.assistant_here() as here:
        await here.client(BEN).ask("Who feeds the fish in the lobby?", cache="bypass")
        chief = here.client(CHIEF)
        await until(lambda: _of(chief, "Who feeds the fish in the lobby?"))
        assert await _of(chief, question) is None


async def test_pages_of_gaps_have_each_once(desk: AnswerDesk) -> None:
    """The largest first."""
    async with desk.assistant_here() as here:
        chief, seen, cursor = here.client(CHIEF), list[int](), ""
        while cursor is not None:
            _, _, page = await chief.json("GET", f"/api/gaps?state=all&limit=1&cursor={cursor}")
            seen += [gap["id"] for gap in page["gaps"]]
            cursor = page.get("next_cursor")
        assert sorted(seen) == sorted({gap["id"] for gap in await gaps(chief, "all")})
        status, _, refusal = await chief.json("GET", "/api/gaps?cursor=bm9uZQ==")
        assert (status, refusal["field"]) == (422, "cursor")


async def test_a_rated_answer_is_read_with_its_evidence_by_whoever_may_read_that(desk: AnswerDesk) -> None:
    """Not by its id alone, not by askers, and no more once a document is closed to the reader or deleted."""
    desk.llm.reset()
    desk.llm.default = say("The rope is forty metres long. [1]")
    curator = Principal(id="cora", groups=(ADMINISTRATORS,))
    document_id = await desk.add("Rope", "The rope is forty metres long.", readers=("crew",))
    async with desk.assistant_here() as here:
        ann, cora = here.client(ANN), here.client(curator)
        stream = await ann.ask("How long is the rope?", cache="bypass")
        path = f"/api/feedback/{stream[0].data['answer_id']}"
        assert (await cora.json("GET", path))[0] == 404, "it is not rated"
        await ann.json("POST", f"/api/answers/{stream[0].data['answer_id']}/feedback", json={"rating": "up"})
        status, _, answer = await cora.json("GET", path)
        assert (status, answer["text"]) == (200, "The rope is forty metres long. [1]")
        assert document_id in [source["document_id"] for source in answer["sources"]]
        assert (await ann.json("GET", path))[0] == 403
        assert (await desk.documents.call("DELETE", f"/{document_id}")).status == 204
        assert (await cora.json("GET", path))[0] == 410


async def test_a_question_about_a_deleted_document_goes_with_it(desk: AnswerDesk) -> None:
    """And those that are left speak for their gap."""
    questions = [f"What does the {thing} weigh?" for thing in ("anchor", "anchor chain")]
    async with open_pool(desk.settings.databases.index_url or "", name="test gaps", size_max=1) as pool:
        store = GapStore(pool, limits=GapLimits(similarity_min=0.7, gaps_max=1000, days_kept=90))
        asked = [
            Unanswered(
                name=f"erased-{n}",
                principal_id="ann",
                question=question,
                reason="rated_down",
                at=datetime.now(UTC),
                documents=["gone"] if n == 0 else [],
            )
            for n, question in enumerate(questions)
        ]
        await store.add(asked, np.eye(1, 4, dtype=np.float32).repeat(2, axis=0), model="erasing")
        async with desk.assistant_here() as here:
            chief = here.client(CHIEF)
            assert (await _of(chief, questions[0]))["questions"] == 2
            assert await store.erase(["gone", "another"]) == 1
            assert (await _of(chief, questions[1]))["questions"] == 1
            assert await _of(chief, questions[0]) is None
            assert await store.erase(["gone"]) == 0


async def test_a_curator_reads_what_people_of_their_groups_have_asked(desk: AnswerDesk) -> None:
    """Of a gap of many, those questions alone; of one that none of them has asked, nothing."""
    desk.llm.reset()
    desk.llm.default = say(NOT_FOUND)
    cook, clerk = Principal(id="cook", groups=("galley",)), Principal(id="clerk", groups=("office",))
    asked = ((cook, "When is the galley stove cleaned?"), (clerk, "When is the stove in the galley cleaned?"))
    async with desk.assistant_here() as here:
        chief = here.client(CHIEF)
        for who, question in asked:
            await here.client(who).ask(question, cache="bypass")
        await until(lambda: _sized(chief, asked[0][1], 2))
        for group, seen in (("galley", [asked[0][1]]), ("office", [asked[1][1]]), ("elsewhere", [])):
            curator = here.client(Principal(id=f"curator-{group}", groups=(group,), role="curator"))
            assert [(gap["question"], gap["questions"], gap["askers"]) for gap in await gaps(curator, "all")] == [
                (question, 1, 1) for question in seen
            ]
            one = (await _of(chief, asked[0][1]))["id"]
            status, _, body = await curator.json("GET", f"/api/gaps/{one}")
            assert (status, [q["question"] for q in body.get("questions", [])]) == (200 if seen else 404, seen)


async def _sized(chief: Client, question: str, size: int) -> bool:
    gap = await _of(chief, question)
    return gap is not None and gap["questions"] == size
