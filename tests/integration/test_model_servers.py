"""Every OpenAI-compatible server answers whole, or the start says in one sentence why not: no silent fall-back.

The forms are those of `tests/support/model_forms` and, kept back until the code was done, of `tests/support/model_forms_kept`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from tests.support.desk import LEAVE, AnswerDesk, own_desk, text_of, until
from tests.support.model_forms import SEEN
from tests.support.model_forms_kept import KEPT, Case
from tests.support.model_server import ModelServer

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

QUESTION = "How many days of paid leave do employees have?"
ADMINISTRATOR = Principal(id="admin", groups=("administrators",))
SAID = "Thirty days of leave are due each year"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=11, llm_thinking_tokens_max=2000) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


def test_there_are_forty_forms() -> None:
    """No two of one name."""
    names = [case.name for case in (*SEEN, *KEPT)]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize("case", [*SEEN, *KEPT], ids=lambda case: case.name)
async def test_a_server_answers_or_the_start_says_why(
    desk: AnswerDesk, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole answer and nothing else; or the same sentence at the start and at the answer."""
    caplog.set_level(logging.INFO, "refdesk.answering.writing.models")
    async with ModelServer(case.form).serving() as server:
        url = case.url.format(port=server.port)
        async with desk.assistant_here(llm_url=url, **case.settings) as here:
            await until(lambda: "scripted answers" in caplog.text or "scripted does not answer" in caplog.text)
            async with asyncio.timeout(30):
                stream = await here.client(ADMINISTRATOR).ask(QUESTION, cache="bypass")
    done = stream[-1]
    assert done.name == "done", done
    if case.expects:
        assert f"does not answer; the documents are quoted instead. {done.data['degraded_reason']}" in caplog.text
        assert case.expects in done.data["degraded_reason"]
        assert "wrong-key" not in caplog.text + done.data["degraded_reason"]
    else:
        assert "scripted answers" in caplog.text
        assert (done.data["finish_reason"], done.data["degraded"], done.data.get("degraded_reason")) == (
            "stop",
            False,
            None,
        )
        text = text_of(stream)
        assert text.startswith(SAID)
        assert text.endswith("[1]")
