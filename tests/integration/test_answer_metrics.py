"""After a known workload `/metrics` says exactly what has happened, as counted once more by hand and by the model itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import psutil
import psycopg
import pytest
from tests.support.desk import ASKER, LEAVE, AnswerDesk, Client, Process, events, own_desk, text_of, until
from tests.support.metrics import Samples, of, scraped
from tests.support.scripted_llm import ANSWER, CONTEXT_LENGTH, refuse, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

QUESTION = "How many days of paid leave do employees have?"
OTHER = Principal(id="other")
FAILURES_MAX = 5


@pytest.fixture(scope="module")
async def undisturbed(servers: StackUrls) -> AsyncIterator[StackUrls]:
    """The servers without housekeeping, whose transactions look like changes: a question would miss its exact key by chance."""
    async with await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True) as server:

        async def at_rest() -> bool:
            found = await server.execute("SELECT 1 FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%' LIMIT 1")
            return await found.fetchone() is None

        await server.execute("ALTER SYSTEM SET autovacuum = off")
        await server.execute("SELECT pg_reload_conf()")
        await until(at_rest)
        yield servers
        await server.execute("ALTER SYSTEM RESET autovacuum")
        await server.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
async def desk(undisturbed: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(undisturbed, tmp_path_factory, valkey_number=12, output_tokens_max=10**7) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def process(desk: AnswerDesk) -> AsyncIterator[Process]:
    """A process that has counted nothing yet."""
    desk.llm.reset()
    async with desk.assistants(1, tokens_per_minute_max=10**6) as (process,):
        yield process


class Workload:
    """Asks, and keeps account of what that must have counted."""

    def __init__(self, desk: AnswerDesk, mine: Client, others: Client) -> None:
        self.desk, self.mine, self.others = desk, mine, others
        self.llm = desk.llm
        self.exact: Counter[str] = Counter()
        self.fingerprint: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.aborts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.withheld = 0

    async def answered_and_answered_again(self) -> None:
        """By the model once; then the same log, by the exact key and, in another scope, by its passages."""
        for client in (self.mine, self.mine, self.others):
            assert text_of(await client.ask(QUESTION)) == ANSWER
        self.exact.update(miss=2, hit=1)
        self.fingerprint.update(miss=1, hit=1)
        self.attempts.update(ok=1)

    async def asked_by_five_at_once(self) -> None:
        gate = asyncio.Event()
        self.llm.default = say(gate=gate, gate_at=4)
        question = "How many days of leave, asked by five?"
        leading = asyncio.create_task(self.mine.ask(question))
        await self.llm.called(len(self.llm.calls) + 1)
        asking = [asyncio.create_task(self.mine.ask(question)) for _ in range(4)]
        await until(lambda: self._followers(4))
        gate.set()
        assert {text_of(stream) for stream in await asyncio.gather(leading, *asking)} == {ANSWER}
        self.exact.update(miss=5)
        self.fingerprint.update(miss=1, wait=4)
        self.attempts.update(ok=1)

    async def _followers(self, count: int) -> bool:
        url = self.mine.url
        async with self.desk.session.get(f"{url}/metrics") as response:
            return f"refdesk_singleflight_waiters {count:.1f}" in await response.text()

    async def bypassing(self) -> None:
        """One of the calls does not tell its usage, one fails first, one has nothing but a refusal to say."""
        for plan, attempts in (
            ([say()], {"ok": 1}),
            ([say(usage=None)], {"ok": 1}),
            ([refuse(500), say()], {"model-failed": 1, "ok": 1}),
            ([CONTEXT_LENGTH], {"model-refused": 1}),
        ):
            self.llm.plan = plan
            assert (await self.mine.ask(QUESTION, cache="bypass"))[-1].name == "done"
            self.exact.update(bypass=1)
            self.fingerprint.update(bypass=1)
            self.attempts.update(attempts)

    async def breaking_off(self) -> None:
        """By the model, and by a filter that has told what it cost."""
        for fault, code in (
            (say(after=4, ending="cut"), "model-failed"),
            (say(after=4, finish_reason="content_filter"), "model-filtered"),
        ):
            self.llm.plan = [fault]
            assert (await self.mine.ask(QUESTION, cache="bypass"))[-1].name == "error"
            self._ended_early(code)
            self.attempts.update([code])
            self.failed.update([code])

    async def stopped(self) -> None:
        self.llm.plan = [say(gate=asyncio.Event(), gate_at=1)]
        async with self.mine.stream(QUESTION, cache="bypass") as response:
            async for event in events(response):
                if event.name == "accepted":
                    answer_id = event.data["answer_id"]
                if event.name == "delta":
                    assert (await self.mine.json("DELETE", f"/api/answers/{answer_id}"))[0] == 204
        self._ended_early("cancelled")
        self.attempts.update(cancelled=1)

    def _ended_early(self, reason: str) -> None:
        self.exact.update(bypass=1)
        self.fingerprint.update(bypass=1)
        self.aborts.update([reason])

    async def refused(self) -> None:
        """More tokens than anybody has in a minute."""
        status, _, _ = await self.mine.json(
            "POST", "/api/answers", json={"question": "And how many tokens?", "max_output_tokens": 10**7}
        )
        assert status == 429
        self.exact.update(miss=1)
        self.failed.update(["rate-limited"])

    async def not_valid(self) -> None:
        """Too long, empty, more output than is allowed, and a freshness token that is none."""
        for body in (
            {"question": "why " * 1000},
            {"question": " "},
            {"question": QUESTION, "max_output_tokens": 10**8},
            {"question": QUESTION, "after": ["no token"]},
        ):
            assert (await self.mine.json("POST", "/api/answers", json=body))[0] == 422

    async def withheld_from_strangers(self) -> None:
        """An answer of somebody else's, and a passage of a document that was deleted but is indexed still."""
        answer_id = (await self.mine.ask(QUESTION))[0].data["answer_id"]
        self.exact.update(hit=1)
        assert (await self.others.json("GET", f"/api/answers/{answer_id}"))[0] == 404
        document_id = await self.desk.add("Cellar", "The cellar is locked at night.")
        await self.desk.documents.call("DELETE", f"/{document_id}")
        await self.mine.ask("When is the cellar locked?", cache="bypass")
        self.exact.update(bypass=1)
        self.fingerprint.update(bypass=1)
        self.attempts.update(ok=1)
        self.withheld += 2


