"""What every service serves beside its own endpoints: metrics, keys, the description of the API, the web page."""

import asyncio
import hashlib
import logging
import mimetypes
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.keys import ApiKeys, KeyView
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.texts import Text
from refdesk.web import openapi
from refdesk.web.http import DATA_HEADERS, Endpoint, Handler, Json, Parameter, read_json

logger = logging.getLogger(__name__)

MEASURE_TIMEOUT_S = 2.0
KEY_NAME = Parameter(name="name", where="path", meaning="The key")

Measure = Callable[[], Awaitable[None]]

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Examples(msgspec.Struct, frozen=True):
    questions: list[str]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Text
    groups: tuple[Text, ...] = ()
    role: Role = "writer"


class ChangedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a key; what is left out stays."""

    groups: tuple[Text, ...] | None = None
    role: Role | None = None


class KeyList(msgspec.Struct, frozen=True):
    keys: list[KeyView]


def metrics_endpoint(measures: Sequence[Measure] = (), *, open_to: Callable[[HTTPConnection], bool]) -> Endpoint:
    """``measures`` look up what is not counted in this process; each sets its own gauges, to NaN when it cannot."""

    async def metrics(request: Request, principal: Principal) -> ASGIApp:
        await asyncio.gather(*(_measured(measure) for measure in measures))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST, headers=DATA_HEADERS)

    return Endpoint(
        method="GET",
        path="/metrics",
        policy="administrator",
        open_to=open_to,
        handler=metrics,
        summary="Prometheus metrics",
        media_types=("text/plain",),
    )


async def _measured(measure: Measure) -> None:
    """What cannot be looked up leaves the other metrics alone."""
    try:
        async with asyncio.timeout(MEASURE_TIMEOUT_S):
            await measure()
    except Exception as error:  # noqa: BLE001 (the request's border: metrics must come when something is broken)
        logger.warning("cannot measure for /metrics: %r", error)


def openapi_endpoint(endpoints: Iterable[Endpoint], *, open_to: Callable[[HTTPConnection], bool]) -> Endpoint:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(description)

    own = Endpoint(
        method="GET",
        path="/openapi.json",
        policy="principal",
        open_to=open_to,
        handler=show,
        summary="This description",
        response=dict[str, Any],
    )
    description = openapi.describe([*endpoints, own])
    return own


def key_endpoints(keys: ApiKeys) -> list[Endpoint]:
    async def create(request: Request, principal: Principal) -> ASGIApp:
        asked = await read_json(request, NewKey)
        return Json(await keys.create(asked.name, asked.groups, role=asked.role), status_code=201)

    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(KeyList(await keys.listing()))

    async def change(request: Request, principal: Principal) -> ASGIApp:
        asked = await read_json(request, ChangedKey)
        return Json(await keys.change(KEY_NAME.of(request), groups=asked.groups, role=asked.role))

    async def rotate(request: Request, principal: Principal) -> ASGIApp:
        return Json(await keys.rotate(KEY_NAME.of(request)), status_code=201)

    async def revoke(request: Request, principal: Principal) -> ASGIApp:
        await keys.revoke(KEY_NAME.of(request))
        return Response(status_code=204)

    one = "/api/keys/{name}"
    return [
        _key_endpoint("POST", "/api/keys", create, "Create an API key; it is shown once", NewKey, KeyView, status=201),
        _key_endpoint("GET", "/api/keys", show, "List keys", None, KeyList),
        _key_endpoint("PUT", one, change, "Change a key's groups or role", ChangedKey, KeyView),
        _key_endpoint(
            "POST", one + "/rotate", rotate, "Give its holder another key, shown once", None, KeyView, status=201
        ),
        _key_endpoint("DELETE", one, revoke, "Revoke a key", status=204),
    ]


def _key_endpoint(
    method: Literal["GET", "POST", "PUT", "DELETE"],
    path: str,
    handler: Handler,
    summary: str,
    request: Any = None,
    response: Any = None,
    *,
    status: int = 200,
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        policy="administrator",
        handler=handler,
        summary=summary,
        parameters=(KEY_NAME,) if "{name}" in path else (),
        request=request,
        response=response,
        status=status,
    )


def page_endpoints(examples: Callable[[], list[str]]) -> list[Endpoint]:
    """The web page, read once from the package; ``examples`` are the questions that it suggests."""
    folder = resources.files("refdesk.app") / "web"
    files = [file for file in folder.iterdir() if file.is_file()]
    pages = [_file_endpoint("/" if file.name == "index.html" else f"/web/{file.name}", file) for file in files]
    return [*pages, _examples_endpoint(examples)]


def _file_endpoint(path: str, file: Traversable) -> Endpoint:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"

    async def serve(request: Request, principal: Principal) -> ASGIApp:
        headers = {**_PAGE_HEADERS, "ETag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=media_type, headers=headers)

    return Endpoint(method="GET", path=path, policy="public", handler=serve, summary="The web page")


def _examples_endpoint(examples: Callable[[], list[str]]) -> Endpoint:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(Examples(examples()))

    return Endpoint(
        method="GET",
        path="/api/examples",
        policy="principal",
        handler=show,
        summary="Questions to begin with",
        response=Examples,
    )
