"""Answers over HTTP: `/api/answers`, `/api/search`, `/api/passages`. Encodings of ``Assistant`` and nothing else."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from refdesk.answering.assistant import Assistant
from refdesk.answering.conversations.browsing import Browsing
from refdesk.answering.curating.feedback import Feedback, FeedbackStore, RatedQuestions, Rating
from refdesk.answering.curating.readable_feedback import curated
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.indexed_documents import DocumentView, IndexedDocuments
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import Entry
from refdesk.answering.reading import AnswerReader
from refdesk.answering.searching import SearchReply, SearchRequest, search
from refdesk.answering.websocket import AnswerSocket
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Failed, Granularity, Question
from refdesk.contracts.errors import Expired, NotFound, RefdeskError
from refdesk.contracts.texts import Number
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside import telemetry
from refdesk.web import sse
from refdesk.web.auditing import about
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Parameter, SocketEndpoint, whole
from refdesk.web.replies import Json, server_timing
from refdesk.web.sse import EventStream, Offer, Wait, settled, while_connected

ANSWER_ID = Parameter(name="answer_id", where="path", meaning="The answer")
DOCUMENT_ID = Parameter(name="document_id", where="path", meaning="The document")
LAST_EVENT_ID = Parameter(
    name="Last-Event-ID", kind=Number, where="header", default=0, meaning="The number of the last event that was seen"
)
RATED_LIMIT_MAX = 200
RATED_LIMIT = Parameter(
    name="limit", kind=whole(1, RATED_LIMIT_MAX), default=RATED_LIMIT_MAX, meaning="Questions on a page"
)
RATED_AS = Parameter(name="rating", kind=Rating, meaning="Only those rated so")
RATED_CURSOR = Parameter(name="cursor", meaning="`next_cursor` of the page before")
GRANULARITY = Parameter(name="granularity", kind=Granularity, default="token", meaning="How the stream is cut")


class AnswerRoutes:
    def __init__(
        self,
        *,
        assistant: Assistant,
        generations: OpenGenerations,
        gate: Gate,
        feedback: FeedbackStore,
        browsing: Browsing,
        send_timeout_s: float,
        idle_s_max: float,
    ) -> None:
        self._assistant = assistant
        self._documents = IndexedDocuments(assistant, generations=generations, gate=gate)
        self._feedback = feedback
        self._gate = gate
        self._browsing = browsing
        self._send_timeout_s = send_timeout_s
        self._idle_s_max = idle_s_max

    def socket(self) -> SocketEndpoint:
        return SocketEndpoint(
            path="/api/answers/ws",
            action="answers.ask",
            handler=self.converse,
            summary="The same events over a WebSocket: ask, resume, stop",
        )

    async def converse(self, websocket: WebSocket, principal: Principal) -> None:
        socket = AnswerSocket(
            websocket,
            principal,
            assistant=self._assistant,
            send_timeout_s=self._send_timeout_s,
            idle_s_max=self._idle_s_max,
        )
        await socket.run()

    def endpoints(self) -> list[Endpoint]:
        one = "/api/answers/{answer_id}"
        return [
            *self._feedback_endpoints(f"{one}/feedback"),
            Endpoint(
                method="POST",
                path="/api/answers",
                action="answers.ask",
                handler=self.ask,
                summary="Ask a question: streamed with Accept: text/event-stream, else the finished answer",
                request=Question,
                response=FinishedAnswer,
                media_types=(sse.EVENT_STREAM,),
            ),
            Endpoint(
                method="GET",
                path=one,
                action="answers.read",
                handler=self.show,
                summary="An answer: your own, or one that is shared and whose evidence you may read",
                parameters=(ANSWER_ID,),
                response=FinishedAnswer,
            ),
            Endpoint(
                method="GET",
                path=f"{one}/events",
                action="answers.read",
                handler=self.resume,
                summary="Continue an answer's stream after Last-Event-ID",
                parameters=(ANSWER_ID, LAST_EVENT_ID, GRANULARITY),
                media_types=(sse.EVENT_STREAM,),
            ),
            Endpoint(
                method="DELETE",
                path=one,
                action="answers.stop",
                handler=self.stop,
                summary="Stop an answer",
                parameters=(ANSWER_ID,),
                status=204,
            ),
            Endpoint(
                method="POST",
                path="/api/search",
                action="passages.search",
                handler=self.search,
                summary="The passages that match a query",
                request=SearchRequest,
                response=SearchReply,
            ),
            Endpoint(
                method="GET",
                path="/api/passages/{document_id}",
                action="passages.read",
                handler=self.passages,
                summary="A document as it was indexed",
                parameters=(DOCUMENT_ID,),
                response=DocumentView,
            ),
        ]

    def _feedback_endpoints(self, address: str) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path=address,
                action="answers.rate",
                handler=self.rate,
                summary="Say whether an answer helped",
                parameters=(ANSWER_ID,),
                request=Feedback,
                status=204,
            ),
            Endpoint(
                method="GET",
                path="/api/feedback",
                action="feedback.read",
                handler=self.rated,
                summary="What askers have rated, oldest first",
                parameters=(RATED_LIMIT, RATED_CURSOR, RATED_AS),
                response=RatedQuestions,
            ),
            Endpoint(
                method="GET",
                path="/api/feedback/{answer_id}",
                action="feedback.read",
                handler=self.rated_answer,
                summary="A rated answer with its evidence, for whoever may read that",
                parameters=(ANSWER_ID,),
                response=FinishedAnswer,
            ),
        ]

    async def ask(self, request: Request, principal: Principal) -> ASGIApp:
        question = await read_json(request, Question)
        record = await self._assistant.ask(question, principal)
        about(request, record.answer_id)
        reader = self._assistant.reading.of(record, principal, granularity=question.granularity)
        if sse.EVENT_STREAM in request.headers.get("accept", ""):
            return self._stream(reader)
        return _timed(await while_connected(request.receive, reader.finished()))

    async def show(self, request: Request, principal: Principal) -> ASGIApp:
        answer_id = ANSWER_ID.of(request)
        try:
            record = await self._assistant.reading.recall(answer_id, principal)
        except (NotFound, Expired):
            kept = await self._browsing.answer(answer_id, principal)
            if kept is None:
                raise
            return Json(kept)
        return _timed(await self._assistant.reading.of(record, principal).finished(wait=False))

    async def resume(self, request: Request, principal: Principal) -> ASGIApp:
        after = LAST_EVENT_ID.of(request)
        record = await self._assistant.reading.recall(ANSWER_ID.of(request), principal, after=after)
        return self._stream(
            self._assistant.reading.of(record, principal, after=after, granularity=GRANULARITY.of(request))
        )

    async def stop(self, request: Request, principal: Principal) -> ASGIApp:
        await self._assistant.stop(await self._assistant.reading.find(ANSWER_ID.of(request), principal))
        return Response(status_code=204)

    async def rate(self, request: Request, principal: Principal) -> ASGIApp:
        feedback = await read_json(request, Feedback)
        record = await self._assistant.reading.find(ANSWER_ID.of(request), principal)
        answer = await self._assistant.reading.of(record, principal).finished(wait=False)
        await self._feedback.save(
            record.answer_id,
            feedback,
            principal=principal,
            question=record.question,
            documents=answer.cited_documents(),
            finish_reason=answer.finish_reason,
        )
        await self._browsing.keep_rated(record)
        telemetry.labelled(telemetry.feedback, feedback.rating).inc()
        if feedback.rating == "down":
            self._assistant.rated_badly(record, documents=answer.cited_documents())
        return Response(status_code=204)

    async def rated(self, request: Request, principal: Principal) -> ASGIApp:
        after, rating = RATED_CURSOR.of(request), RATED_AS.of(request)
        page = await self._feedback.page(after=after, count=RATED_LIMIT.of(request), rating=rating)
        return Json(await curated(page, principal, gate=self._gate))

    async def rated_answer(self, request: Request, principal: Principal) -> ASGIApp:
        answer_id = ANSWER_ID.of(request)
        if not await self._feedback.is_rated(answer_id):
            raise NotFound
        return Json(await self._browsing.rated(answer_id, principal))

    async def search(self, request: Request, principal: Principal) -> ASGIApp:
        asked = await read_json(request, SearchRequest)
        begun = time.monotonic()
        reply = await search(self._assistant, asked, principal)
        return Json(reply, headers=server_timing({"search": time.monotonic() - begun}))

    async def passages(self, request: Request, principal: Principal) -> ASGIApp:
        return Json(await self._documents.show(DOCUMENT_ID.of(request), principal))

    def _stream(self, reader: AnswerReader) -> EventStream:
        """What ends the reading though not the answer comes as an ``error`` without a number: it is not of the log."""

        async def body(offer: Offer) -> None:
            def on_entries(batch: list[Entry]) -> Wait | None:
                return offer(b"".join([entry.frame() for entry in batch]))

            try:
                async with self._assistant.leaving.until_we_leave(reader.record.log_id):
                    await reader.events(on_entries)
            except RefdeskError as error:
                await settled(offer(sse.message(Failed.name, msgspec.json.encode(reader.cut_off(error)))))

        return EventStream(body, last_words=reader.cut_off, send_timeout_s=self._send_timeout_s)


def _timed(answer: FinishedAnswer) -> Json:
    """With what each step took, for a browser's tools."""
    return Json(answer, headers=server_timing(msgspec.to_builtins(answer.timings)) if answer.timings else None)
