"""`refdesk eval` against a desk that answers as it is told: refusals, streams that break off, a model that dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from refdesk.app import evaluating
from refdesk.app.commands.client import Client, client_of
from refdesk.app.evaluating import ask_all, load_corpus
from refdesk.evaluation.datasets import Fault, open_dataset
from refdesk.evaluation.reports import Report, measures

Reply = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]

DONE = {"finish_reason": "stop", "degraded": False, "timings": {"first_token": 0.1}}


class ScriptedDesk:
    """Answers each question by its script, else with one quote; the first ones once ``at_once`` questions are in hand."""

    def __init__(self, at_once: int = 1) -> None:
        self.enough, self.full = at_once, asyncio.Event()
        self.scripts: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.at_once = self.at_once_max = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body["question"])
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            if self.at_once == self.enough:
                self.full.set()
            await self.full.wait()
            script = self.scripts.get(body["question"])
            return await (script.pop(0) if script else say())(request, body)
        finally:
            self.at_once -= 1


def say(text: str = "Leave is 27 days.", *, cut: bool = False, **done: Any) -> Reply:
    async def reply(request: web.Request, _: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sentence = {"text": text, "citations": [1], "support": "supported", "block": "paragraph"}
        sent = [
            ("accepted", {"answer_id": "a", "model": "scripted", "cache": "bypass"}),
            ("sources", [{"n": 1, "document_id": "d1"}]),
            ("delta", {"text": text}),
            ("sentence", sentence),
            ("done", DONE | done),
        ]
        for name, data in sent[: 3 if cut else None]:
            await response.write(b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data)))
        return response

    return reply


def fail(detail: str) -> Reply:
    async def reply(request: web.Request, _: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: error\ndata: " + msgspec.json.encode({"detail": detail}) + b"\n\n")
        return response

    return reply


def refuse(status: int, **headers: str) -> Reply:
    async def reply(_: web.Request, __: Any) -> web.StreamResponse:
        return web.json_response({"detail": f"refused with {status}"}, status=status, headers=headers)

    return reply


@asynccontextmanager
async def asked_of(desk: ScriptedDesk) -> AsyncIterator[Client]:
    async def documents(_: web.Request) -> web.StreamResponse:
        one = {"id": "d1", "title": "Leave", "filename": "leave.md", "external_id": "sample:policies/leave.md"}
        return web.json_response({"documents": [one]})

    application = web.Application()
    application.router.add_post("/api/answers", desk.answer)
    application.router.add_get("/api/documents", documents)
    async with TestServer(application) as server, client_of(str(server.make_url("")), key=None) as client:
        yield client


async def measured(desk: ScriptedDesk, file: Path, *, at_once: int = 2) -> tuple[Report, list[Fault]]:
    said: list[Fault] = []
    async with asked_of(desk) as client:
        dataset = open_dataset(file)
        report = await ask_all(client, dataset, prefix="", at_once=at_once, on_done=lambda: None, on_fault=said.append)
    return report, said


def questions(folder: Path, *names: str, **fields: Any) -> Path:
    file = folder / "set.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode({"question": name, **fields}) + b"\n" for name in names))
    return file


async def test_a_run_goes_on_past_what_fails(tmp_path: Path) -> None:
    """Each failure is said with its line and counted; the others are measured."""
    desk = ScriptedDesk()
    desk.scripts = {
        "b?": [fail("The model has died.")],
        "c?": [say(cut=True)],
        "d?": [refuse(422)],
        "e?": [say(degraded=True, degraded_reason="the model does not answer")],
    }
    report, said = await measured(desk, questions(tmp_path, *"a? b? c? d? e? f?".split(), facts=["27 days"]))
    assert [record.id for record in report.records] == ["a?", "e?", "f?"]
    assert report.unasked == 3
    assert sorted(map(str, said)) == [
        "set.jsonl, line 2: no reply: The model has died.",
        "set.jsonl, line 3: no reply: the answer's stream ended before the answer did.",
        "set.jsonl, line 4: no reply: refused with 422",
        "set.jsonl, line 5: passages were quoted instead: the model does not answer.",
    ]
    found = measures(report.records)
    assert (found["fact recall"], found["degraded"]) == (1.0, pytest.approx(1 / 3))
    assert report.models == ["scripted"]


async def test_a_busy_desk_is_asked_again_when_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is no latency, and no failure."""
    pauses: list[float] = []

    async def patiently(operation: Callable[[], Awaitable[Any]]) -> Any:
        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        return await real(operation, sleep=sleep)

    real = evaluating.patiently
    monkeypatch.setattr(evaluating, "patiently", patiently)
    desk = ScriptedDesk()
    desk.scripts = {"a?": [refuse(429, **{"Retry-After": "40"}), refuse(503, **{"Retry-After": "9"})]}
    report, said = await measured(desk, questions(tmp_path, "a?"))
    assert (pauses, said, report.unasked) == ([40, 9], [], 0)
    assert report.records[0].total_s < 5
    assert desk.asked == ["a?"] * 3


@pytest.mark.parametrize("at_once", [1, 3])
async def test_no_more_questions_are_out_than_the_option_says(at_once: int, tmp_path: Path) -> None:
    """And all of them are asked, once."""
    desk = ScriptedDesk(at_once)
    names = [f"{number}?" for number in range(20)]
    report, _ = await measured(desk, questions(tmp_path, *names), at_once=at_once)
    assert desk.at_once_max == at_once
    assert sorted(desk.asked) == sorted(names)
    assert [record.id for record in report.records] == names


@pytest.mark.parametrize("name", ["policies/leave.md", "leave.md", "Leave", "d1", "sample:policies/leave.md"])
async def test_a_document_goes_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    """Its id, external id or the end of it, title, file."""
    report, said = await measured(ScriptedDesk(), questions(tmp_path, "a?", documents=[name]))
    assert said == []
    assert measures(report.records)["citation recall"] == 1.0


async def test_a_document_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    """It counts as not cited."""
    report, said = await measured(ScriptedDesk(), questions(tmp_path, "a?", "b?", documents=["tides.md"]))
    assert [str(fault) for fault in said] == ["set.jsonl, line 1: the document 'tides.md' is not in the desk."]
    assert (report.missing, measures(report.records)["citation recall"]) == (1, 0.0)


async def test_a_document_that_is_refused_is_said_and_the_others_are_loaded(tmp_path: Path) -> None:
    """A corpus goes in under its prefix."""
    stored: dict[str, Any] = {}

    async def put(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name.endswith("/2"):
            return web.json_response({"detail": "too large"}, status=413)
        stored[name] = await request.json()
        document = {"id": name, "version": 1, "state": "indexed", "failure": None}
        return web.json_response(document, status=201)

    application = web.Application()
    application.router.add_put("/api/documents/by-external-id/{name:.*}", put)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "1", "title": "Tides", "text": "High."}\n{"_id": "2", "text": "x"}\nno\n', "utf-8")
    async with TestServer(application) as server, client_of(str(server.make_url("")), key=None) as client:
        faults = await load_corpus(client, corpus, prefix="sea/", at_once=2, on_progress=lambda *_: None)
    assert stored == {"sea/1": {"title": "Tides", "text": "High.", "media_type": "text/plain"}}
    assert sorted(map(str, faults)) == ["corpus.jsonl, line 3: it is not a JSON object.", "document 2: too large"]
