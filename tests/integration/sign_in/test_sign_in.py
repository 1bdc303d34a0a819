"""People sign in at a real provider, stay signed in, and are signed out: here, there, and by what the provider says of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from tests.support.identity_provider import CLIENT_ID, IdentityProvider
from tests.support.patience import within
from tests.support.sign_in_desk import Browser, SignInDesk, open_browser, open_sign_in_desk

from refdesk.access.oidc.people import principal_id
from refdesk.access.sealing import KeptTokens
from refdesk.access.sessions import NewSession
from refdesk.app.commands.checks.provider import check_provider
from refdesk.app.embedded.nats import free_port
from refdesk.app.health import Health
from refdesk.contracts.access import Principal
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import Settings

logger = logging.getLogger(__name__)

ENDS_S_MAX = 5.0
"""What is promised: whoever is signed out is gone everywhere within this time."""


# signing in


async def test_whoever_signs_in_is_somebody(browser: Browser, provider: IdentityProvider) -> None:
    """By their issuer and subject, under their name, in their groups; and back where they wanted to go."""
    assert (await browser.json("GET", "/api/me"))[0] == 401
    me = await browser.sign_in()
    assert me["id"] == principal_id(provider.issuer, "ada")
    assert (me["name"], me["groups"], me["role"], me["signed_in_by"]) == ("Ada Lovelace", ["hr"], "asker", "session")
    assert await browser.json("POST", "/api/work") == (200, {"id": me["id"]})


async def test_a_group_of_the_provider_may_give_a_role(desk: SignInDesk, provider: IdentityProvider) -> None:
    """By the setting alone; an administrator who signed in sees everybody's sessions."""
    given = {"oidc_roles": "Desk admins=administrator", "oidc_groups": "hr=people"}
    async with open_sign_in_desk(desk.database_url, provider, **given) as desk, open_browser(desk) as browser:
        me = await browser.sign_in()
        assert (me["role"], me["groups"]) == ("administrator", ["administrators", "people"])
        assert (await browser.json("GET", "/api/sessions?all=true"))[0] == 200
        provider.people["ada"].groups = ["hr"]
        await shift(desk, "confirmed_at", 301)
        assert (await browser.json("GET", "/api/sessions?all=true"))[0] == 403


async def test_groups_come_from_the_user_info_where_the_id_token_has_none(
    browser: Browser, provider: IdentityProvider
) -> None:
    """And are mapped the same."""
    provider.groups_in_id_token = False
    assert (await browser.sign_in())["groups"] == ["hr"]
    assert provider.calls["/userinfo"] == 1


