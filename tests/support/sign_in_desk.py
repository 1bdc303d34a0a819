"""The doors of a desk where people sign in, on a real database, and a browser without a screen at them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import psycopg
from starlette.requests import Request
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from refdesk.access.authentication import Authentication
from refdesk.access.keys import ApiKeys, open_api_keys
from refdesk.access.permissions import Permissions
from refdesk.app.embedded.nats import free_port
from refdesk.app.key_routes import key_endpoints
from refdesk.app.prefix import Prefixed
from refdesk.app.services.common import open_sign_in, public_path
from refdesk.app.sign_in import SignIn
from refdesk.app.sign_in_routes import sign_in_endpoints
from refdesk.contracts.access import Principal
from refdesk.settings.tree import Settings
from refdesk.web.endpoints import Endpoint, SocketEndpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json
from tests.integration.documents_desk import running, serving
from tests.support.identity_provider import API, CLIENT_ID, CLIENT_SECRET, IdentityProvider

OPERATOR_KEY = "the-operators-own-key"


@dataclass
class SignInDesk:
    """``at``: where it listens; ``url``: where people find it."""

    at: str
    url: str
    keys: ApiKeys
    sign_in: SignIn
    database_url: str
    changed: list[str]
    """Who has changed something, by id."""

    async def execute(self, statement: str) -> int:
        """Changes the database as time would; how many rows."""
        async with await psycopg.AsyncConnection.connect(self.database_url, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode())
            self.sign_in.people.forget()
            return cursor.rowcount

    async def empty(self) -> None:
        """Nobody has signed in, and there is no key."""
        await self.execute("TRUNCATE sessions, spent_logout_tokens, api_keys CASCADE")
        self.keys.forget()
        self.changed.clear()

    async def rows(self, query: str) -> list[Any]:
        async with await psycopg.AsyncConnection.connect(self.database_url) as connection:
            return await (await connection.execute(query.encode())).fetchall()


@contextlib.asynccontextmanager
async def open_sign_in_desk(
    database_url: str, provider: IdentityProvider, *, port: int = 0, **settings: Any
) -> AsyncIterator[SignInDesk]:
    """Several at one port's public address and one database are replicas: give the others a port of their own."""
    port = port or free_port()
    chosen = Settings.of(
        **{
            "access_database_url": database_url,
            "public_url": f"http://127.0.0.1:{port}",
            "port": port,
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_audience": API,
            "oidc_keys_pause_s": 0.0,
            **settings,
        }
    )
    changed: list[str] = []
    async with (
        open_api_keys(database_url, setting="a test's", connections_max=4) as keys,
        open_sign_in(chosen, keys) as sign_in,
    ):
        assert sign_in is not None
        permissions = Permissions(keys, database_url=database_url, silence_s_max=4.0, people=sign_in.people)
        app = create_app(
            [*sign_in_endpoints(sign_in), *key_endpoints(keys), *_work(changed), _socket()],
            authenticate=Authentication(keys, operator_key=OPERATOR_KEY, people=sign_in.people),
            permit=permissions,
        )
        placed = Prefixed(app, path=public_path(chosen), trusted=())
        async with running(permissions.run), serving(placed, port=port) as at:
            provider.desk = (chosen.address.public_url or at).rstrip("/")
            yield SignInDesk(at, provider.desk, keys, sign_in, database_url, changed)


def _work(changed: list[str]) -> list[Endpoint]:
    """Something that reads, something that changes, and something that never ends."""

    async def read(request: Request, principal: Principal) -> ASGIApp:
        return Json({"id": principal.id})

    async def change(request: Request, principal: Principal) -> ASGIApp:
        changed.append(principal.id)
        return Json({"id": principal.id})

    async def wait(request: Request, principal: Principal) -> ASGIApp:
        await asyncio.Event().wait()
        raise AssertionError

    return [
        Endpoint(method="GET", path="/api/work", action="answers.ask", handler=read, summary="Read"),
        Endpoint(method="POST", path="/api/work", action="answers.ask", handler=change, summary="Change"),
        Endpoint(method="GET", path="/api/wait", action="answers.ask", handler=wait, summary="Wait"),
    ]


def _socket() -> SocketEndpoint:
    async def talk(websocket: WebSocket, principal: Principal) -> None:
        await websocket.accept()
        await websocket.send_text(principal.id)
        while True:
            await websocket.receive_text()

    return SocketEndpoint(path="/api/socket", action="answers.ask", handler=talk, summary="Talk")


class Browser:
    """Keeps cookies, follows links; and shows the CSRF token where a page would."""

    def __init__(self, session: aiohttp.ClientSession, desk: SignInDesk) -> None:
        self._session = session
        self.desk = desk
        self.csrf: str | None = None

    def call(self, method: str, path: str, **options: Any) -> Any:
        url = path if path.startswith("http") else self.desk.at + path
        return self._session.request(method, url, **options)

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        headers = {**({"X-CSRF-Token": self.csrf} if self.csrf else {}), **options.pop("headers", {})}
        async with self.call(method, path, headers=headers, **options) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body else None

    async def sign_in(self, return_to: str = "/api/me") -> Any:
        """Through the provider and back; what the page says of them then."""
        async with self.call("GET", "/auth/login", params={"return_to": return_to}) as response:
            body = await response.read()
            assert response.status == 200, body
        status, me = await self.json("GET", "/api/me")
        assert status == 200, me
        self.csrf = me["csrf_token"]
        return me

    async def begin(self) -> str:
        """The address of the provider, to which the browser does not go yet."""
        where = {"return_to": "/api/me"}
        async with self.call("GET", "/auth/login", params=where, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            return str(response.headers["location"])

    async def come_back(self, address: str) -> str:
        """Go to the provider; the desk's address that it answers with, to which the browser does not go yet."""
        async with self.call("GET", address, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return str(response.headers["location"])

    async def at(self, address: str) -> tuple[int, Any]:
        """The status there, and the problem if it is one."""
        async with self.call("GET", address, allow_redirects=False, headers={"Accept": "application/json"}) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body.startswith(b"{") else None

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self._session.cookie_jar}

    def session_cookie(self) -> str | None:
        return self.cookies().get(self.desk.sign_in.people.cookies.session_name)

    def open_socket(self, **headers: str) -> Any:
        return self._session.ws_connect(self.desk.at + "/api/socket", headers=headers)


@contextlib.asynccontextmanager
async def open_browser(desk: SignInDesk) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session, desk)
