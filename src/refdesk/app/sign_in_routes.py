"""Signing in and out over HTTP: where browsers go, what the provider calls, and what the page asks about itself."""

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from refdesk.access.credentials import Kind, kept
from refdesk.access.cross_site import csrf_token
from refdesk.access.policy import POLICY, Action, may, require
from refdesk.access.sessions import SessionView
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.errors import LogoutRefused, NotFound, RefdeskError, Unauthenticated
from refdesk.web.auditing import also
from refdesk.web.bodies import read_body
from refdesk.web.endpoints import Endpoint, Parameter
from refdesk.web.replies import DATA_HEADERS, Json, refusal

if TYPE_CHECKING:  # loaded only where an identity provider is named
    from refdesk.access.people import People
    from refdesk.app.sign_in import SignIn

LOGOUT_BYTES_MAX = 64 * 1024
RETURN_TO = Parameter(name="return_to", meaning="Where to go afterwards: a path of this desk, such as /#documents")
ALL = Parameter(name="all", kind=bool, default=False, meaning="Everybody's, for administrators")
SESSION_ID = Parameter(name="id", where="path", meaning="The session")
_FAILURE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Signing in did not work</title></head>
<body><main><h1>Signing in did not work</h1><p role="alert">{why}</p>
<p><a href="{base}/auth/login">Sign in again</a></p><p><a href="{base}/">Back to the desk</a></p></main></body></html>"""


class SignInView(msgspec.Struct, frozen=True):
    """Whether people can sign in here; with which provider, by its host; and the address where they begin."""

    available: bool
    provider: str | None = None
    address: str | None = None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling. ``csrf_token`` goes with whatever a session's page changes, as ``X-CSRF-Token``.

    ``may``: the actions that are open to their role; of some it also depends on what is acted upon.
    """

    id: str
    name: str
    groups: tuple[str, ...]
    role: Role
    signed_in_by: Kind
    csrf_token: str | None = None
    may: tuple[Action, ...] = ()


class LeftView(msgspec.Struct, frozen=True):
    """``continue_at``: where the browser signs out at the provider, too."""

    continue_at: str | None


class SessionList(msgspec.Struct, frozen=True):
    sessions: list[SessionView]


def sign_in_endpoints(sign_in: "SignIn | None") -> list[Endpoint]:
    """The same addresses with and without a provider; without one there is nothing at most of them."""
    routes = SignInRoutes(sign_in)
    return [*routes.for_browsers(), *routes.for_the_page()]


