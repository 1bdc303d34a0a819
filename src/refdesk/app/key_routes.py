"""API keys over HTTP, for administrators."""

from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.keys import ApiKeys, KeyView
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.texts import Text
from refdesk.web.http import Endpoint, Handler, Json, Parameter, read_json

KEY_NAME = Parameter(name="name", where="path", meaning="The key")


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
        action="keys.manage",
        handler=handler,
        summary=summary,
        parameters=(KEY_NAME,) if "{name}" in path else (),
        request=request,
        response=response,
        status=status,
    )
