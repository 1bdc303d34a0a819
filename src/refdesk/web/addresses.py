"""Families of addresses that have a form of their own, and the address that all of them begin with, as callers see it."""

import re

from starlette.datastructures import Headers
from starlette.types import Scope

OPENAI_ADDRESSES = "/v1/"
MCP_ADDRESS = "/mcp"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
"""RFC 9728, 3; the address of what is protected follows."""

PUBLIC_URL = "refdesk.public_url"
"""Where a request's scope says the address that REFDESK_PUBLIC_URL gives."""

_HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)


def public_base(scope: Scope) -> str:
    """The address before all of ours: the one that is set, else the one that the caller came by."""
    if public_url := scope.get(PUBLIC_URL):
        return str(public_url).rstrip("/")
    host = Headers(scope=scope).get("host", "")
    if not _HOST.fullmatch(host):
        host = "localhost"
    return f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}"
