"""What an attacker tries at the doors of a desk where people sign in: forged and replayed sign-ins, tokens and requests."""

import asyncio
import base64
import hmac
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64encode
from tests.support.identity_provider import API, CLIENT_ID, CLIENT_SECRET, LOGOUT_EVENT, IdentityProvider, Spoil
from tests.support.patience import within
from tests.support.sign_in_desk import Browser, SignInDesk, open_browser, open_sign_in_desk

from refdesk.access.oidc.people import principal_id


async def refused(browser: Browser, address: str) -> str:
    """Why the desk does not sign the browser in; it has no session then."""
    status, problem = await browser.at(address)
    assert (status, problem["type"]) == (400, "sign-in-failed"), problem
    assert browser.session_cookie() is None
    return str(problem["detail"])


# the way there and back


async def test_a_reply_in_another_browser_signs_nobody_in(browser: Browser, desk: SignInDesk) -> None:
    """Whoever is sent somebody else's reply (login CSRF) does not become them, be they at a sign-in of their own or not."""
    async with open_browser(desk) as attacker:
        address = await attacker.come_back(await attacker.begin())
    assert "not begun in this browser" in await refused(browser, address)
    await browser.begin()
    assert "not begun in this browser" in await refused(browser, address)


@pytest.mark.parametrize(
    "forge", [lambda state: "", lambda state: state[:-1] + "A" * (state[-1] != "A") + "B" * (state[-1] == "A")]
)
async def test_a_forged_state_is_refused(browser: Browser, forge: Callable[[str], str]) -> None:
    """And so is one that is missing."""
    address = await browser.come_back(await browser.begin())
    state = address.partition("state=")[2].partition("&")[0]
    await refused(browser, address.replace(state, forge(state)))


async def test_where_to_return_cannot_be_changed_on_the_way(browser: Browser) -> None:
    """It is part of the state, and the code over it is the browser's own."""
    address = await browser.come_back(await browser.begin())
    state = address.partition("state=")[2].partition("&")[0]
    salt, _, code = state.split(".")
    elsewhere = base64.urlsafe_b64encode(b"/#elsewhere").rstrip(b"=").decode()
    await refused(browser, address.replace(state, f"{salt}.{elsewhere}.{code}"))


async def test_a_code_is_worth_one_session(browser: Browser, provider: IdentityProvider) -> None:
    """A second try has no attempt to belong to; and the provider takes no code twice."""
    address = await browser.come_back(await browser.begin())
    secret = browser.cookies()[browser.desk.sign_in.people.cookies.attempt_name]
    assert (await browser.at(address))[0] == 303
    async with open_browser(browser.desk) as thief:
        await refused(thief, address)
        name = browser.desk.sign_in.people.cookies.attempt_name
        async with thief.call(
            "GET", address, headers={"Cookie": f"{name}={secret}", "Accept": "application/json"}
        ) as response:
            assert response.status == 400
            assert "invalid_grant" in (await response.json())["detail"]


async def test_a_code_of_another_sign_in_is_refused(browser: Browser, desk: SignInDesk) -> None:
    """Put into one's own reply (code injection), it meets the wrong verifier."""
    async with open_browser(desk) as victim:
        stolen = (await victim.come_back(await victim.begin())).partition("code=")[2].partition("&")[0]
    address = await browser.come_back(await browser.begin())
    own = address.partition("code=")[2].partition("&")[0]
    assert "invalid_grant" in await refused(browser, address.replace(own, stolen))


async def test_a_reply_of_another_provider_is_refused(browser: Browser, provider: IdentityProvider) -> None:
    """Mix-up: it names its sender, and a provider that says it does must do so."""
    address = await browser.come_back(await browser.begin())
    sender = "iss=" + address.partition("iss=")[2]
    await refused(browser, address.replace(sender, "iss=https%3A%2F%2Fevil.example"))
    address = await browser.come_back(await browser.begin())
    await refused(browser, address.replace("&" + sender, ""))


