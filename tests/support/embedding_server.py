"""An embedding server that costs nothing: vectors from a function of the text instead of a model."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

DIMENSIONS = 8

Vector = list[float]


def alike(_: str) -> Vector:
    """Everything is alike: the worst that could happen to a cache that goes by similarity."""
    return [1.0, *[0.0] * (DIMENSIONS - 1)]


def by_hash(text: str) -> Vector:
    """Every text its own vector: whether the right one was stored can be told. Not normalised."""
    return [byte / 127.5 - 1.0 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]


@asynccontextmanager
async def embedding_server(vector_of: Callable[[str], Vector]) -> AsyncIterator[str]:
    """Its base URL."""

    async def embeddings(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        return web.json_response(
            {"data": [{"index": place, "embedding": vector_of(text)} for place, text in enumerate(texts)]}
        )

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
