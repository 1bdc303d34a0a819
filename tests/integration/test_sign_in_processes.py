"""Processes of one desk share who is signed in: one begins a sign-in, another finishes it, all know it, and all forget it."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
from tests.support.desk import LEAVE, AnswerDesk, own_desk, until
from tests.support.identity_provider import API, CLIENT_ID, CLIENT_SECRET, IdentityProvider

from refdesk.app.embedded.stack import StackUrls

PUBLIC = "http://127.0.0.1:8099"
"""Where people would find the desk: a proxy spreads them over its processes."""
QUESTION = "How many days of paid leave do employees have?"


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider().serving() as provider:
        provider.desk = PUBLIC
        yield provider


@pytest.fixture(scope="module")
async def desk(
    servers: StackUrls, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AnswerDesk]:
    settings = {
        "public_url": PUBLIC,
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_audience": API,
    }
    async with own_desk(servers, tmp_path_factory, valkey_number=15, **settings) as desk:
        await desk.add("Leave", LEAVE, readers=["hr"])
        yield desk


class Visitor:
    """A browser behind the proxy: each call goes to the process that it names."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    async def call(self, method: str, url: str, **options: Any) -> tuple[int, Any, Any]:
        """(status, headers, body)"""
        shown = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": shown, "X-CSRF-Token": self.csrf, **options.pop("headers", {})}
        call = self._session.request(method, url, headers=headers, allow_redirects=False, **options)
        async with call as response:
            for line in response.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
            body = await response.read()
            decoded = msgspec.json.decode(body) if "json" in response.content_type else body
            return response.status, response.headers, decoded


async def test_a_sign_in_is_everybodys_from_its_beginning_to_its_end(
    desk: AnswerDesk, provider: IdentityProvider
) -> None:
    """A person who reads what their groups may read; by a session and by a token alike; signed out at one, out at all."""
    async with desk.assistants(2) as processes, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        one, two = (process.url for process in processes)
        ada = Visitor(session)
        _, headers, _ = await ada.call("GET", f"{one}/auth/login")
        async with session.get(headers["location"], allow_redirects=False) as response:
            back = urlsplit(response.headers["location"])
        assert f"{back.scheme}://{back.netloc}" == PUBLIC
        assert (await ada.call("GET", f"{two}{back.path}?{back.query}"))[0] == 303

        me = (await ada.call("GET", f"{one}/api/me"))[2]
        assert (me["name"], me["groups"]) == ("Ada Lovelace", ["hr"])
        ada.csrf = me["csrf_token"]
        by_token = {"Authorization": f"Bearer {provider.access_token('ada')}"}
        by_foreign = {"Authorization": f"Bearer {provider.access_token('bob')}"}
        asked = {"json": {"query": QUESTION}}
        found = [await ada.call("POST", f"{url}/api/search", **asked) for url in (one, two)]
        found.append(await ada.call("POST", f"{two}/api/search", headers=by_token, **asked))
        assert [(status, [hit["title"] for hit in body["hits"]]) for status, _, body in found] == [(200, ["Leave"])] * 3
        assert (await ada.call("POST", f"{two}/api/search", headers=by_foreign, **asked))[2]["hits"] == []

        cookies = dict(ada.cookies)
        assert (await ada.call("POST", f"{two}/auth/logout"))[0] == 200
        ada.cookies = cookies

        async def out() -> bool:
            return (await ada.call("GET", f"{one}/api/me"))[0] == 401

        await until(out, within_s=5)
