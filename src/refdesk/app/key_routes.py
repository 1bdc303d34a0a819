"""API keys over HTTP, for administrators."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.keys import ApiKeys, Holder, KeyView
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.texts import Text
from refdesk.web.auditing import record_about
from refdesk.web.bodies import JSON_BYTES_MAX, decode_json, read_body, read_json
from refdesk.web.endpoints import Endpoint, Handler, Parameter
from refdesk.web.replies import Json

KEY_NAME = Parameter(name="name", where="path", meaning="The key")
PRINCIPAL_CHARACTERS_MAX = 500

Moment = Annotated[datetime, Meta(tz=True)]
PrincipalId = Annotated[Text, Meta(min_length=1, max_length=PRINCIPAL_CHARACTERS_MAX)]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``principal``: the id of whose it is, where that is somebody who is there; else it is a principal of its own."""

    name: Text
    groups: tuple[Text, ...] = ()
    role: Role = "writer"
    holder: Holder = "person"
    expires_at: Moment | None = None
    principal: PrincipalId | None = None


class ChangedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a key; what is left out stays. With ``expires_at`` null it does not expire."""

    groups: tuple[Text, ...] | None = None
    role: Role | None = None
    expires_at: Moment | UnsetType | None = UNSET


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the key that is made expires; left out, it lives as long as the one before was to."""

    expires_at: Moment | None = None


class KeyList(msgspec.Struct, frozen=True):
    keys: list[KeyView]


def key_endpoints(keys: ApiKeys) -> list[Endpoint]:
    routes = _Routes(keys)
    one, replaced = "/api/keys/{name}", "Change a key's groups, role or end"
    return [
        _endpoint(
            "POST", "/api/keys", routes.create, "Create an API key; it is shown once", NewKey, KeyView, status=201
        ),
        _endpoint("GET", "/api/keys", routes.show, "List keys", None, KeyList),
        _endpoint("PATCH", one, routes.change, replaced, ChangedKey, KeyView),
        _endpoint("PUT", one, routes.change, f"{replaced}, as PATCH does", ChangedKey, KeyView),
        _endpoint(
            "POST",
            one + "/rotate",
            routes.rotate,
            "Give its holder another key, shown once",
            Rotation,
            KeyView,
            status=201,
        ),
        _endpoint("DELETE", one, routes.revoke, "Revoke a key", status=204),
    ]


class _Routes:
    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def create(self, request: Request, principal: Principal) -> ASGIApp:
        asked = await read_json(request, NewKey)
        await record_about(request, asked.name)
        return Json(await self._keys.create(**msgspec.structs.asdict(asked)), status_code=201)

    async def show(self, request: Request, principal: Principal) -> ASGIApp:
        return Json(KeyList(await self._keys.listing()))

    async def change(self, request: Request, principal: Principal) -> ASGIApp:
        asked = await read_json(request, ChangedKey)
        return Json(await self._keys.change(KEY_NAME.of(request), **msgspec.structs.asdict(asked)))

    async def rotate(self, request: Request, principal: Principal) -> ASGIApp:
        body = await read_body(request, bytes_max=JSON_BYTES_MAX)  # calls of the releases before send none
        asked = decode_json(body, Rotation) if body else Rotation()
        return Json(await self._keys.rotate(KEY_NAME.of(request), expires_at=asked.expires_at), status_code=201)

    async def revoke(self, request: Request, principal: Principal) -> ASGIApp:
        await self._keys.revoke(KEY_NAME.of(request))
        return Response(status_code=204)


def _endpoint(
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"],
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
        records_itself=path == "/api/keys" and method == "POST",
    )
