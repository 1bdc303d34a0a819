"""An agent signs in by itself: the official client, a real provider, and what the desk's 401 tells it."""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl
from tests.integration.documents_desk import running, serving
from tests.support.desk import AnswerDesk, own_desk
from tests.support.identity_provider import API, CLIENT_ID, CLIENT_SECRET, IdentityProvider

from refdesk.access.authentication import Authentication
from refdesk.access.permissions import Permissions
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.prefix import Prefixed
from refdesk.app.services import assistant
from refdesk.app.services.common import open_sign_in
from refdesk.web.http import create_app


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=9) as desk:
        desk.ids = {
            "hr": await desk.add("Grades", "Staff grades are reviewed in March.", readers=("hr",)),
            "legal": await desk.add("Suits", "Staff suits are reviewed in March.", readers=("legal",)),
        }
        yield desk


@contextlib.asynccontextmanager
async def signed_in_at(desk: AnswerDesk, provider: IdentityProvider) -> AsyncIterator[str]:
    """The address of an assistant that lets in whom the provider knows."""
    port = free_port()
    settings = desk.with_settings(
        public_url=f"http://127.0.0.1:{port}",
        port=port,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_audience=API,
    )
    url = settings.databases.access_url or ""
    async with assistant.open_service(settings) as service, open_sign_in(settings, desk.keys) as sign_in:
        assert sign_in is not None
        permissions = Permissions(desk.keys, database_url=url, silence_s_max=4.0, people=sign_in.people)
        authenticate = Authentication(desk.keys, operator_key="the-operators-own-key", people=sign_in.people)
        app = create_app(service.endpoints, authenticate=authenticate, permit=permissions)
        placed = Prefixed(app, path="", trusted=(), public_url=settings.address.public_url)
        async with running(*service.background, permissions.run), serving(placed, port=port) as at:
            provider.desk = at
            yield at


class Kept:
    """What an agent keeps: how it is known at the provider, and its tokens."""

    def __init__(self, redirect_uri: str) -> None:
        self.tokens: OAuthToken | None = None
        self.known_as = OAuthClientInformationFull(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uris=[AnyUrl(redirect_uri)],
            token_endpoint_auth_method="client_secret_post",
        )

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.known_as

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.known_as = client_info


def signing_in(url: str) -> OAuthClientProvider:
    """As the official client signs in; its browser goes to the provider and comes back at once."""
    came_back: list[str] = []
    redirect_uri = f"{url}/auth/callback"

    async def go(address: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(address, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            came_back.append(response.headers["location"])

    async def come_back() -> AuthorizationCodeResult:
        told = parse_qs(urlsplit(came_back[-1]).query)
        return AuthorizationCodeResult(code=told["code"][0], state=told["state"][0], iss=told["iss"][0])

    return OAuthClientProvider(
        f"{url}/mcp",
        OAuthClientMetadata(redirect_uris=[AnyUrl(redirect_uri)], scope="profile"),
        Kept(redirect_uri),
        redirect_handler=go,
        callback_handler=come_back,
    )


@pytest.mark.parametrize(("person", "reads", "never"), [("ada", "hr", "legal"), ("bob", "legal", "hr")])
async def test_an_agent_signs_in_as_its_person(desk: AnswerDesk, person: str, reads: str, never: str) -> None:
    """The 401 leads to the metadata, that to the provider, and its token to what this person may read."""
    async with IdentityProvider().serving() as provider, signed_in_at(desk, provider) as url:
        provider.signed_in = person
        async with desk.session.get(f"{url}/.well-known/oauth-protected-resource/mcp") as response:
            assert (await response.json())["authorization_servers"] == [provider.issuer]
        async with (
            httpx2.AsyncClient(auth=signing_in(url), timeout=60) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            found = await client.call_tool("search_documents", {"query": "When are staff things reviewed?"})
    assert found.structured_content is not None
    shown = {hit["document_id"] for hit in found.structured_content["hits"]}
    assert desk.ids[reads] in shown and desk.ids[never] not in shown
