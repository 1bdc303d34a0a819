"""A real OpenID provider for tests: Authlib's authorization server, its people, and what an attacker would make of it.

Code flow with PKCE (S256 alone), rotating refresh tokens, user info, key rotation, RP-initiated and back-channel logout.
`spoil` lets a test change what is signed; `people` may change at any time, as they do in a directory.
"""

import asyncio
import contextlib
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode, OpenIDToken
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.integration.documents_desk import serving

CLIENT_ID = "refdesk"
CLIENT_SECRET = "the-desks-secret"
API = "https://desk.example/api"
"""The audience of access tokens."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

Spoil = Callable[[dict[str, Any], dict[str, Any]], None]
"""Changes a token's header and claims before it is signed."""


@dataclass
class Person:
    sub: str
    name: str
    groups: list[str]
    active: bool = True


@dataclass
class Granted:
    """A code, or a refresh token, and whose it is."""

    text: str
    person: Person
    sid: str
    scope: str
    redirect_uri: str = ""
    nonce: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    auth_time: int = field(default_factory=lambda: int(time.time()))

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None

    def check_client(self, client: Any) -> bool:
        return bool(client.client_id == CLIENT_ID)


class Client(ClientMixin):
    """The one client that is registered."""

    client_id = CLIENT_ID

    def __init__(self, redirect_uris: set[str]) -> None:
        self._redirect_uris = redirect_uris

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self._redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


class _Payload(OAuth2Payload):
    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    @property
    def data(self) -> dict[str, str]:
        return {name: values[0] for name, values in self._values.items()}

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return defaultdict(list, self._values)


class _Asked(OAuth2Request):
    def __init__(self, request: Request, form: dict[str, str]) -> None:
        super().__init__(request.method, f"https://provider{request.url.path}", headers=dict(request.headers))
        self.headers = {"Authorization": request.headers.get("authorization", "")}
        self._args = dict(request.query_params)
        self._form = form
        self.payload = _Payload({name: [value] for name, value in {**self._args, **form}.items()})

    @property
    def args(self) -> dict[str, str]:
        return self._args

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthorizationServer):
    def __init__(self, provider: "IdentityProvider") -> None:
        super().__init__()
        self.provider = provider
        self.register_token_generator("default", self._token)

    def query_client(self, client_id: str) -> Client | None:
        return Client(self.provider.redirect_uris) if client_id == CLIENT_ID else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        granted = request.authorization_code or request.refresh_token
        self.provider.access[token["access_token"]] = granted.person
        if "refresh_token" in token:
            self.provider.refresh[token["refresh_token"]] = Granted(
                token["refresh_token"], granted.person, granted.sid, granted.scope
            )

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass

    def create_oauth2_request(self, request: Any) -> OAuth2Request:
        return request  # type: ignore[no-any-return]

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        if isinstance(body, dict):
            return JSONResponse(body, status_code=status, headers=dict(headers))
        return Response(body, status_code=status, headers=dict(headers))

    def _token(self, *, user: Person, scope: str, include_refresh_token: bool, **_: Any) -> dict[str, Any]:
        token = {"token_type": "Bearer", "access_token": self.provider.access_token(user.sub), "scope": scope}
        if include_refresh_token and self.provider.gives_refresh_tokens:
            token["refresh_token"] = secrets.token_urlsafe(32)
        return {**token, "expires_in": 300}


