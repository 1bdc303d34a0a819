"""An answer by any of OpenAI's formats: the way from a question to a whole reply, or to a stream of its pieces."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.answering.assistant import Assistant
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import AnswerRecord, Entry
from refdesk.answering.production import ShuttingDown
from refdesk.answering.reading import AnswerReader
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import RefdeskError, TooManyRequests, problem
from refdesk.doors.openai.chat_requests import Asked
from refdesk.doors.openai.rate_limits import rate_limit_headers
from refdesk.web.addresses import public_base
from refdesk.web.auditing import about
from refdesk.web.openai_errors import error_object
from refdesk.web.replies import DATA_HEADERS, Json, also_in_refusals, openai_refusal
from refdesk.web.sse import EventStream, Offer, Wait, settled, while_connected


class Form(Protocol):
    """One answer in one format."""

    def whole(self, answer: FinishedAnswer) -> Any:
        """The finished answer, to be encoded as JSON."""
        ...

    def begin(self) -> bytes:
        """What a stream begins with."""
        ...

    def write(self, batch: list[Entry]) -> bytes:
        """What these events add to it; nothing for those that only we have."""
        ...

    def fail(self, details: dict[str, Any]) -> bytes:
        """What it ends with when there is no more, and the answer has not ended."""
        ...


Opens = Callable[[AnswerRecord, str], Form]
"""A form of this answer, with the address before our page's."""


class OpenAiAnswers:
    def __init__(self, assistant: Assistant, *, send_timeout_s: float) -> None:
        self._assistant = assistant
        self._send_timeout_s = send_timeout_s

    async def reply(
        self, request: Request, principal: Principal, asked: Asked, opens: Opens, *, streamed: bool
    ) -> ASGIApp:
        """Asks, and answers in that form. Raises the refusal."""
        try:
            record = await self._assistant.ask(asked.question, principal, asked.brought)
        except TooManyRequests:
            also_in_refusals(request.scope, rate_limit_headers(await self._assistant.pace(principal)))
            raise
        headers = rate_limit_headers(await self._assistant.pace(principal))
        about(request, record.answer_id)
        reader = self._assistant.reading.of(record, principal)
        form = opens(record, public_base(request.scope))
        if streamed:
            return self._stream(reader, form, headers)
        answer = await while_connected(request.receive, reader.finished())
        if answer.error is not None:
            return openai_refusal(msgspec.json.decode(answer.error), headers=DATA_HEADERS | headers)
        return Json(form.whole(answer), headers=headers)

    def _stream(self, reader: AnswerReader, form: Form, headers: Mapping[str, str]) -> EventStream:
        async def body(offer: Offer) -> None:
            def on_entries(batch: list[Entry]) -> Wait | None:
                pieces = form.write(batch)
                return offer(pieces) if pieces else None

            await settled(offer(form.begin()))
            leaving = self._assistant.leaving
            try:
                async with leaving.until_we_leave(reader.record.log_id, saying=ShuttingDown):
                    await reader.events(on_entries)
            except RefdeskError as error:
                await settled(offer(form.fail(problem(error))))

        return EventStream(
            body,
            headers=headers,
            last_words=lambda error: error_object(problem(error)),
            send_timeout_s=self._send_timeout_s,
        )
