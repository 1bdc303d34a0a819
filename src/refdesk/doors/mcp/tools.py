"""What agents may do here: search, read on around a passage, ask. Each tool names its action, and acts as its caller.

Nothing here knows MCP. Arguments and replies are structs; what a reply says to a model that reads text alone stands beside it.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from refdesk.access.policy import Action, require
from refdesk.answering.assistant import Assistant
from refdesk.answering.indexed_documents import IndexedDocuments, PassageView
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import Entry
from refdesk.answering.searching import SEARCH_LIMIT_MAX, SearchReply, SearchRequest, search
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Filters, FinishReason, Hit, Question, Queued, Sentence, Source, Sources
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.contracts.texts import NUMBER_MAX, Number, Text
from refdesk.doors.citations import Citation, citations_of, listed, page_url, sources_of
from refdesk.web.bodies import said
from refdesk.web.sse import Wait

AROUND_MAX = 10

Report = Callable[[float, str], Awaitable[None]]
"""Tells how far the work is: a number that only grows, and a word about it."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and the address by which they see our page."""

    principal: Principal
    base: str


class Reply(msgspec.Struct, frozen=True):
    """What a tool says: for programs, and as text."""

    structured: Any
    text: str


class ToolFailed(Exception):
    """An answer that ended with an error; ``details`` are its problem's."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(details["detail"])
        self.details = details


_FILTERS = Meta(
    description="Only these documents: `document_ids`, `tags`, `sources` (folders), `since` and `until` (days of their last "
    "change). Empty: all that you may read"
)


class SearchArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: Annotated[Text, Meta(description="What to look for: a question, or words")]
    limit: Annotated[int, Meta(ge=1, le=SEARCH_LIMIT_MAX, description="How many passages")] = 10
    filters: Annotated[Filters, _FILTERS] = Filters()


class ReadArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    document_id: Annotated[Text, Meta(description="As a search or an answer names it")]
    ordinal: Annotated[Number, Meta(description="The passage's position in its document, from 0")] = 0
    around: Annotated[int, Meta(ge=0, le=AROUND_MAX, description="How many passages before and behind it")] = 1


class AskArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    question: Annotated[Text, Meta(description="A whole question, understandable by itself")]
    max_output_tokens: Annotated[int, Meta(ge=1, le=NUMBER_MAX)] | None = None
    filters: Annotated[Filters, _FILTERS] = Filters()


class Passages(msgspec.Struct, frozen=True, kw_only=True):
    """``total``: how many passages the document has."""

    document_id: str
    version: int
    title: str
    url: str
    passages: list[PassageView]
    total: int


class Cited(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mark in the answer, ``answer[start:end]``, and the source that it names; ``url`` opens it on the desk's page."""

    n: int
    start: int
    end: int
    title: str
    url: str
    document_id: str
    version: int
    ordinal: int
    page: int | None = None
    heading: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``sources`` are the passages read; what of them is cited stands in ``citations``."""

    answer_id: str
    answer: str
    finish_reason: FinishReason
    citations: list[Cited]
    sources: list[Source]
    as_of: datetime | None
    index_lag_seconds: float
    degraded: bool
    degraded_reason: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    action: Action
    title: str
    description: str
    arguments: type[msgspec.Struct]
    result: type[msgspec.Struct]
    call: Callable[[Any, Caller, Report], Awaitable[Reply]]


class Tools:
    def __init__(self, assistant: Assistant, documents: IndexedDocuments) -> None:
        self._assistant = assistant
        self._documents = documents
        self.all: Mapping[str, Tool] = {tool.name: tool for tool in self._made()}

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller, report: Report) -> Reply:
        """Raises NotFound for a tool that is not there, Forbidden, InvalidRequest, and what the work raises; ToolFailed."""
        tool = self.all.get(name)
        if tool is None:
            raise NotFound(f"There is no tool of that name. There are {', '.join(self.all)}.")
        require(caller.principal, tool.action)
        try:
            given = msgspec.convert(arguments, tool.arguments)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The arguments of {name} are not valid: {said(error)}.") from error
        return await tool.call(given, caller, report)

    def _made(self) -> list[Tool]:
        return [
            Tool(
                name="search_documents",
                action="passages.search",
                title="Search the documents",
                description="Find passages in the organisation's documents that match a query, best first. Only documents that "
                "you may read are searched.",
                arguments=SearchArguments,
                result=SearchReply,
                call=self._search,
            ),
            Tool(
                name="read_passage",
                action="passages.read",
                title="Read a passage",
                description="Read a passage of a document together with those around it, as a search or an answer named it by "
                "document_id and ordinal.",
                arguments=ReadArguments,
                result=Passages,
                call=self._read,
            ),
            Tool(
                name="ask",
                action="answers.ask",
                title="Ask the desk",
                description="Ask a question; the answer stands on the organisation's documents, and each sentence names the "
                "passage it stands on, like [1].",
                arguments=AskArguments,
                result=Answer,
                call=self._ask,
            ),
        ]

    async def _search(self, given: SearchArguments, caller: Caller, report: Report) -> Reply:
        asked = SearchRequest(query=given.query, limit=given.limit, filters=given.filters)
        reply = await search(self._assistant, asked, caller.principal)
        text = "\n\n".join(_shown(hit) for hit in reply.hits) or "Nothing was found."
        return Reply(msgspec.to_builtins(reply), text)

    async def _read(self, given: ReadArguments, caller: Caller, report: Report) -> Reply:
        document = await self._documents.show(given.document_id, caller.principal)
        if given.ordinal >= len(document.passages):
            raise InvalidRequest(
                f"The document has {len(document.passages)} passages, the first with ordinal 0; {given.ordinal} is none of them.",
                field="ordinal",
            )
        chosen = document.passages[max(0, given.ordinal - given.around) : given.ordinal + given.around + 1]
        passages = Passages(
            document_id=document.document_id,
            version=document.version,
            title=document.title,
            url=f"{caller.base}/#document/{document.document_id}/{given.ordinal}",
            passages=chosen,
            total=len(document.passages),
        )
        return Reply(msgspec.to_builtins(passages), "\n\n".join(passage.text for passage in chosen))

    async def _ask(self, given: AskArguments, caller: Caller, report: Report) -> Reply:
        question = Question(question=given.question, max_output_tokens=given.max_output_tokens, filters=given.filters)
        record = await self._assistant.ask(question, caller.principal)
        finished, progress = FinishedAnswer.begun(record), Progress(report)

        def on_entries(batch: list[Entry]) -> Wait | None:
            finished.add(batch)
            return progress.of(batch)

        await self._assistant.reading.of(record, caller.principal).events(on_entries)
        if finished.error is not None:
            raise ToolFailed(msgspec.json.decode(finished.error))
        return _answer(finished, caller)


class Progress:
    """What an agent hears while an answer is written: its place in line, how much was found, each sentence."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._steps = 0

    def of(self, batch: list[Entry]) -> Wait | None:
        messages = [message for entry in batch if (message := _progress(entry))]
        return partial(self._tell, messages) if messages else None

    async def _tell(self, messages: list[str]) -> None:
        for message in messages:
            self._steps += 1
            await self._report(self._steps, message)