class _CodeGrant(AuthorizationCodeGrant):
    server: _Server

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        data = request.payload.data
        self.server.provider.codes[code] = Granted(
            code,
            request.user,
            self.server.provider.sid_of(request.user),
            request.scope,
            redirect_uri=data["redirect_uri"],
            nonce=data.get("nonce"),
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Granted | None:
        return self.server.provider.codes.get(code)

    def delete_authorization_code(self, authorization_code: Granted) -> None:
        if not self.server.provider.forgets_to_spend_codes:
            del self.server.provider.codes[authorization_code.text]

    def authenticate_user(self, authorization_code: Granted) -> Person:
        return authorization_code.person


class _RefreshGrant(RefreshTokenGrant):
    server: _Server
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Granted | None:
        found = self.server.provider.refresh.get(refresh_token)
        if found is None:
            self.server.provider.reused_refresh_tokens += 1
        return found if found is not None and found.person.active else None

    def authenticate_user(self, refresh_token: Granted) -> Person:
        return refresh_token.person

    def revoke_old_credential(self, refresh_token: Granted) -> None:
        self.server.provider.refresh.pop(refresh_token.text, None)


class _Claims:
    """What ID tokens say."""

    provider: "IdentityProvider"

    def generate_user_info(self, user: Person, scope: str) -> UserInfo:
        return UserInfo(sub=user.sub)

    def encode_id_token(self, token: dict[str, Any], request: OAuth2Request) -> str:
        granted: Granted = request.authorization_code or request.refresh_token
        return self.provider.id_token(granted, access_token=token["access_token"])


class _Code(_Claims, OpenIDCode):  # type: ignore[misc]
    def __init__(self, provider: "IdentityProvider") -> None:
        super().__init__(require_nonce=True)
        self.provider = provider

    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:
        return any(code.nonce == nonce for code in self.provider.codes.values())


class _Refreshed(_Claims, OpenIDToken):  # type: ignore[misc]
    def __init__(self, provider: "IdentityProvider") -> None:
        self.provider = provider


class IdentityProvider:
    """Its people sign in one at a time: whom `signed_in` names is at the browser. None: it asks with a form."""

    def __init__(self) -> None:
        self.issuer = ""
        self.desk = ""
        self.people = {
            "ada": Person("ada", "Ada Lovelace", ["hr", "Desk admins"]),
            "bob": Person("bob", "Bob Stone", ["legal"]),
        }
        self.signed_in: str | None = "ada"
        self.codes: dict[str, Granted] = {}
        self.refresh: dict[str, Granted] = {}
        self.access: dict[str, Person] = {}
        self.sids: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.metadata: dict[str, Any] = {}
        self.spoil: Spoil | None = None
        self.spoil_key: Any = None
        self.is_down = False
        self.gives_refresh_tokens = True
        self.groups_in_id_token = True
        self.forgets_to_spend_codes = False
        self.revokes: asyncio.Event | None = None
        """Set, revocations wait for it."""
        self.reused_refresh_tokens = 0
        self.keys = [RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})]
        self._server = _Server(self)
        self._server.register_grant(_CodeGrant, [CodeChallenge(required=True), _Code(self)])
        self._server.register_grant(_RefreshGrant, [_Refreshed(self)])

    @property
    def redirect_uris(self) -> set[str]:
        return {self.desk + "/auth/callback"}

    def sid_of(self, person: Person) -> str:
        return self.sids.setdefault(person.sub, secrets.token_hex(8))

    def reset(self) -> None:
        """As it was at first, with its keys and address."""
        issuer, desk, keys = self.issuer, self.desk, self.keys
        self.__init__()  # type: ignore[misc]
        self.issuer, self.desk, self.keys = issuer, desk, keys

    def rotate_keys(self) -> None:
        """Another key signs from now on; the one before is not published any more."""
        self.keys = [RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})]

    # tokens

    def sign(self, claims: dict[str, Any], *, typ: str = "JWT") -> str:
        header = {"alg": "RS256", "kid": self.keys[0].kid, "typ": typ}
        if self.spoil is not None:
            self.spoil(header, claims)
        key = self.spoil_key or self.keys[0]
        return jwt.encode(header, claims, key, ["RS256", "HS256", "none"])

    def id_token(self, granted: Granted, *, access_token: str) -> str:
        person, now = granted.person, int(time.time())
        claims: dict[str, Any] = {"iss": self.issuer, "aud": CLIENT_ID, "sub": person.sub, "iat": now, "exp": now + 300}
        claims |= {"sid": granted.sid, "name": person.name, "auth_time": granted.auth_time}
        if granted.nonce is not None:
            claims["nonce"] = granted.nonce
        if self.groups_in_id_token:
            claims["groups"] = person.groups
        return self.sign(claims)

    def access_token(self, person: str, **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": [API], "sub": person, "iat": now, "exp": now + 300, "client_id": CLIENT_ID}
        claims |= {"jti": secrets.token_hex(8), "groups": self.people[person].groups, "name": self.people[person].name}
        claims |= changed
        return self.sign({name: value for name, value in claims.items() if value is not None}, typ="at+jwt")

    def logout_token(self, **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": secrets.token_hex(8)}
        claims |= {"events": {LOGOUT_EVENT: {}}} | changed
        return self.sign({name: value for name, value in claims.items() if value is not None}, typ="logout+jwt")

    async def end_sessions_of(self, sub: str) -> int:
        """Tell the desk that the person was signed out here; its status."""
        token = self.logout_token(sub=sub, sid=self.sids.pop(sub, None))
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.desk + "/auth/backchannel-logout", data={"logout_token": token}) as response,
        ):
            return response.status

    # doors

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["IdentityProvider"]:
        doors = {
            "/.well-known/openid-configuration": self._describe,
            "/jwks": self._publish_keys,
            "/authorize": self._authorize,
            "/token": self._give_token,
            "/userinfo": self._tell_of,
            "/end-session": self._end_session,
            "/revoke": self._revoke,
        }
        app = Starlette(
            routes=[Route(path, self._counted(door), methods=["GET", "POST"]) for path, door in doors.items()]
        )
        async with serving(app) as self.issuer:
            yield self

    def _counted(self, door: Any) -> Any:
        async def counted(request: Request) -> Response:
            self.calls[request.url.path] += 1
            if self.is_down:
                return Response("down for maintenance", status_code=503)
            answer: Response = await door(request)
            return answer

        return counted

    async def _describe(self, request: Request) -> Response:
        at = self.issuer
        return JSONResponse(
            {
                "issuer": at,
                "authorization_endpoint": f"{at}/authorize",
                "token_endpoint": f"{at}/token",
                "jwks_uri": f"{at}/jwks",
                "userinfo_endpoint": f"{at}/userinfo",
                "end_session_endpoint": f"{at}/end-session",
                "revocation_endpoint": f"{at}/revoke",
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                **self.metadata,
            }
        )

    async def _publish_keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def _authorize(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        chosen = form.pop("person", self.signed_in)
        if chosen is None:
            return HTMLResponse(_ask_who(request.url.query, list(self.people)))
        asked = _Asked(request, form)
        person = self.people.get(chosen)
        grant = self._server.get_consent_grant(asked, person)
        answer: Response = self._server.create_authorization_response(asked, grant_user=person, grant=grant)
        location = answer.headers.get("location", "")
        if location:
            separator = "&" if urlsplit(location).query else "?"
            answer.headers["location"] = f"{location}{separator}{urlencode({'iss': self.issuer})}"
        return answer

    async def _give_token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        answer: Response = self._server.create_token_response(_Asked(request, form))
        return answer

    async def _tell_of(self, request: Request) -> Response:
        person = self.access.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if person is None or not person.active:
            return JSONResponse({"error": "invalid_token"}, status_code=401)
        return JSONResponse({"sub": person.sub, "name": person.name, "groups": person.groups})

    async def _end_session(self, request: Request) -> Response:
        self.signed_in = None
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], status_code=303)

    async def _revoke(self, request: Request) -> Response:
        if self.revokes is not None:
            await self.revokes.wait()
        self.refresh.pop(str((await request.form()).get("token")), None)
        return Response()


def _ask_who(query: str, people: list[str]) -> str:
    buttons = "".join(f'<button name="person" value="{person}">{person}</button>' for person in people)
    return f'<!doctype html><title>Sign in</title><form method="post" action="/authorize?{query}">{buttons}</form>'
