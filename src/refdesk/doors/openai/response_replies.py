"""An answer as a response: whole, or as events while it is written."""

import time
from typing import Any, Literal

import msgspec

from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import AnswerRecord, Entry
from refdesk.contracts.answers import Delta, Done, Failed, Usage
from refdesk.doors.citations import Citation, citations_of, listed
from refdesk.doors.openai.chat_replies import DeskReply, desk_reply, url_citation
from refdesk.doors.openai.requests import MODEL
from refdesk.doors.openai.response_requests import ResponseRequest
from refdesk.web import sse
from refdesk.web.openai_errors import error_object

Status = Literal["in_progress", "completed", "incomplete"]


class InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class OutputText(msgspec.Struct, frozen=True):
    text: str
    annotations: list[dict[str, Any]]
    logprobs: tuple[()] = ()
    type: Literal["output_text"] = "output_text"


class OutputMessage(msgspec.Struct, frozen=True):
    id: str
    status: Status
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"


class Incomplete(msgspec.Struct, frozen=True):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class TextFormat(msgspec.Struct, frozen=True):
    type: Literal["text"] = "text"


class TextConfig(msgspec.Struct, frozen=True):
    format: TextFormat = TextFormat()


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    completed_at: int | None = None
    error: None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    model: str = MODEL
    output: list[OutputMessage]
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    store: bool = False
    temperature: float | None = None
    text: TextConfig = TextConfig()
    tool_choice: Literal["none"] = "none"
    tools: tuple[()] = ()
    top_p: float | None = None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    refdesk: DeskReply | None = None


class ResponseForm:
    """Its stream has one message with one text, as OpenAI's events build them up."""

    def __init__(self, record: AnswerRecord, wanted: ResponseRequest, *, base: str, with_list: bool) -> None:
        self._base = base
        self._with_list = with_list
        self._answer = FinishedAnswer.begun(record)
        self._number = 0
        self._item_id = f"msg_{record.answer_id}"
        self._begun = ResponseObject(
            id=f"resp_{record.answer_id}",
            created_at=int(time.time()),
            status="in_progress",
            instructions=wanted.instructions,
            max_output_tokens=wanted.max_output_tokens,
            output=[],
        )

    def whole(self, answer: FinishedAnswer) -> ResponseObject:
        citations = citations_of(answer)
        status: Status = "incomplete" if answer.finish_reason == "length" else "completed"
        used = answer.usage or Usage()
        return msgspec.structs.replace(
            self._begun,
            status=status,
            completed_at=int(time.time()),
            incomplete_details=Incomplete() if status == "incomplete" else None,
            output=[OutputMessage(self._item_id, status, [self._text(answer, citations)])],
            usage=ResponseUsage(
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                total_tokens=used.input_tokens + used.output_tokens,
            ),
            refdesk=desk_reply(answer),
        )

    def begin(self) -> bytes:
        return b"".join(
            (
                self._event("response.created", response=self._begun),
                self._event("response.in_progress", response=self._begun),
                self._event(
                    "response.output_item.added",
                    output_index=0,
                    item=OutputMessage(self._item_id, "in_progress", []),
                ),
                self._of_text("response.content_part.added", part=OutputText("", [])),
            )
        )

    def write(self, batch: list[Entry]) -> bytes:
        self._answer.add(batch)
        return b"".join([self._events(entry) for entry in batch])

    def fail(self, details: dict[str, Any]) -> bytes:
        error = error_object(details)
        said = {name: error["error"][name] for name in ("code", "message", "param")}
        return self._event("error", **said, **error)

    def _events(self, entry: Entry) -> bytes:
        match entry.name:
            case Delta.name:
                return self._delta(msgspec.json.decode(entry.data, type=Delta).text)
            case Done.name:
                return self._ending()
            case Failed.name:
                return self.fail(msgspec.json.decode(entry.data))
            case _:
                return b""

    def _delta(self, text: str) -> bytes:
        return self._of_text("response.output_text.delta", delta=text, logprobs=())

    def _ending(self) -> bytes:
        ended = self.whole(self._answer)
        [message] = ended.output
        [text] = message.content
        rest = text.text.removeprefix(self._answer.text)
        return b"".join(
            (  # in this order: each takes the next number
                self._delta(rest) if rest else b"",
                *(
                    self._of_text("response.output_text.annotation.added", annotation_index=n, annotation=annotation)
                    for n, annotation in enumerate(text.annotations)
                ),
                self._of_text("response.output_text.done", text=text.text, logprobs=()),
                self._of_text("response.content_part.done", part=text),
                self._event("response.output_item.done", output_index=0, item=message),
                self._event(f"response.{ended.status}", response=ended),
            )
        )

    def _text(self, answer: FinishedAnswer, citations: list[Citation]) -> OutputText:
        annotations = [
            {"type": "url_citation", **msgspec.to_builtins(url_citation(one, base=self._base))} for one in citations
        ]
        return OutputText(answer.text + (listed(citations) if self._with_list else ""), annotations)

    def _of_text(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse.message(kind, msgspec.json.encode({"type": kind, "sequence_number": number, **fields}))
