"""A set of questions, asked of a running desk: what `refdesk eval` does.

Everything goes through the HTTP API, as an asker's questions do, and answers bypass the cache. A question that fails is a fault
of the report, and the next one is asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from refdesk import __version__
from refdesk.app.commands.add import Upload, stored, wait_until_settled
from refdesk.app.commands.client import CallFailed, Client, patiently
from refdesk.evaluation.datasets import CorpusEntry, Dataset, Fault, Item, corpus_entries
from refdesk.evaluation.judging import DEEP, judge_answer, judge_ranking, state_of
from refdesk.evaluation.reports import Record, Report

T = TypeVar("T")

LIST_LIMIT = 200
"""Documents of one page."""
RATED_LIMIT = 200

Done = Callable[[], None]


class Catalog:
    """The desk's documents by the names that a set may give them.

    A name is an id, an external id or the last parts of one, a title or a file's name; ``prefix`` stands before the external ids
    of a corpus.
    """

    def __init__(self, documents: Iterable[dict[str, Any]], *, prefix: str) -> None:
        self._prefix = prefix
        self._by_name: dict[str, list[str]] = {}
        for document in documents:
            for name in dict.fromkeys(_names(document)):
                self._by_name.setdefault(name, []).append(document["id"])

    def names_of(self, item: Item) -> dict[str, str]:
        """The expected documents that are there: by id, each with the name that the set gives it."""
        return {one: name for name in item.grades for one in self._find(name)}

    def _find(self, name: str) -> list[str]:
        if self._prefix:
            return self._by_name.get(self._prefix + name, [])
        return self._by_name.get(name, [])


def _names(document: dict[str, Any]) -> Iterator[str]:
    yield from (document["id"], document["title"], document["filename"] or document["title"])
    external = document["external_id"] or ""
    yield external
    for place, character in enumerate(external):
        if character in "/:":
            yield external[place + 1 :]


async def open_catalog(client: Client, *, prefix: str) -> Catalog:
    documents: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": LIST_LIMIT}
    while True:
        page = await patiently(lambda: client.call("GET", "/api/documents", params=query))
        documents += page["documents"]
        if page.get("next_cursor") is None:
            return Catalog(documents, prefix=prefix)
        query["cursor"] = page["next_cursor"]


async def load_corpus(
    client: Client, corpus: Path, *, prefix: str, at_once: int, on_progress: Callable[[int, str], None]
) -> list[Fault]:
    """Puts every document of the corpus under its external id, and waits until they are searchable."""
    faults: list[Fault] = []
    uploads: list[Upload] = []

    async def put(entry: CorpusEntry) -> None:
        address = "/api/documents/by-external-id/" + quote(prefix + entry.id, safe="")
        body = {"text": entry.text or entry.title, "media_type": "text/plain", "title": entry.title or entry.id}
        try:
            document = await patiently(lambda: client.call("PUT", address, json=body))
            uploads.append(stored(Path(entry.id), document, status="added"))
        except CallFailed as error:
            faults.append(Fault(f"document {entry.id}", str(error)))

    await _all(corpus_entries(corpus, faults), put, at_once=at_once)
    await wait_until_settled(client, uploads, on_progress)
    failed = [upload for upload in uploads if upload.state == "failed"]
    return faults + [Fault(f"document {upload.path}", upload.reason or "it could not be indexed.") for upload in failed]


async def ask_all(
    client: Client, dataset: Dataset, *, prefix: str, at_once: int, on_done: Done, on_fault: Callable[[Fault], None]
) -> Report:
    """Every question of the set, ``at_once`` at a time."""
    began = datetime.now(UTC)
    catalog = await open_catalog(client, prefix=prefix)
    run = _Run(client, catalog, answers=dataset.answers, on_fault=on_fault)

    async def one(item: Item) -> None:
        await run.ask(item)
        on_done()

    await _all(iter(dataset.items), one, at_once=at_once)
    order = {item.id: place for place, item in enumerate(dataset.items)}
    return Report(
        dataset=dataset.name,
        version=__version__,
        began_at=began.isoformat(timespec="seconds"),
        models=sorted(run.models),
        records=sorted(run.records, key=lambda record: order[record.id]),
        faults=[*dataset.faults, *run.faults],
        unasked=len(dataset.faults) + len(dataset.items) - len(run.records),
        missing=len(run.missing),
    )


class _Run:
    """What came of the questions so far."""

    def __init__(self, client: Client, catalog: Catalog, *, answers: bool, on_fault: Callable[[Fault], None]) -> None:
        self._client = client
        self._catalog = catalog
        self._answers = answers
        self._on_fault = on_fault
        self.records: list[Record] = []
        self.faults: list[Fault] = []
        self.models: set[str] = set()
        self.missing: set[str] = set()

    async def ask(self, item: Item) -> None:
        names = self._catalog.names_of(item)
        for name in item.grades.keys() - set(names.values()) - self.missing:
            self.missing.add(name)
            self._blame(item, f"the document {name!r} is not in the desk.")
        try:
            record = await (self._answer(item, names) if self._answers else self._search(item, names))
        except CallFailed as error:
            self._blame(item, f"no reply: {error}")
        else:
            self.records.append(record)

    async def _search(self, item: Item, names: dict[str, str]) -> Record:
        body = {"query": item.question, "limit": DEEP}
        reply, total_s = await _timed(lambda: self._client.call("POST", "/api/search", json=body))
        found = [hit["document_id"] for hit in reply["hits"]]
        ranked = list(dict.fromkeys(names.get(one, one) for one in found))
        return Record(
            id=item.id,
            question=item.question,
            kind=item.kind,
            shares=judge_ranking(item, ranked),
            total_s=total_s,
        )

    async def _answer(self, item: Item, names: dict[str, str]) -> Record:
        answer, total_s = await _timed(lambda: finished_answer(self._client, item.question))
        self.models.add(answer["model"])
        if answer.get("degraded"):
            why = answer.get("degraded_reason") or "its model did not answer"
            self._blame(item, f"passages were quoted instead: {why}.")
        return Record(
            id=item.id,
            question=item.question,
            kind=item.kind,
            unanswerable=item.unanswerable,
            state=state_of(answer),
            shares=judge_answer(item, answer, names=names),
            total_s=total_s,
            first_token_s=answer["timings"]["first_token"],
            text=answer["text"],
        )

    def _blame(self, item: Item, what: str) -> None:
        fault = Fault(item.place, what)
        self.faults.append(fault)
        self._on_fault(fault)


async def finished_answer(client: Client, question: str) -> dict[str, Any]:
    """The answer as one object. Streamed, so that a slow model's silence is no silence of the desk."""
    answer: dict[str, Any] = {"text": "", "sentences": [], "sources": []}
    asked = {"question": question, "cache": "bypass"}
    async with aclosing(client.events("POST", "/api/answers", json=asked)) as events:
        async for event in events:
            data = msgspec.json.decode(event.data)
            match event.name:
                case "delta":
                    answer["text"] += data["text"]
                case "sentence":
                    answer["sentences"].append(data)
                case "sources":
                    answer["sources"] = data
                case "error":
                    raise CallFailed(str(data.get("detail") or data.get("title")))
                case "accepted" | "done":
                    answer |= data
    if "finish_reason" not in answer:
        raise CallFailed("the answer's stream ended before the answer did.")
    return answer