async def test_what_a_refusal_says_is_not_repeated(browser: Browser) -> None:
    """Anybody can write an address; only a plain code of the provider's is shown."""
    address = await browser.come_back(await browser.begin())
    state = address.partition("state=")[2].partition("&")[0]
    sender = address.partition("iss=")[2]
    reply = f"/auth/callback?state={state}&iss={sender}"
    assert "access_denied" in await refused(browser, reply + "&error=access_denied&error_description=call+0900")
    said = await refused(browser, reply + "&error=%3Cb%3Ecall+0900")
    assert "0900" not in said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
        ({"issuer": "https://evil.example"}, "calls itself"),
        ({"issuer": None}, "describes itself wrongly"),
        ({"token_endpoint": 5}, "describes itself wrongly"),
    ],
)
async def test_a_provider_that_cannot_be_trusted_signs_nobody_in(
    desk: SignInDesk, provider: IdentityProvider, said: dict[str, Any], why: str
) -> None:
    """One without PKCE by S256, or that is another one, is no provider of ours; the desk says so."""
    provider.metadata = said
    async with open_sign_in_desk(desk.database_url, provider) as desk, open_browser(desk) as browser:
        status, problem = await browser.at("/auth/login")
        assert (status, problem["type"]) == (503, "provider-unavailable")
        assert why in problem["detail"]


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "/%0d%0aSet-Cookie:a=b"])
async def test_nobody_is_sent_elsewhere_after_signing_in(browser: Browser, desk: SignInDesk, path: str) -> None:
    """The way back is a path of the desk, whatever was asked for."""
    async with browser.call("GET", "/auth/login", params={"return_to": path}, allow_redirects=False) as response:
        address = await browser.come_back(response.headers["location"])
    async with browser.call("GET", address, allow_redirects=False) as response:
        assert response.status == 303
        assert response.headers["location"].startswith(desk.url + "/")
        assert "evil" not in response.headers["location"].removeprefix(desk.url).partition("?")[0].partition("%")[0]


# what the provider signs, and what it does not


def claim(**changed: Any) -> Spoil:
    def spoil(header: dict[str, Any], claims: dict[str, Any]) -> None:
        claims.update(changed)
        for name, value in changed.items():
            if value is None:
                del claims[name]

    return spoil


def head(**changed: Any) -> Spoil:
    def spoil(header: dict[str, Any], claims: dict[str, Any]) -> None:
        header.update(changed)

    return spoil