async def test_what_is_counted_is_what_has_happened(process: Process, desk: AnswerDesk) -> None:
    """Questions, cache outcomes, calls, tokens, turns, refusals, aborts: equal, and nothing that is not known."""
    work = Workload(desk, await process.client(ASKER), await process.client(OTHER))
    await work.answered_and_answered_again()
    await work.asked_by_five_at_once()
    await work.bypassing()
    await work.breaking_off()
    await work.stopped()
    await work.refused()
    await work.not_valid()
    await work.withheld_from_strangers()
    samples = await until(lambda: _at_rest(process, desk))
    questions, written = work.exact.total(), work.fingerprint["miss"] + work.fingerprint["bypass"]
    counted = of(samples, "refdesk_cache_requests_total", "layer", "outcome")
    assert counted == {("exact", outcome): n for outcome, n in work.exact.items()} | {
        ("fingerprint", outcome): n for outcome, n in work.fingerprint.items()
    }
    assert of(samples, "refdesk_llm_attempts_total", "outcome") == work.attempts
    assert work.attempts.total() == len(desk.llm.calls)
    assert of(samples, "refdesk_stream_aborts_total", "reason") == work.aborts
    assert of(samples, "refdesk_admission_total", "decision", "reason") == {
        ("admitted", ""): written,
        ("refused", "tokens_per_minute"): 1,
        ("refused", "question-too-long"): 1,
        ("refused", "output-limit-too-high"): 1,
        ("refused", "invalid-request"): 2,
    }
    assert of(samples, "refdesk_queue_wait_seconds_count") == {(): written}
    assert of(samples, "refdesk_retrieval_results_count") == {(): questions - work.exact["hit"]}
    assert of(samples, "refdesk_acl_denied_total") == {(): work.withheld}
    assert of(samples, "refdesk_budget_unchecked_total") == {}
    workflows = of(samples, "gen_ai_workflow_duration_seconds_count", "error_type")
    assert workflows == work.failed | {"": questions - work.failed.total()}
    _check_calls(samples, desk, work)


