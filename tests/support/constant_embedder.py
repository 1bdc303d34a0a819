"""An embedding server to which everything is alike: the worst that could happen to a cache that goes by similarity."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

DIMENSIONS = 8


@asynccontextmanager
async def constant_embedder() -> AsyncIterator[str]:
    """Its base URL."""

    async def embeddings(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        vector = [1.0, *[0.0] * (DIMENSIONS - 1)]
        return web.json_response({"data": [{"index": n, "embedding": vector} for n in range(len(texts))]})

    app = web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