SPOILT: dict[str, Spoil] = {
    "another nonce": claim(nonce="another"),
    "no nonce": claim(nonce=None),
    "another issuer": claim(iss="https://evil.example"),
    "another audience": claim(aud="another-desk"),
    "several audiences and no azp": claim(aud=[CLIENT_ID, "another-desk"]),
    "another azp": claim(azp="another-desk"),
    "expired": claim(exp=int(time.time()) - 60),
    "no expiry": claim(exp=None),
    "an expiry that is no number": claim(exp="never"),
    "from tomorrow": claim(iat=int(time.time()) + 86_400),
    "not yet": claim(nbf=int(time.time()) + 3600),
    "no subject": claim(sub=None),
    "a subject that is none": claim(sub=5),
    "a subject of half a kilobyte": claim(sub="s" * 500),
    "of another access token": claim(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    "a logout token": head(typ="logout+jwt"),
    "an access token": head(typ="at+jwt"),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_an_id_token_that_is_not_right_signs_nobody_in(
    browser: Browser, provider: IdentityProvider, how: str
) -> None:
    """Each check of OpenID Connect Core 1.0, section 3.1.3.7, and a few more."""
    provider.spoil = SPOILT[how]
    await refused(browser, await browser.come_back(await browser.begin()))


async def test_a_clock_that_is_a_little_off_is_borne(browser: Browser, provider: IdentityProvider) -> None:
    """By as much as REFDESK_OIDC_LEEWAY_S says."""
    now = int(time.time())
    provider.spoil = claim(exp=now - 5, iat=now + 20)
    assert (await browser.sign_in())["name"] == "Ada Lovelace"


Sign = Callable[[bytes], bytes]


def by_rsa(key: RSAKey) -> Sign:
    return lambda data: key.private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def by_secret(secret: bytes) -> Sign:
    return lambda data: hmac.digest(secret, data, "sha256")


def by_curve(key: ECKey) -> Sign:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.private_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign


def signatures(provider: IdentityProvider) -> dict[str, tuple[Spoil, Sign]]:
    """Ways to sign without the provider's key, or what its key has never signed."""
    own, stranger = provider.keys[0], RSAKey.generate_key(2048, {"kid": "first"})
    return {
        "none": (head(alg="none"), lambda data: b""),
        "none, written otherwise": (head(alg="NoNe"), lambda data: b""),
        "no signature": (head(), lambda data: b""),
        "HS256 with the public key": (head(alg="HS256"), by_secret(own.as_pem(private=False))),
        "HS256 with the modulus": (head(alg="HS256"), by_secret(str(own.as_dict(private=False)["n"]).encode())),
        "HS256 with the client's secret": (head(alg="HS256"), by_secret(CLIENT_SECRET.encode())),
        "another key of that name": (head(), by_rsa(stranger)),
        "another key and no name": (head(kid=None), by_rsa(stranger)),
        "a key of an unknown name": (head(kid="unheard-of"), by_rsa(stranger)),
        "a key that the token brings": (head(jwk=stranger.as_dict(private=False)), by_rsa(stranger)),
        "a key from elsewhere": (head(jku="https://evil.example/jwks"), by_rsa(stranger)),
        "another kind of key": (head(alg="ES256"), by_curve(ECKey.generate_key("P-256", {"kid": "first"}))),
        "an extension that must be understood": (head(crit=["exp2"], exp2=1), by_rsa(own)),
    }


def signed_with(provider: IdentityProvider, spoil: Spoil, sign: Sign) -> Any:
    """In place of the provider's own signing."""

    def signing(claims: dict[str, Any], *, typ: str = "JWT") -> str:
        header = {"alg": "RS256", "kid": provider.keys[0].kid, "typ": typ}
        spoil(header, claims)
        given = {name: value for name, value in header.items() if value is not None}
        parts = [urlsafe_b64encode(msgspec.json.encode(part)) for part in (given, claims)]
        return b".".join([*parts, urlsafe_b64encode(sign(b".".join(parts)))]).decode()

    return signing


@pytest.mark.parametrize("how", signatures(IdentityProvider()))
async def test_only_the_provider_signs(browser: Browser, provider: IdentityProvider, how: str) -> None:
    """By its own keys and the algorithms of the list: for those who sign in, and for tokens alike."""
    provider.sign = signed_with(provider, *signatures(provider)[how])  # type: ignore[method-assign]
    try:
        await refused(browser, await browser.come_back(await browser.begin()))
        assert (await by_token(browser, provider.access_token("ada")))[0] == 401
    finally:
        del provider.sign  # type: ignore[method-assign]


async def test_what_these_attacks_are_made_with_signs_rightly(browser: Browser, provider: IdentityProvider) -> None:
    """With the provider's own key, it is let in: the others are refused for what they are."""
    provider.sign = signed_with(provider, head(), by_rsa(provider.keys[0]))  # type: ignore[method-assign]
    try:
        assert (await browser.sign_in())["name"] == "Ada Lovelace"
        assert (await by_token(browser, provider.access_token("ada")))[0] == 200
    finally:
        del provider.sign  # type: ignore[method-assign]


async def test_user_info_of_somebody_else_is_refused(browser: Browser, provider: IdentityProvider) -> None:
    """Groups are never taken from it."""
    provider.groups_in_id_token = False
    bob = provider.people["bob"]
    provider.access = type("Always", (dict,), {"get": lambda *_: bob})()  # type: ignore[assignment]
    await refused(browser, await browser.come_back(await browser.begin()))


# tokens as keys


async def by_token(browser: Browser, token: str, method: str = "GET") -> tuple[int, Any]:
    return await browser.json(method, "/api/work", headers={"Authorization": f"Bearer {token}"})


async def test_a_token_makes_the_same_person_as_a_sign_in(browser: Browser, provider: IdentityProvider) -> None:
    """Id, name, groups; and it needs no CSRF token."""
    me = await browser.sign_in()
    browser.csrf = None
    header = {"Authorization": f"Bearer {provider.access_token('ada')}"}
    _, same = await browser.json("GET", "/api/me", headers=header)
    assert {**same, "signed_in_by": "session", "csrf_token": me["csrf_token"]} == me
    assert same["id"] == principal_id(provider.issuer, "ada")
    assert (await by_token(browser, provider.access_token("ada"), "POST"))[0] == 200


NOW = int(time.time())
TOKENS: dict[str, dict[str, Any]] = {
    "for another api": {"aud": "https://other.example"},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": NOW - 60},
    "without an end": {"exp": None},
    "not yet": {"nbf": NOW + 3600},
    "of nobody": {"sub": None},
    "an ID token": {"nonce": "n"},
    "an ID token by its hash": {"at_hash": "h"},
    "a logout token": {"events": {LOGOUT_EVENT: {}}},
    "another kind by Keycloak's word": {"typ": "Refresh"},
}


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_token_that_is_not_right_is_no_key(browser: Browser, provider: IdentityProvider, kind: str) -> None:
    """And its refusal says why."""
    token = provider.access_token("ada", **TOKENS[kind])
    status, problem = await by_token(browser, token)
    assert (status, problem["type"]) == (401, "unauthenticated")
    assert problem["detail"].startswith("Your token is refused: ")


async def test_tokens_are_no_keys_without_an_audience(desk: SignInDesk, provider: IdentityProvider) -> None:
    """Unset, it is for nobody here."""
    async with (
        open_sign_in_desk(desk.database_url, provider, oidc_audience=None) as desk,
        open_browser(desk) as browser,
    ):
        assert (await by_token(browser, provider.access_token("ada")))[0] == 401


async def test_keys_that_change_are_followed(browser: Browser, provider: IdentityProvider) -> None:
    """The new one counts at once, the old one no more."""
    before = provider.access_token("ada")
    assert (await by_token(browser, before))[0] == 200
    provider.rotate_keys()
    assert (await by_token(browser, provider.access_token("ada")))[0] == 200
    assert (await by_token(browser, before))[0] == 401


async def test_unknown_keys_do_not_make_us_flood_the_provider(desk: SignInDesk, provider: IdentityProvider) -> None:
    """However many tokens name keys that it never had, its keys are fetched once in so many seconds."""
    async with (
        open_sign_in_desk(desk.database_url, provider, oidc_keys_pause_s=3600.0) as desk,
        open_browser(desk) as browser,
    ):
        assert (await by_token(browser, provider.access_token("ada")))[0] == 200
        fetched = provider.calls["/jwks"]
        stranger = RSAKey.generate_key(2048)
        provider.spoil_key = stranger
        tokens = []
        for number in range(60):
            provider.spoil = head(kid=f"unknown-{number}")
            tokens.append(provider.access_token("ada"))
        assert {status for status, _ in await asyncio.gather(*(by_token(browser, token) for token in tokens))} == {401}
        assert provider.calls["/jwks"] - fetched <= 1
        provider.spoil = provider.spoil_key = None
        assert (await by_token(browser, provider.access_token("ada")))[0] == 200


async def test_what_is_open_by_a_token_ends_with_it(browser: Browser, provider: IdentityProvider) -> None:
    """The leeway for clocks counts, too."""
    token = provider.access_token("ada", exp=int(time.time()) - 28)
    async with browser.open_socket(Authorization=f"Bearer {token}") as socket:
        await socket.receive_str()
        async with within(10):
            await socket.receive()
        assert socket.close_code == 1008


@pytest.mark.parametrize("text", ["a.b.c", "..", "e30.e30.e30", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "é.é.é", "." * 1000])
async def test_what_is_no_token_is_refused(browser: Browser, text: str) -> None:
    """As any wrong key."""
    status, _ = await browser.json(
        "GET", "/api/work", headers={"Authorization": f"Bearer {text}".encode().decode("latin-1")}
    )
    assert status == 401


# requests of other sites


async def test_a_change_without_the_csrf_token_is_refused(browser: Browser, desk: SignInDesk) -> None:
    """Or with another one, or from another page; reading needs none."""
    await browser.sign_in()
    right = browser.csrf or ""
    browser.csrf = None
    for headers in (
        {},
        {"X-CSRF-Token": "wrong"},
        {"X-CSRF-Token": right, "Origin": "https://evil.example"},
        {"X-CSRF-Token": right, "Origin": "null"},
        {"X-CSRF-Token": right, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": right, "Sec-Fetch-Site": "same-site"},
    ):
        status, problem = await browser.json("POST", "/api/work", headers=headers)
        assert (status, problem["type"]) == (403, "cross-site"), headers
    assert desk.changed == []
    assert (await browser.json("POST", "/auth/logout"))[0] == 403
    own = {"X-CSRF-Token": right, "Origin": desk.url, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.json("POST", "/api/work", headers=own))[0] == 200
    assert (await browser.json("GET", "/api/work", headers={"Sec-Fetch-Site": "cross-site"}))[0] == 200


async def test_the_csrf_token_of_another_session_is_none(browser: Browser, desk: SignInDesk) -> None:
    """Even of the same person."""
    await browser.sign_in()
    async with open_browser(desk) as other:
        await other.sign_in()
        browser.csrf = other.csrf
        assert (await browser.json("POST", "/api/work"))[0] == 403


async def test_a_socket_opens_to_the_desks_own_page_alone(browser: Browser, desk: SignInDesk) -> None:
    """By its `Origin`, where it comes with a cookie; a key in the header needs none."""
    await browser.sign_in()
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": desk.url + ".evil.example"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            async with browser.open_socket(**headers):
                pass
        assert refusal.value.status == 403
    async with browser.open_socket(Origin=desk.url) as socket:
        await socket.receive_str()
    key = (await desk.keys.create("script", ())).key
    async with browser.open_socket(Authorization=f"Bearer {key}") as socket:
        await socket.receive_str()


async def test_a_session_that_was_planted_is_not_taken_over(browser: Browser, desk: SignInDesk) -> None:
    """Session fixation: whoever signs in gets a new cookie, and the one that was there is ended."""
    async with open_browser(desk) as attacker:
        await attacker.sign_in()
        planted = attacker.session_cookie() or ""
        name = desk.sign_in.people.cookies.session_name
        address = await browser.begin()
        attempt = (
            f"{desk.sign_in.people.cookies.attempt_name}={browser.cookies()[desk.sign_in.people.cookies.attempt_name]}"
        )
        back = await browser.come_back(address)
        headers = {"Cookie": f"{name}={planted}; {attempt}"}
        async with aiohttp.ClientSession() as bare, bare.get(back, headers=headers, allow_redirects=False) as response:
            assert response.status == 303
            assert response.cookies[name].value not in ("", planted)
        assert (await attacker.json("GET", "/api/me"))[0] == 401
    for invented in ("invented", "", "a" * 5000, "é"):
        assert (await browser.json("GET", "/api/me", headers={"Cookie": f"{name}={invented}"}))[0] == 401


# the provider's word to sign somebody out


LOGOUTS: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://evil.example"},
    "for another client": {"aud": "another-desk"},
    "expired": {"exp": NOW - 60},
    "of tomorrow": {"iat": NOW + 86_400},
    "without a time": {"iat": None},
    "without an id": {"jti": None},
    "without its event": {"events": None},
    "with another event": {"events": {"https://other.example/event": {}}},
    "with an event that is none": {"events": {LOGOUT_EVENT: True}},
    "with a nonce": {"nonce": "n"},
    "of nobody": {"sub": None, "sid": None},
}


async def tell(desk: SignInDesk, **form: Any) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(desk.at + "/auth/backchannel-logout", data=form) as reply,
    ):
        return reply.status


@pytest.mark.parametrize("kind", LOGOUTS)
async def test_a_logout_token_that_is_not_right_ends_nothing(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider, kind: str
) -> None:
    """Each check of OpenID Connect Back-Channel Logout 1.0, section 2.6."""
    await browser.sign_in()
    token = provider.logout_token(**{"sub": "ada", **LOGOUTS[kind]})
    assert await tell(desk, logout_token=token) == 400
    assert (await browser.json("GET", "/api/me"))[0] == 200


async def test_other_tokens_sign_nobody_out(browser: Browser, desk: SignInDesk, provider: IdentityProvider) -> None:
    """Nor does what is no token, or too much."""
    await browser.sign_in()
    for token in (provider.access_token("ada"), "a.b.c", "", "x" * 60_000):
        assert await tell(desk, logout_token=token) == 400
    assert await tell(desk) == 400
    assert await tell(desk, logout_token="x" * 100_000) == 413
    assert (await browser.json("GET", "/api/me"))[0] == 200


async def test_a_logout_token_counts_once(browser: Browser, desk: SignInDesk, provider: IdentityProvider) -> None:
    """Replayed, it would sign out whoever has signed in since."""
    await browser.sign_in()
    token = provider.logout_token(sub="ada")
    assert await tell(desk, logout_token=token) == 200
    assert (await browser.json("GET", "/api/me"))[0] == 401
    await browser.sign_in()
    assert await tell(desk, logout_token=token) == 400
    assert (await browser.json("GET", "/api/me"))[0] == 200


async def test_a_logout_token_ends_the_session_that_it_names(
    browser: Browser, desk: SignInDesk, provider: IdentityProvider
) -> None:
    """Of one sign-in at the provider; the person's others stay."""
    await browser.sign_in()
    first = provider.sids.pop("ada")
    async with open_browser(desk) as other:
        await other.sign_in()
        assert await tell(desk, logout_token=provider.logout_token(sid=first)) == 200
        assert (await browser.json("GET", "/api/me"))[0] == 401
        assert (await other.json("GET", "/api/me"))[0] == 200


def test_the_audience_is_not_the_client() -> None:
    """What these tests rely on: an ID token is for the client, an access token for the API."""
    assert API != CLIENT_ID