async def _at_rest(process: Process, desk: AnswerDesk) -> Samples | None:
    """The samples once nothing is under way and everything reserved is settled."""
    samples = await scraped(process, desk)
    moving = ("refdesk_inflight", "refdesk_budget_reserved_tokens", "refdesk_singleflight_waiters")
    return None if any(of(samples, name) for name in moving) else samples


def _check_calls(samples: Samples, desk: AnswerDesk, work: Workload) -> None:
    """The model's own account of its calls."""
    calls = desk.llm.calls
    told = [call.reported for call in calls if call.reported is not None]
    assert len(told) < sum(call.words_sent > 0 for call in calls)
    tokens = "gen_ai_client_token_usage_tokens"
    assert of(samples, f"{tokens}_count", "gen_ai_token_type") == {"input": len(told), "output": len(told)}
    assert of(samples, f"{tokens}_sum", "gen_ai_token_type") == {
        "input": sum(usage["prompt_tokens"] for usage in told),
        "output": sum(usage["completion_tokens"] for usage in told),
    }
    operations = of(samples, "gen_ai_client_operation_duration_seconds_count", "gen_ai_operation_name", "error_type")
    shared = of(samples, "refdesk_shared_lookups_total", "kind").get("retrieval", 0)
    failures = {("chat", outcome): n for outcome, n in work.attempts.items() if outcome not in ("ok", "cancelled")}
    assert operations == failures | {
        ("chat", ""): work.attempts["ok"] + work.attempts["cancelled"],
        ("embeddings", ""): work.exact.total() - work.exact["hit"] - shared,
    }
    for name, words in (("time_to_first_chunk", 1), ("time_per_output_chunk", 2)):
        counted = of(samples, f"gen_ai_client_operation_{name}_seconds_count")
        assert counted == {(): sum(call.words_sent >= words for call in calls)}


async def test_the_circuit_is_shown_as_it_is(process: Process, desk: AnswerDesk) -> None:
    """Closed, then open after so many failures in a row; whoever asks then costs the model nothing."""
    client = await process.client()
    await client.ask(QUESTION, cache="bypass")
    assert of(await scraped(process, desk), "refdesk_llm_circuit_state", "provider", "model") == {}
    desk.llm.default = refuse(503)
    for _ in range(4):
        assert (await client.ask(QUESTION, cache="bypass"))[-1].data["degraded"]
    samples = await scraped(process, desk)
    assert of(samples, "refdesk_llm_circuit_state", "provider", "model") == {("openai", "scripted"): 2}
    assert of(samples, "refdesk_llm_attempts_total", "outcome") == {"ok": 1, "model-failed": FAILURES_MAX}


async def test_a_process_tells_its_cpu_time_and_memory(process: Process, desk: AnswerDesk) -> None:
    """As the operating system counts them."""
    samples = await scraped(process, desk)
    system = psutil.Process(process.process.pid)
    assert of(samples, "process_resident_memory_bytes")[()] == pytest.approx(system.memory_info().rss, rel=0.2)
    assert 0 < of(samples, "process_cpu_seconds_total")[()] <= sum(system.cpu_times()[:2]) + 0.02
