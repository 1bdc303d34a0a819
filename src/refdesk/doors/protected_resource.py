"""Where agents learn who lets them in: OAuth 2.0 protected resource metadata (RFC 9728)."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.web.addresses import MCP_ADDRESS, RESOURCE_METADATA, public_base
from refdesk.web.endpoints import Endpoint, Handler
from refdesk.web.replies import Json


class ResourceMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Without ``authorization_servers`` nobody signs in: a key of the desk's own is sent instead."""

    resource: str
    resource_name: str = "Refdesk"
    bearer_methods_supported: tuple[str, ...] = ("header",)
    authorization_servers: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    scopes_supported: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Issuer(msgspec.Struct, frozen=True):
    """The provider that people sign in with, and the scopes that tell who they are."""

    url: str
    scopes: tuple[str, ...] = ()


def metadata_endpoints(issuer: Issuer | None) -> list[Endpoint]:
    """Of the desk as a whole, and of ``/mcp``. ``issuer``: None where nobody can sign in."""
    return [
        Endpoint(
            method="GET",
            path=f"{RESOURCE_METADATA}{address}",
            action="signin.describe",
            handler=_handler(address, issuer),
            summary="Who lets callers in (RFC 9728)",
            response=ResourceMetadata,
        )
        for address in ("", MCP_ADDRESS)
    ]


def _handler(address: str, issuer: Issuer | None) -> Handler:
    return partial(_show, address=address, issuer=issuer)


async def _show(request: Request, principal: Principal, *, address: str, issuer: Issuer | None) -> ASGIApp:
    return Json(
        ResourceMetadata(
            resource=f"{public_base(request.scope)}{address}",
            authorization_servers=(issuer.url,) if issuer else msgspec.UNSET,
            scopes_supported=(issuer.scopes or msgspec.UNSET) if issuer else msgspec.UNSET,
        )
    )
