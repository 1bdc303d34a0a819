"""An answer as a chat completion: whole, or as chunks while it is written. Its wording is ours; the envelope is OpenAI's."""

import time
from datetime import datetime
from typing import Any, Literal

import msgspec

from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import AnswerRecord, Entry
from refdesk.contracts.answers import Delta, Done, Failed, FinishReason, Usage
from refdesk.doors.citations import Citation, citations_of, listed, page_url
from refdesk.doors.openai.requests import MODEL
from refdesk.web.openai_errors import error_object

Finish = Literal["stop", "length"]
DONE = b"data: [DONE]\n\n"


class UrlCitation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenAI's four fields, and where the passage stands. ``start_index`` and ``end_index`` enclose the mark, ``[1]``."""

    start_index: int
    end_index: int
    title: str
    url: str
    document_id: str
    version: int
    n: int
    page: int | None = None
    heading: str | None = None


class Annotation(msgspec.Struct, frozen=True):
    url_citation: UrlCitation
    type: Literal["url_citation"] = "url_citation"


class DeskReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of an answer OpenAI's format has no place for."""

    answer_id: str
    model: str
    cache: str
    finish_reason: FinishReason | None
    sources: msgspec.Raw
    as_of: datetime | None
    index_lag_seconds: float | None
    degraded: bool | None = None
    degraded_reason: str | msgspec.UnsetType = msgspec.UNSET
    access_as_of: datetime | msgspec.UnsetType = msgspec.UNSET


class CompletionUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionMessage(msgspec.Struct, frozen=True):
    content: str
    annotations: list[Annotation]
    refusal: None = None
    role: Literal["assistant"] = "assistant"


class Choice(msgspec.Struct, frozen=True):
    message: CompletionMessage
    finish_reason: Finish
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str = MODEL
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: None = None
    refdesk: DeskReply


def finish_of(answer: FinishedAnswer) -> Finish:
    return "length" if answer.finish_reason == "length" else "stop"


def annotations_of(citations: list[Citation], *, base: str) -> list[Annotation]:
    return [Annotation(url_citation(citation, base=base)) for citation in citations]


def url_citation(citation: Citation, *, base: str) -> UrlCitation:
    source = citation.source
    return UrlCitation(
        start_index=citation.start,
        end_index=citation.end,
        title=source.title,
        url=page_url(source, base=base),
        document_id=source.document_id,
        version=source.version,
        n=source.n,
        page=source.page,
        heading=source.heading,
    )


def usage_of(answer: FinishedAnswer) -> CompletionUsage:
    used = answer.usage or Usage()
    return CompletionUsage(used.input_tokens, used.output_tokens, used.input_tokens + used.output_tokens)


def desk_reply(answer: FinishedAnswer) -> DeskReply:
    return DeskReply(
        answer_id=answer.answer_id,
        model=answer.model,
        cache=answer.cache,
        finish_reason=answer.finish_reason,
        sources=answer.sources,
        as_of=answer.as_of,
        index_lag_seconds=answer.index_lag_seconds,
        degraded=answer.degraded,
        degraded_reason=answer.degraded_reason,
        access_as_of=answer.access_as_of,
    )


class Completion:
    """One answer as a completion, or as chunks; usage that was asked for comes last, and the others have a ``null`` for it."""

    def __init__(self, record: AnswerRecord, *, base: str, with_list: bool, with_usage: bool) -> None:
        self._base = base
        self._with_list = with_list
        self._with_usage = with_usage
        self._id = f"chatcmpl-{record.answer_id}"
        self._created = int(time.time())
        self._answer = FinishedAnswer.begun(record)
        self._envelope = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": MODEL,
            "system_fingerprint": None,
            **({"usage": None} if with_usage else {}),
        }

    def whole(self, answer: FinishedAnswer) -> ChatCompletion:
        citations = citations_of(answer)
        content = answer.text + (listed(citations) if self._with_list else "")
        message = CompletionMessage(content, annotations_of(citations, base=self._base))
        return ChatCompletion(
            id=self._id,
            created=self._created,
            choices=[Choice(message, finish_of(answer))],
            usage=usage_of(answer),
            refdesk=desk_reply(answer),
        )

    def begin(self) -> bytes:
        return self._choice({"role": "assistant", "content": "", "refusal": None})

    def write(self, batch: list[Entry]) -> bytes:
        self._answer.add(batch)
        return b"".join([self._chunk(entry) for entry in batch])

    def fail(self, details: dict[str, Any]) -> bytes:
        return frame(error_object(details))

    def _chunk(self, entry: Entry) -> bytes:
        match entry.name:
            case Delta.name:
                return self._choice({"content": msgspec.json.decode(entry.data, type=Delta).text})
            case Done.name:
                return self._ending()
            case Failed.name:
                return self.fail(msgspec.json.decode(entry.data))
            case _:
                return b""

    def _ending(self) -> bytes:
        answer, citations = self._answer, citations_of(self._answer)
        said = []
        if self._with_list and (text := listed(citations)):
            said.append(self._choice({"content": text}))
        if citations:
            said.append(self._choice({"annotations": annotations_of(citations, base=self._base)}))
        said.append(self._choice({}, finish_reason=finish_of(answer), refdesk=desk_reply(answer)))
        if self._with_usage:
            said.append(frame({**self._envelope, "choices": [], "usage": usage_of(answer)}))
        return b"".join([*said, DONE])

    def _choice(self, delta: dict[str, Any], *, finish_reason: Finish | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return frame({**self._envelope, "choices": [choice], **more})


def frame(data: Any) -> bytes:
    return b"data: %s\n\n" % msgspec.json.encode(data)
