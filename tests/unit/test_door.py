"""What may be seen of a service from where, under which names, and how its answers are marked."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp
from tests.integration.documents_desk import serving

from refdesk.access.authentication import Insight, bearer, is_local
from refdesk.app import http
from refdesk.app.health import Health, Part, health_endpoints
from refdesk.app.hosts import named
from refdesk.contracts.access import Principal, Role
from refdesk.settings.tree import Settings
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import create_app

ELSEWHERE = {"X-Forwarded-For": "203.0.113.7"}
TOKEN = "the-scrapers-token"
OPERATOR_KEY = "the-operators-key"
NAMES = Settings.of(
    host="192.0.2.5",
    documents_url="http://documents:8080",
    allowed_hosts="desk.example.org, *.example.net",
    operator_key=OPERATOR_KEY,
)
ROLES: dict[str, Role] = {
    "rita": "writer",
    "olga": "operator",
    "ada": "administrator",
    OPERATOR_KEY: "administrator",
}


async def holder(connection: HTTPConnection) -> Principal | None:
    """Keys are names here."""
    name = bearer(connection)
    return Principal(id=name, role=ROLES[name]) if name in ROLES else None


async def well() -> None:
    pass


@pytest.fixture
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A service with health, metrics and a description, under the names that the test gives it."""
    insight = Insight(holder, metrics_token=TOKEN)
    listed = [
        *health_endpoints(Health([Part("a part", well)]), insight=insight),
        http.metrics_endpoint(open_to=insight.without_key),
    ]
    app = create_app([*listed, http.openapi_endpoint(listed, open_to=is_local)], authenticate=holder)
    async with serving(named(app, getattr(request, "param", Settings()))) as url:
        yield url


async def get(url: str, *, key: str | None = None, **headers: str) -> tuple[int, Any, Any]:
    """(status, headers, decoded body or text)"""
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        is_json = "json" in response.headers["content-type"]
        return (
            response.status,
            response.headers,
            await (response.json(content_type=None) if is_json else response.text()),
        )


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/health/live", None, 200),
        ("/health/ready", None, 200),
        ("/health/ready?verbose", None, 200),
        ("/metrics", None, 401),
        ("/metrics", "wrong", 401),
        ("/metrics", "rita", 403),
        ("/metrics", "olga", 200),
        ("/metrics", "ada", 200),
        ("/metrics", TOKEN, 200),
        ("/openapi.json", None, 401),
        ("/openapi.json", TOKEN, 401),
        ("/openapi.json", "rita", 200),
    ],
)
async def test_from_elsewhere_a_key_is_needed(url: str, path: str, key: str | None, status: int) -> None:
    """But for plain health."""
    assert (await get(url + path, key=key, **ELSEWHERE))[0] == status


@pytest.mark.parametrize("path", ["/health/live", "/health/ready?verbose", "/metrics", "/openapi.json"])
async def test_straight_from_this_machine_none_is_needed(url: str, path: str) -> None:
    """By a loopback name; by another, it may be a page of another site's that asks."""
    assert (await get(url + path))[0] == 200
    seen = await get(url + path, Host="rebound.example")
    assert seen[0] == (200 if path.startswith("/health") else 401)


@pytest.mark.parametrize(
    ("key", "headers", "sees"),
    [
        (None, {}, True),
        (None, ELSEWHERE, False),
        (None, {"Host": "rebound.example"}, False),
        ("rita", ELSEWHERE, False),
        ("ada", ELSEWHERE, True),
        (TOKEN, ELSEWHERE, True),
    ],
)
async def test_the_parts_are_shown_to_who_may_see_them(
    url: str, key: str | None, headers: dict[str, str], sees: bool
) -> None:
    """Others get the plain answer: a probe does not fail for that."""
    status, _, health = await get(f"{url}/health/ready?verbose", key=key, **headers)
    assert (status, health["status"]) == (200, "ok")
    assert ("parts" in health) is sees


@pytest.mark.parametrize("url", [NAMES], indirect=True)
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("desk.example.org", 200),
        ("DESK.example.org:8080", 200),
        ("a.example.net", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]", 200),
        ("192.0.2.5:8080", 200),
        ("documents:8080", 200),
        ("example.net", 421),
        ("127.0.0.1.example.com", 421),
        ("desk.example.org.evil.example", 421),
        ("[", 421),
        ("", 421),
    ],
)
async def test_a_service_with_names_answers_to_no_other(url: str, host: str, status: int) -> None:
    """Its own are those that are allowed, and those by which the settings say that it is reached."""
    reply = await get(f"{url}/openapi.json", key="rita", Host=host)
    assert reply[0] == status
    if status == 421:
        assert reply[2]["type"] == "misdirected"


@pytest.mark.parametrize("url", [NAMES], indirect=True)
@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/health/live", None, 200),
        ("/metrics", TOKEN, 200),
        ("/metrics", None, 401),
        ("/openapi.json", OPERATOR_KEY, 200),
        ("/openapi.json", "rita", 421),
    ],
)
async def test_platforms_and_refdesks_own_services_come_by_any_name(
    url: str, path: str, key: str | None, status: int
) -> None:
    """By a pod's address, or by a name that only the platform knows; what needs a key needs it still."""
    assert (await get(url + path, key=key, Host="10.1.2.3:8080"))[0] == status


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/openapi.json", "/nothing"])
async def test_data_is_kept_by_nobody_and_taken_for_no_page(url: str, path: str) -> None:
    """Problems, too."""
    _, headers, _ = await get(url + path)
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_a_fault_of_ours_is_a_plain_500_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Its words are for the log alone."""

    async def broken(request: Request, principal: Principal) -> ASGIApp:
        raise ZeroDivisionError("a secret")

    endpoint = Endpoint(method="GET", path="/broken", action="page.read", handler=broken, summary="Broken")

    def counted() -> float:
        return REGISTRY.get_sample_value("refdesk_unexpected_errors_total", {"where": "request"}) or 0.0

    before = counted()
    async with serving(create_app([endpoint], authenticate=holder)) as url:
        status, _, problem = await get(f"{url}/broken")
    assert (status, problem["type"], counted() - before) == (500, "internal", 1)
    assert "a secret" not in str(problem)
    assert "a secret" in caplog.text
