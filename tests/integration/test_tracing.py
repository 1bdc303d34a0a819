"""One trace from the question to the model."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.desk import LEAVE, AnswerDesk, Client, Here, own_desk, until
from tests.support.scripted_llm import Behaviour, refuse, say

from refdesk.app.embedded.stack import StackUrls

TRACE = "0af7651916cd43dd8448eb211c80319c"
QUESTION = "How many days of paid leave do employees have?"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=9) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def client(desk: AnswerDesk) -> AsyncIterator[Client]:
    async with desk.assistant_here() as here:
        yield _traced(here)


def _traced(here: Here) -> Client:
    client = here.client()
    return Client(client.url, {**client.headers, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, client.session)


async def test_a_question_is_one_trace_from_the_callers_span_to_the_models(
    client: Client, exporter: InMemorySpanExporter
) -> None:
    """Answer, retrieval, embedding and chat, connected; the text of none of them recorded."""
    exporter.clear()
    await client.ask(QUESTION, cache="bypass")
    spans = await until(lambda: _by_name(exporter, count=4))
    assert set(spans) == {
        "invoke_workflow refdesk.answer",
        "retrieval refdesk.index",
        "embeddings all-MiniLM-L6-v2-int8",
        "chat scripted",
    }
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    answer = spans["invoke_workflow refdesk.answer"].context.span_id
    assert [spans[name].parent.span_id for name in ("retrieval refdesk.index", "chat scripted")] == [answer, answer]
    assert spans["chat scripted"].attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert "leave" not in str([span.attributes for span in spans.values()])


async def test_spans_say_what_the_conventions_ask_for(
    client: Client, desk: AnswerDesk, exporter: InMemorySpanExporter
) -> None:
    """Operation, provider, model, limits and usage, each under its conventional name."""
    exporter.clear()
    await client.ask(QUESTION, cache="bypass", max_output_tokens=99, conversation_id="talk")
    spans = await until(lambda: _by_name(exporter, count=4))
    told = {name: dict(span.attributes) for name, span in spans.items()}
    assert told["invoke_workflow refdesk.answer"] == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "refdesk.answer",
        "gen_ai.conversation.id": "talk",
    }
    assert told["retrieval refdesk.index"] == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "refdesk.index",
        "gen_ai.request.top_k": 8,
    }
    assert told["embeddings all-MiniLM-L6-v2-int8"] == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "refdesk",
        "gen_ai.request.model": "all-MiniLM-L6-v2-int8",
    }
    del told["chat scripted"]["gen_ai.response.time_to_first_chunk"]
    server = urlsplit(desk.settings.language_model.url or "")
    assert told["chat scripted"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 99,
        "server.address": server.hostname,
        "server.port": server.port,
        "gen_ai.response.id": "scripted",
        "gen_ai.response.model": "scripted",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 9,
    }


@pytest.mark.parametrize(
    ("plan", "failed", "error"),
    [
        ([refuse(500), say()], [(1, "model-failed")], None),
        ([refuse(500), refuse(500)], [(1, "model-failed"), (2, "model-failed")], "model-failed"),
        ([refuse(400)], [(1, "model-refused")], "model-refused"),
    ],
    ids=["tried again", "given up", "refused"],
)
async def test_a_request_is_one_span_however_often_it_is_tried(
    client: Client,
    desk: AnswerDesk,
    exporter: InMemorySpanExporter,
    plan: list[Behaviour],
    failed: list[tuple[int, str]],
    error: str | None,
) -> None:
    """Each attempt that fails is an event in it; it has failed itself when the last one has."""
    desk.llm.reset()
    desk.llm.plan = list(plan)
    exporter.clear()
    await client.ask(QUESTION, cache="bypass")
    await until(lambda: "invoke_workflow refdesk.answer" in (_by_name(exporter, count=1) or {}))
    (chat,) = [span for span in exporter.get_finished_spans() if span.name == "chat scripted"]
    told = [(event.attributes["refdesk.attempt"], event.attributes["error.type"]) for event in chat.events]
    assert told == failed
    assert (chat.attributes.get("error.type"), chat.status.is_ok) == (error, error is None)
    assert chat.attributes["server.port"] == urlsplit(desk.settings.language_model.url or "").port


def _by_name(exporter: InMemorySpanExporter, *, count: int) -> dict[str, ReadableSpan] | None:
    spans = {span.name: span for span in exporter.get_finished_spans()}
    return spans if len(spans) >= count else None