class SignInRoutes:
    """See the module."""

    def __init__(self, sign_in: "SignIn | None") -> None:
        self._sign_in = sign_in

    @property
    def _people(self) -> "People":
        """Raises NotFound where nobody can sign in."""
        if self._sign_in is None:
            raise NotFound("Nobody signs in here: no identity provider is named (REFDESK_OIDC_ISSUER). Use a key.")
        return self._sign_in.people

    def for_browsers(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/auth/login",
                action="session.begin",
                handler=self._login,
                summary="Go to the identity provider",
                parameters=(RETURN_TO,),
                status=303,
            ),
            Endpoint(
                method="GET",
                path="/auth/callback",
                action="session.begin",
                handler=self._callback,
                summary="Come back from it",
                status=303,
            ),
            Endpoint(
                method="POST",
                path="/auth/logout",
                action="session.leave",
                handler=self._logout,
                summary="End the session of this browser",
                response=LeftView,
            ),
            Endpoint(
                method="POST",
                path="/auth/backchannel-logout",
                action="session.begin",
                handler=self._backchannel_logout,
                summary="End sessions at the provider's word",
            ),
        ]

    def for_the_page(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/api/sign-in",
                action="session.begin",
                handler=self._offer,
                summary="Whether people can sign in",
                response=SignInView,
            ),
            Endpoint(
                method="GET",
                path="/api/me",
                action="principal.read",
                handler=self._me,
                summary="Who is calling",
                response=Me,
            ),
            Endpoint(
                method="GET",
                path="/api/sessions",
                action="sessions.read",
                handler=self._list,
                summary="List sessions",
                parameters=(ALL,),
                response=SessionList,
            ),
            Endpoint(
                method="DELETE",
                path="/api/sessions/{id}",
                action="sessions.end",
                handler=self._end,
                summary="End a session",
                parameters=(SESSION_ID,),
                status=204,
            ),
        ]

    # for browsers

    async def _login(self, request: Request, principal: Principal) -> ASGIApp:
        people = self._people
        try:
            begun = await people.signing_in.begin(people.cookies.attempt_of(request), return_to=RETURN_TO.of(request))
        except RefdeskError as error:
            return _failure(request, people, error)
        attempt = people.cookies.attempt(begun.secret, age_s=people.signing_in.attempt_s_max)
        return _redirect(begun.address, attempt)

    async def _callback(self, request: Request, principal: Principal) -> ASGIApp:
        people = self._people
        reply, cookies = dict(request.query_params), people.cookies
        try:
            signed_in = await people.signing_in.finish(
                cookies.attempt_of(request), reply, browser=request.headers.get("user-agent", "")
            )
        except RefdeskError as error:
            also(request, "session.begin", result="failed")
            return _failure(request, people, error)
        if (session_begun := await people.sessions.find(signed_in.cookie)) is not None:
            also(request, "session.begin", session_begun.id, by=session_begun.principal)
        if (before := cookies.session_of(request)) is not None:
            await people.sessions.end_cookie(before)
        session = cookies.session(signed_in.cookie, age_s=int(people.sessions.limits.s_max))
        return _redirect(cookies.base + signed_in.return_to, session, cookies.no_attempt())

    async def _logout(self, request: Request, principal: Principal) -> ASGIApp:
        """The door lets everybody in: whoever it let in by a session would be cut off when that session ends."""
        people = self._people
        cookie = people.cookies.session_of(request)
        who = None if cookie is None else await people.by_session(request)
        if cookie is None or who is None:
            raise Unauthenticated("You are not signed in here: keys and tokens have no session to leave.")
        also(request, "session.leave", by=who)
        response = Json(LeftView(await people.signing_in.end(cookie)))
        response.headers.append("Set-Cookie", people.cookies.no_session())
        return response

    async def _backchannel_logout(self, request: Request, principal: Principal) -> ASGIApp:
        people = self._people
        body = await read_body(request, bytes_max=LOGOUT_BYTES_MAX)
        try:
            tokens = parse_qs(body.decode("ascii"), max_num_fields=10).get("logout_token", [])
        except ValueError as error:
            raise LogoutRefused("The body is no form.") from error
        if len(tokens) != 1:
            raise LogoutRefused("Send one logout_token.")
        await people.signing_in.end_at_providers_word(tokens[0])
        also(request, "sessions.end")
        return Response(headers=DATA_HEADERS)

    # for the page

    async def _offer(self, request: Request, principal: Principal) -> ASGIApp:
        if self._sign_in is None:
            return Json(SignInView(available=False))
        address = self._sign_in.people.cookies.base + "/auth/login"
        return Json(SignInView(available=True, provider=self._sign_in.provider.host, address=address))

    async def _me(self, request: Request, principal: Principal) -> ASGIApp:
        credential = kept(request)
        kind: Kind = "key" if credential is None else credential.kind
        token = csrf_token(credential.secret) if credential is not None and kind == "session" else None
        return Json(
            Me(
                id=principal.id,
                name=principal.name,
                groups=principal.groups,
                role=principal.role,
                signed_in_by=kind,
                csrf_token=token,
                may=tuple(action for action in POLICY if may(principal, action)),
            )
        )

    async def _list(self, request: Request, principal: Principal) -> ASGIApp:
        everybodys = ALL.of(request)
        if everybodys:
            require(principal, "sessions.read_all")
        credential = kept(request)
        current = credential.id if credential is not None and credential.kind == "session" else None
        found = await self._people.sessions.listing(of=None if everybodys else principal, current=current)
        return Json(SessionList(found))

    async def _end(self, request: Request, principal: Principal) -> ASGIApp:
        anybodys = may(principal, "sessions.end_all")
        await self._people.sessions.end(SESSION_ID.of(request), of=None if anybodys else principal)
        return Response(status_code=204)


def _redirect(address: str, *cookies: str) -> Response:
    response = RedirectResponse(address, status_code=303, headers=DATA_HEADERS)
    for cookie in cookies:
        response.headers.append("Set-Cookie", cookie)
    return response


def _failure(request: Request, people: "People", error: RefdeskError) -> Response:
    """For people a page, for all others a problem."""
    if "text/html" not in request.headers.get("accept", ""):
        return refusal(error, request.scope)
    text = _FAILURE.format(why=escape(error.message), base=escape(people.cookies.base))
    return HTMLResponse(text, status_code=error.status, headers=DATA_HEADERS)
