"""A `/rerank` that answers in the form of one of the servers in use: a text's score is how often it says "lantern"."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

FORMS = ("cohere", "jina", "vllm", "tei")


class RerankServer:
    """``form`` is whose it imitates; ``status`` refuses everything; ``gate`` holds replies back until it is set."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.status = 200
        self.body: Any = None
        """What it answers in place of a ranking."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Authorization"))
        await self.gate.wait()
        if self.status != 200:
            return web.json_response({"error": "refused"}, status=self.status)
        if self.body is not None:
            return web.json_response(self.body)
        wanted = "texts" if self.form == "tei" else "documents"
        if wanted not in body or (self.form == "cohere" and "model" not in body):
            return web.json_response({"error": f"missing field `{wanted}`"}, status=422)
        return web.json_response(self._ranking(body[wanted]))

    def _ranking(self, texts: list[str]) -> Any:
        scores = sorted(((text.count("lantern") / 10, place) for place, text in enumerate(texts)), reverse=True)
        match self.form:
            case "tei":
                return [{"index": place, "score": score} for score, place in scores]
            case "jina":
                return {"model": "j", "usage": {}, "results": [_result(place, score) for score, place in scores]}
            case "vllm":
                texts_too = [_result(place, score) | {"document": {"text": texts[place]}} for score, place in scores]
                return {"id": "score-1", "model": "v", "results": texts_too}
            case _:
                return {"id": "c", "results": [_result(place, score) for score, place in scores], "meta": {}}


def _result(place: int, score: float) -> dict[str, Any]:
    return {"index": place, "relevance_score": score}


@asynccontextmanager
async def rerank_server(form: str) -> AsyncIterator[RerankServer]:
    server = RerankServer(form)
    app = web.Application()
    app.router.add_post("/v1/rerank", server.rerank)
    async with TestServer(app) as running:
        server.url = str(running.make_url("/v1"))
        yield server