async def test_the_database_has_neither_the_cookie_nor_the_tokens(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """Whoever reads it cannot become anybody."""
    await browser.sign_in()
    cookie = browser.session_cookie()
    assert cookie
    [row] = await desk.rows("SELECT sessions::text, sealed_tokens FROM sessions")
    assert cookie not in row[0]
    assert cookie.encode().hex() not in row[0]
    assert next(iter(provider.refresh)).encode() not in bytes(row[1])


async def test_a_public_client_needs_no_secret(desk: SignInDesk, provider: IdentityProvider) -> None:
    """It names itself in the form; this provider wants the secret, and is told so by name."""
    async with (
        open_sign_in_desk(desk.database_url, provider, oidc_client_secret=None) as desk,
        open_browser(desk) as browser,
    ):
        status, problem = await browser.at(await browser.come_back(await browser.begin()))
        assert status == 400
        assert "invalid_client" in problem["detail"]


async def test_a_desk_below_a_path_signs_in_below_it(desk: SignInDesk, provider: IdentityProvider) -> None:
    """The redirect and the way back are those of the public address."""
    port = free_port()
    async with (
        open_sign_in_desk(desk.database_url, provider, port=port, public_url=f"http://127.0.0.1:{port}/desk") as desk,
        open_browser(desk) as browser,
        browser.call("GET", "/desk/auth/login", params={"return_to": "/api/me"}) as response,
    ):
        assert str(response.url) == f"http://127.0.0.1:{port}/desk/api/me"
        assert (await response.json())["name"] == "Ada Lovelace"


async def test_two_tabs_sign_in_at_once(browser: Browser) -> None:
    """The one that comes second finds itself signed in, or begins again; none takes the other's place."""
    one, two = await browser.begin(), await browser.begin()
    assert (await browser.at(await browser.come_back(two)))[0] == 303
    assert (await browser.json("GET", "/api/me"))[0] == 200
    status, problem = await browser.at(await browser.come_back(one))
    assert (status, problem and problem["type"]) == (400, "sign-in-failed")
    assert (await browser.json("GET", "/api/me"))[0] == 200


# while signed in


async def shift(desk: SignInDesk, column: str, seconds: float) -> None:
    await desk.execute(f"UPDATE sessions SET {column} = {column} - interval '{seconds} seconds'")


async def test_a_group_that_was_lost_there_is_lost_here(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """The first request after the bound waits for the provider's word."""
    await browser.sign_in()
    provider.people["ada"].groups = ["legal"]
    assert (await browser.json("GET", "/api/me"))[1]["groups"] == ["hr"]
    await shift(desk, "confirmed_at", 301)
    assert (await browser.json("GET", "/api/me"))[1]["groups"] == ["legal"]
    assert provider.reused_refresh_tokens == 0


async def test_the_provider_is_asked_beside_a_request_before_it_must_be(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """Nobody waits for it."""
    await browser.sign_in()
    provider.people["ada"].groups = ["legal"]
    await shift(desk, "confirmed_at", 200)
    assert (await browser.json("GET", "/api/me"))[1]["groups"] == ["hr"]

    async def changed() -> bool:
        return bool((await browser.json("GET", "/api/me"))[1]["groups"] == ["legal"])

    async with within(ENDS_S_MAX):
        while not await changed():
            await asyncio.sleep(0.02)


async def test_whoever_was_taken_out_there_is_out_here(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """Their refresh token is worth nothing, and the session ends with it."""
    await browser.sign_in()
    provider.people["ada"].active = False
    await shift(desk, "confirmed_at", 301)
    assert (await browser.json("GET", "/api/me"))[0] == 401
    assert await desk.rows("SELECT id FROM sessions") == []


async def test_a_refresh_token_is_used_once_by_however_many_replicas_and_requests(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """A provider that rotates them would take a second use for theft."""
    await browser.sign_in()
    async with open_sign_in_desk(desk.database_url, provider, public_url=desk.url) as replica:
        cookie = {"Cookie": f"{desk.sign_in.people.cookies.session_name}={browser.session_cookie()}"}
        for _ in range(2):
            await shift(desk, "confirmed_at", 301)
            replica.sign_in.people.forget()
            async with aiohttp.ClientSession(headers=cookie) as session:

                async def status(at: str, session: aiohttp.ClientSession = session) -> int:
                    async with session.get(at + "/api/me") as response:
                        return response.status

                doors = [desk.at, replica.at] * 8
                assert set(await asyncio.gather(*(status(at) for at in doors))) == {200}
    assert provider.reused_refresh_tokens == 0
    assert len(provider.refresh) == 1


async def test_a_provider_that_is_silent_is_borne_for_a_while(desk: SignInDesk, provider: IdentityProvider) -> None:
    """Then nobody is let in by a session that nobody vouches for: it says who does not answer, and the session stays."""
    async with open_sign_in_desk(desk.database_url, provider) as desk, open_browser(desk) as browser:
        await browser.sign_in()
        provider.is_down = True
        await shift(desk, "confirmed_at", 301)
        assert (await browser.json("GET", "/api/me"))[0] == 200
        await shift(desk, "confirmed_at", 900)
        status, problem = await browser.json("GET", "/api/me")
        assert (status, problem["type"]) == (503, "provider-unavailable")
        assert provider.issuer.removeprefix("http://") in problem["detail"]
        assert len(await desk.rows("SELECT id FROM sessions")) == 1


async def test_a_session_without_a_refresh_token_lasts_an_hour(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """It cannot be asked about."""
    provider.gives_refresh_tokens = False
    await browser.sign_in()
    await shift(desk, "confirmed_at", 3500)
    assert (await browser.json("GET", "/api/me"))[0] == 200
    await shift(desk, "confirmed_at", 101)
    assert (await browser.json("GET", "/api/me"))[0] == 401


@pytest.mark.parametrize(("column", "seconds"), [("seen_at", 8 * 3600 + 1), ("expires_at", 7 * 24 * 3600 + 1)])
async def test_a_session_ends_when_it_was_idle_or_is_old(
    browser: Browser, desk: SignInDesk, column: str, seconds: float
) -> None:
    """By the database's clock, which all replicas share."""
    await browser.sign_in()
    await shift(desk, column, seconds - 60)
    assert (await browser.json("GET", "/api/me"))[0] == 200
    await shift(desk, column, seconds)
    assert (await browser.json("GET", "/api/me"))[0] == 401


async def test_use_keeps_a_session_from_being_idle(browser: Browser, desk: SignInDesk) -> None:
    """Each use counts, to the minute."""
    await browser.sign_in()
    await shift(desk, "seen_at", 3600)
    await browser.json("GET", "/api/me")
    [(unseen_s,)] = await desk.rows("SELECT extract(epoch FROM now() - seen_at)::float8 FROM sessions")
    assert unseen_s < 60


# signing out


async def test_signing_out_ends_the_session_here_and_there(browser: Browser, provider: IdentityProvider) -> None:
    """The cookie goes, its copy is worth nothing, the refresh token is forgotten, and the browser is told where to go on."""
    await browser.sign_in()
    copy = {"Cookie": f"{browser.desk.sign_in.people.cookies.session_name}={browser.session_cookie()}"}
    status, left = await browser.json("POST", "/auth/logout")
    assert status == 200
    assert left["continue_at"].startswith(f"{provider.issuer}/end-session?")
    assert "id_token_hint=" in left["continue_at"]
    assert browser.session_cookie() is None
    assert provider.refresh == {}
    assert (await browser.json("GET", "/api/me", headers=copy))[0] == 401


async def test_signing_out_is_not_cut_off_by_its_own_end(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """All that is open by the session ends at once; the request that ends it is answered, however slow the provider is."""
    await browser.sign_in()
    provider.revokes = asyncio.Event()
    async with browser.open_socket(Origin=desk.url) as socket:
        await socket.receive_str()
        leaving = asyncio.ensure_future(browser.json("POST", "/auth/logout"))
        async with within(ENDS_S_MAX):
            await socket.receive()
        assert socket.close_code == 1008
        provider.revokes.set()
        status, left = await leaving
    assert status == 200
    assert left["continue_at"].startswith(provider.issuer)


async def test_sessions_are_listed_and_ended_by_their_owner(browser: Browser, desk: SignInDesk) -> None:
    """From another browser, too; nobody sees, or ends, those of others: foreign and missing are the same."""
    await browser.sign_in()
    async with open_browser(desk) as other:
        await other.sign_in()
        listed = (await browser.json("GET", "/api/sessions"))[1]["sessions"]
        assert [session["current"] for session in listed] == [False, True]
        foreign = listed[0]["id"]
        async with open_browser(desk) as stranger:
            await _sign_in_as(stranger, "bob")
            assert len((await stranger.json("GET", "/api/sessions"))[1]["sessions"]) == 1
            missing = await stranger.json("DELETE", "/api/sessions/s" + "0" * 32)
            assert await stranger.json("DELETE", f"/api/sessions/{foreign}") == missing
            assert missing[0] == 404
            assert (await stranger.json("GET", "/api/sessions?all=true"))[0] == 403
        assert (await browser.json("DELETE", f"/api/sessions/{foreign}"))[0] == 204
        assert (await other.json("GET", "/api/me"))[0] == 401


async def _sign_in_as(browser: Browser, person: str) -> None:
    """By the provider's own form."""
    address = await browser.begin()
    async with browser.call("POST", address, data={"person": person}) as response:
        assert response.status == 200, await response.text()
    browser.csrf = (await browser.json("GET", "/api/me"))[1]["csrf_token"]


async def test_administrators_see_and_end_all_sessions(browser: Browser, desk: SignInDesk) -> None:
    """With a key, for instance."""
    await browser.sign_in()
    key = (await desk.keys.create("root", ("administrators",))).key
    headers = {"Authorization": f"Bearer {key}"}
    async with open_browser(desk) as administrator:
        listed = (await administrator.json("GET", "/api/sessions?all=true", headers=headers))[1]["sessions"]
        assert [session["name"] for session in listed] == ["Ada Lovelace"]
        path = f"/api/sessions/{listed[0]['id']}"
        assert (await administrator.json("DELETE", path, headers=headers))[0] == 204
    assert (await browser.json("GET", "/api/me"))[0] == 401


async def test_one_more_session_than_allowed_ends_the_oldest(desk: SignInDesk, provider: IdentityProvider) -> None:
    """Of the same person."""
    async with (
        open_sign_in_desk(desk.database_url, provider, sessions_per_principal_max=2) as desk,
        open_browser(desk) as first,
        open_browser(desk) as second,
        open_browser(desk) as third,
    ):
        for browser in (first, second, third):
            await browser.sign_in()
        statuses = [(await browser.json("GET", "/api/me"))[0] for browser in (first, second, third)]
        assert statuses == [401, 200, 200]


# at the provider's word


async def test_the_provider_signs_somebody_out_everywhere(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """By a logout token: what is open ends, too, within the time that is promised, on any replica; others stay."""
    await browser.sign_in()
    async with (
        open_sign_in_desk(desk.database_url, provider, public_url=desk.url) as replica,
        open_browser(desk) as other,
    ):
        await _sign_in_as(other, "bob")
        cookie = {"Cookie": f"{desk.sign_in.people.cookies.session_name}={browser.session_cookie()}"}
        async with aiohttp.ClientSession(headers=cookie) as session:
            socket = await session.ws_connect(replica.at + "/api/socket", headers={"Origin": desk.url})
            await socket.receive_str()
            waiting = [asyncio.ensure_future(session.get(at + "/api/wait")) for at in (desk.at, replica.at)]
            await asyncio.sleep(0.1)
            clock = asyncio.get_running_loop().time
            ended_at = clock()
            assert await provider.end_sessions_of("ada") == 200
            assert {(await one).status for one in waiting} == {401}
            message = await socket.receive()
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
            assert clock() - ended_at < ENDS_S_MAX
        assert (await other.json("GET", "/api/me"))[0] == 200


@pytest.mark.long
async def test_a_thousand_sessions_end_in_time(desk: SignInDesk, provider: IdentityProvider) -> None:
    """Each with a socket that is open, ended one after the other: here, at the provider's word, by a lost group, by hand."""
    clock = asyncio.get_running_loop().time
    sessions, name = desk.sign_in.people.sessions, desk.sign_in.people.cookies.session_name

    async def begun(subject: str) -> tuple[str, str]:
        principal = Principal(id=principal_id(provider.issuer, subject), groups=("hr",), name=subject, role="asker")
        new = NewSession(
            issuer=provider.issuer,
            subject=subject,
            provider_session=None,
            principal=principal,
            tokens=KeptTokens(),
            browser="",
        )
        cookie = await sessions.begin(new)
        found = await sessions.look_up(cookie)
        assert found is not None
        return cookie, found.id

    ways: list[Callable[[str, str], Awaitable[Any]]] = [
        lambda _, session_id: sessions.end(session_id),
        lambda subject, _: desk.sign_in.people.signing_in.end_at_providers_word(provider.logout_token(sub=subject)),
        lambda _, session_id: desk.execute(f"UPDATE sessions SET groups = '{{}}' WHERE id = '{session_id}'"),
        lambda _, session_id: desk.execute(f"DELETE FROM sessions WHERE id = '{session_id}'"),
    ]
    took: list[float] = []

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        subject = f"person-{number}"
        cookie, session_id = await begun(subject)
        headers = {"Origin": desk.url, "Cookie": f"{name}={cookie}"}
        async with session.ws_connect(desk.at + "/api/socket", headers=headers) as socket:
            await socket.receive_str()
            ended_at = clock()
            await ways[number % len(ways)](subject, session_id)
            await socket.receive()
            took.append(clock() - ended_at)
            assert socket.close_code == 1008

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for first in range(0, 1000, 20):
            await asyncio.gather(*(one(session, number) for number in range(first, first + 20)))
    took.sort()
    logger.info("1,000 sessions: median %.3f s, p99 %.3f s, longest %.3f s", took[500], took[989], took[-1])
    assert took[989] < ENDS_S_MAX


async def test_what_is_open_ends_when_the_provider_takes_a_group(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """Nobody has to send another request for it: what is open is asked about, too."""
    await browser.sign_in()
    async with browser.open_socket(Origin=desk.url) as socket:
        await socket.receive_str()
        provider.people["ada"].groups = ["legal"]
        await shift(desk, "confirmed_at", 200)
        async with within(ENDS_S_MAX):
            await socket.receive()
        assert socket.close_code == 1008


# keys, and a provider that is not there


async def test_keys_go_on_working_beside(browser: Browser, desk: SignInDesk) -> None:
    """They need no CSRF token; what is brought in the header decides alone, right or wrong, whatever the cookie."""
    await browser.sign_in()
    key = (await desk.keys.create("script", ())).key
    status, me = await browser.json("GET", "/api/me", headers={"Authorization": f"Bearer {key}"})
    assert (status, me["name"], me["signed_in_by"], me["csrf_token"]) == (200, "script", "key", None)
    browser.csrf = None
    assert (await browser.json("POST", "/api/work", headers={"Authorization": f"Bearer {key}"}))[0] == 200
    assert (await browser.json("GET", "/api/me", headers={"Authorization": "Bearer wrong"}))[0] == 401


async def test_nobody_is_local_administrator_where_people_sign_in(browser: Browser) -> None:
    """Though no key exists: a proxy on this machine may look like this machine."""
    assert (await browser.json("GET", "/api/work"))[0] == 401


async def test_a_provider_that_is_away_stops_nothing_but_signing_in(
    desk: SignInDesk, provider: IdentityProvider
) -> None:
    """The desk starts, keys open it, and signing in says who is away: as a page to people."""
    provider.is_down = True
    async with open_sign_in_desk(desk.database_url, provider) as desk, open_browser(desk) as browser:
        key = (await desk.keys.create("script", ())).key
        assert (await browser.json("GET", "/api/work", headers={"Authorization": f"Bearer {key}"}))[0] == 200
        status, problem = await browser.at("/auth/login")
        assert (status, problem["type"]) == (503, "provider-unavailable")
        async with browser.call("GET", "/auth/login", headers={"Accept": "text/html"}) as response:
            assert response.status == 503
            assert provider.issuer.removeprefix("http://") in await response.text()
        provider.is_down = False
        assert (await browser.sign_in())["name"] == "Ada Lovelace"


async def test_readiness_and_doctor_name_the_provider(desk: SignInDesk, provider: IdentityProvider) -> None:
    """Away, it makes the desk degraded, and no more; both say who it is. It is asked beside, not for each look."""
    async with open_sign_in_desk(desk.database_url, provider) as desk:
        host = provider.issuer.removeprefix("http://")
        health = Health([desk.sign_in.part])
        for _ in range(5):
            assert (await health.verdicts())["identity provider"].level == "ok"
        assert provider.calls["/.well-known/openid-configuration"] == 1
        assert await _diagnosis(desk, provider) == {"identity provider": "ok", "refresh tokens": "ok"}
        provider.metadata = {"code_challenge_methods_supported": None}
        assert (await _diagnosis(desk, provider))["code challenges"] == "warn"
        provider.is_down = True
        assert await _diagnosis(desk, provider) == {"identity provider": "FAIL"}
        assert await _diagnosis(desk, provider, oidc_client_id=None) == {"identity provider": "FAIL"}
        assert await _diagnosis(desk, provider, public_url="http://desk.example") == {"identity provider": "FAIL"}
    async with open_sign_in_desk(desk.database_url, provider) as desk:
        verdict = (await Health([desk.sign_in.part]).verdicts())["identity provider"]
        assert verdict.level == "degraded"
        assert host in verdict.why


async def _diagnosis(desk: SignInDesk, provider: IdentityProvider, **changed: Any) -> dict[str, str]:
    settings = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "public_url": desk.url} | changed
    loaded = Loaded(settings=Settings.of(**settings), origins={})
    return {finding.name: finding.level async for finding in check_provider(loaded)}