async def rated_questions(client: Client) -> list[dict[str, Any]]:
    """What askers have rated, oldest first, as lines of a set: what helped with the documents that it cited."""
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": RATED_LIMIT}
    while True:
        page = await patiently(lambda: client.call("GET", "/api/feedback", params=query))
        rows += [_as_line(rated) for rated in page["rated"]]
        if page.get("next_cursor") is None:
            return rows
        query["cursor"] = page["next_cursor"]


def _as_line(rated: dict[str, Any]) -> dict[str, Any]:
    """Of an answer that did not help, only the question and the comment are worth keeping: what is right is for people to add."""
    helped = rated["rating"] == "up"
    line: dict[str, Any] = {"id": rated["answer_id"], "question": rated["question"], "kind": f"rated {rated['rating']}"}
    if helped and rated["documents"]:
        line["documents"] = rated["documents"]
    if helped and rated["finish_reason"] == "not_found":
        line["unanswerable"] = True
    if rated.get("comment"):
        line["comment"] = rated["comment"]
    return line


async def _timed(operation: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """The result of the attempt that succeeded, and how long that one took."""

    async def attempt() -> tuple[T, float]:
        begun = time.perf_counter()
        result = await operation()
        return result, time.perf_counter() - begun

    return await patiently(attempt)


async def _all(items: Iterator[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    async def worker() -> None:
        for item in items:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