def _progress(entry: Entry) -> str | None:
    match entry.name:
        case Queued.name:
            return f"Waiting; place {msgspec.json.decode(entry.data, type=Queued).position} in line"
        case Sources.name:
            return f"Found {len(msgspec.json.decode(entry.data))} passages"
        case Sentence.name:
            return msgspec.json.decode(entry.data, type=Sentence).text
        case _:
            return None


def _answer(finished: FinishedAnswer, caller: Caller) -> Reply:
    citations = citations_of(finished)
    answer = Answer(
        answer_id=finished.answer_id,
        answer=finished.text,
        finish_reason=finished.finish_reason or "stop",
        citations=[_cited(citation, caller.base) for citation in citations],
        sources=sources_of(finished),
        as_of=finished.as_of,
        index_lag_seconds=finished.index_lag_seconds or 0.0,
        degraded=bool(finished.degraded),
        degraded_reason=finished.degraded_reason or None,
    )
    return Reply(msgspec.to_builtins(answer), finished.text + listed(citations))


def _cited(citation: Citation, base: str) -> Cited:
    source = citation.source
    return Cited(
        n=source.n,
        start=citation.start,
        end=citation.end,
        title=source.title,
        url=page_url(source, base=base),
        document_id=source.document_id,
        version=source.version,
        ordinal=source.ordinal,
        page=source.page,
        heading=source.heading,
    )


def _shown(hit: Hit) -> str:
    place = f", page {hit.page}" if hit.page is not None else ""
    return f"[{hit.n}] {hit.title}{place} (document_id {hit.document_id}, ordinal {hit.ordinal})\n{hit.passage}"


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The struct's JSON Schema with an object at its root, as MCP wants it."""
    (_,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = dict(components.pop(kind.__name__))
    return {**own, "$defs": components} if components else own
