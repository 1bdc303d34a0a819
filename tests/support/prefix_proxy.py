"""A proxy of an intranet that offers a desk below a path of its own."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


@contextlib.asynccontextmanager
async def proxied(target: str, *, prefix: str, strip: bool, port: int = 0) -> AsyncIterator[str]:
    """The address of a proxy before ``target``; it passes the prefix on, or takes it away."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            path = request.raw_path.removeprefix(prefix) if strip else request.raw_path
            headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
            body = await request.read()
            call = session.request(request.method, target + path, headers=headers, data=body, allow_redirects=False)
            async with call as reply:
                kept = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
                response = web.StreamResponse(status=reply.status, headers=kept)
                await response.prepare(request)
                async for chunk in reply.content.iter_any():
                    await response.write(chunk)
                return response

        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", prefix, pass_on)
        app.router.add_route("*", prefix + "/{rest:.*}", pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
