"""What goes out: JSON, and refusals as those who call an address read them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from refdesk.contracts.errors import RefdeskError, problem
from refdesk.web.addresses import MCP_ADDRESS, OPENAI_ADDRESSES, RESOURCE_METADATA, public_base
from refdesk.web.openai_errors import error_object, openai_status

DATA_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of what is data and no page: it is one reader's, and means nothing to a browser."""


_ALSO = "refdesk.headers_of_refusals"


class Json(Response):
    """A JSON response from a msgspec struct or plain data, which is not cached, and which no browser takes for a page."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers({**DATA_HEADERS, **(headers or {})})


def server_timing(seconds: Mapping[str, float | None]) -> dict[str, str]:
    """The header of that name (W3C): what each step took, in milliseconds."""
    told = [f"{name};dur={value * 1000:.1f}" for name, value in seconds.items() if value is not None]
    return {"Server-Timing": ", ".join(told)} if told else {}


def also_in_refusals(scope: Scope, headers: Mapping[str, str]) -> None:
    """What the refusal of this request says, too, if it comes to one."""
    scope[_ALSO] = headers


def refusal(error: RefdeskError, scope: Scope) -> Response:
    """The error as those who call this address read it: OpenAI's object below ``/v1/``, problem details elsewhere."""
    details, headers = problem(error), _refusal_headers(error, scope)
    if scope["path"].startswith(OPENAI_ADDRESSES):
        return openai_refusal(details, headers=headers)
    body = msgspec.json.encode(details)
    return Response(body, status_code=error.status, headers=headers, media_type="application/problem+json")


def openai_refusal(details: Mapping[str, Any], *, headers: Mapping[str, str] = DATA_HEADERS) -> Response:
    """A problem's details as OpenAI's error."""
    return Json(error_object(details), status_code=openai_status(details["status"]), headers=headers)


def _refusal_headers(error: RefdeskError, scope: Scope) -> dict[str, str]:
    headers = {**DATA_HEADERS, **scope.get(_ALSO, {})}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = _challenge(scope)
    if error.status == 408:  # the rest of the request is not waited for
        headers["Connection"] = "close"
    return headers


def _challenge(scope: Scope) -> str:
    """Agents are told where they learn who lets them in (RFC 9728, 5.1)."""
    if scope["path"] != MCP_ADDRESS:
        return 'Bearer realm="refdesk"'
    return f'Bearer realm="refdesk", resource_metadata="{public_base(scope)}{RESOURCE_METADATA}{MCP_ADDRESS}"'
