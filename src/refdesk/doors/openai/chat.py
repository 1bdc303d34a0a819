"""``POST /v1/chat/completions`` and ``POST /v1/responses``: a question in OpenAI's two formats."""

from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.answering.logs.log import AnswerRecord
from refdesk.contracts.access import Principal
from refdesk.doors.openai.answers import OpenAiAnswers
from refdesk.doors.openai.chat_replies import ChatCompletion, Completion
from refdesk.doors.openai.chat_requests import ChatLimits, ChatRequest, question_of
from refdesk.doors.openai.requests import read_body_as
from refdesk.doors.openai.response_replies import ResponseForm, ResponseObject
from refdesk.doors.openai.response_requests import ResponseRequest, question_in
from refdesk.web import sse
from refdesk.web.endpoints import Endpoint


class ChatRoutes:
    """``with_list``: whether a text ends with the list of its sources."""

    def __init__(self, answers: OpenAiAnswers, *, limits: ChatLimits, with_list: bool) -> None:
        self._answers = answers
        self._limits = limits
        self._with_list = with_list

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/v1/chat/completions",
                action="answers.ask",
                handler=self.complete,
                summary="Ask as OpenAI's clients do: the last message is the question, those before it its history",
                request=ChatRequest,
                response=ChatCompletion,
                media_types=(sse.EVENT_STREAM,),
            ),
            Endpoint(
                method="POST",
                path="/v1/responses",
                action="answers.ask",
                handler=self.respond,
                summary="The same in OpenAI's newer format; nothing is kept between two calls",
                request=ResponseRequest,
                response=ResponseObject,
                media_types=(sse.EVENT_STREAM,),
            ),
        ]

    async def complete(self, request: Request, principal: Principal) -> ASGIApp:
        chat = await read_body_as(request, ChatRequest)
        asked = question_of(chat, self._limits)
        with_usage = bool(chat.stream_options and chat.stream_options.include_usage)

        def opens(record: AnswerRecord, base: str) -> Completion:
            return Completion(record, base=base, with_list=self._with_list, with_usage=with_usage)

        return await self._answers.reply(request, principal, asked, opens, streamed=bool(chat.stream))

    async def respond(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = await read_body_as(request, ResponseRequest)
        asked = question_in(wanted, self._limits)

        def opens(record: AnswerRecord, base: str) -> ResponseForm:
            return ResponseForm(record, wanted, base=base, with_list=self._with_list)

        return await self._answers.reply(request, principal, asked, opens, streamed=bool(wanted.stream))
