"""Calls to an identity provider are bounded in time and size, go where they were told to, and say who failed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.integration.documents_desk import serving
from tests.support.kept_connections import breaking_server

from refdesk.outside.oidc_provider import ProviderCalls, ProviderRefused, ProviderSilent, open_provider_calls

BYTES_MAX = 10_000
TIMEOUT_S = 2.0


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 1000
        await asyncio.sleep(0)


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def answer(request: Request) -> Response:
    """By the path."""
    match request.url.path:
        case "/echo":
            body = (await request.body()).decode()
            return JSONResponse({"body": body, **dict(request.headers)})
        case "/redirect":
            return RedirectResponse("/echo")
        case "/endless":
            return StreamingResponse(endless())
        case "/never":
            return StreamingResponse(never())
        case "/list":
            return JSONResponse([1])
        case "/deep":
            return Response("[" * 5000)
        case "/refused":
            return JSONResponse({"error": "invalid_grant", "error_description": "spent"}, status_code=400)
        case "/empty":
            return Response()
    return Response("down", status_code=503)


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    async with serving(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        yield url


@pytest.fixture(scope="module")
async def calls(url: str) -> AsyncIterator[ProviderCalls]:
    async with open_provider_calls(
        url, timeout_s=TIMEOUT_S, reply_bytes_max=BYTES_MAX, proxy_for=lambda _: None
    ) as calls:
        yield calls


async def test_forms_and_bearers_are_sent(calls: ProviderCalls, url: str) -> None:
    """With no cookie, and no compression that could unpack to more."""
    said = await calls.post(f"{url}/echo", {"code": "a b&c"}, headers={"X-Given": "1"})
    assert (said["body"], said["x-given"], said["accept-encoding"]) == ("code=a+b%26c", "1", "identity")
    assert (await calls.get(f"{url}/echo", bearer="token"))["authorization"] == "Bearer token"
    assert await calls.post(f"{url}/empty", {}, headers={}) == {}


@pytest.mark.parametrize("path", ["endless", "never", "redirect", "list", "deep", "down"])
async def test_what_is_no_answer_is_a_silence_of_somebody_named(calls: ProviderCalls, url: str, path: str) -> None:
    """Too much, too slow, elsewhere, or no object."""
    with pytest.raises(ProviderSilent, match=url.removeprefix("http://")):
        await calls.get(f"{url}/{path}")


async def test_a_refusal_keeps_its_code(calls: ProviderCalls, url: str) -> None:
    """It says whether somebody is out, or the provider is in trouble."""
    with pytest.raises(ProviderRefused, match=r"answered 400 \(invalid_grant: spent\)") as refusal:
        await calls.post(f"{url}/refused", {}, headers={})
    assert refusal.value.error == "invalid_grant"


async def test_a_provider_that_is_not_there_is_named() -> None:
    """Nothing listens."""
    async with open_provider_calls(
        "http://127.0.0.1:1", timeout_s=TIMEOUT_S, reply_bytes_max=BYTES_MAX, proxy_for=lambda _: None
    ) as calls:
        with pytest.raises(ProviderSilent, match=r"127\.0\.0\.1:1 does not answer"):
            await calls.get("http://127.0.0.1:1/")


async def test_nobody_steps_down_from_https(url: str) -> None:
    """Whatever the provider's own description says; nor to a file, or another kind of address."""
    async with open_provider_calls(
        "https://login.example", timeout_s=TIMEOUT_S, reply_bytes_max=BYTES_MAX, proxy_for=lambda _: None
    ) as calls:
        for address in (f"{url}/echo", "file:///etc/passwd", "ftp://login.example/", "login.example", ""):
            with pytest.raises(ProviderSilent, match="not reached by https"):
                await calls.get(address)


async def test_calls_go_by_the_proxy_that_is_named(url: str) -> None:
    """It is asked for the whole address."""
    asked: list[Any] = []

    def proxy_for(address: str) -> str:
        asked.append(address)
        return url

    async with open_provider_calls(
        "http://login.example", timeout_s=TIMEOUT_S, reply_bytes_max=BYTES_MAX, proxy_for=proxy_for
    ) as calls:
        assert (await calls.get("http://login.example/echo"))["host"] == "login.example"
    assert asked == ["http://login.example/echo"]


async def test_a_connection_that_the_provider_has_closed_costs_nobody_a_sign_in() -> None:
    """It says that it keeps it, and resets it when the next call comes. What was sent may not be sent again: a code is spent."""
    async with (
        breaking_server() as url,
        open_provider_calls(url, timeout_s=TIMEOUT_S, reply_bytes_max=BYTES_MAX, proxy_for=lambda _: None) as calls,
    ):
        for _ in range(3):
            assert await calls.post(f"{url}/token", {"code": "1"}, headers={}) == {}
