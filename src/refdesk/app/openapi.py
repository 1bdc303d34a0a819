"""``/openapi.json`` from the endpoints themselves."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from refdesk import __version__
from refdesk.outside.http import Endpoint

_CONVERTER = re.compile(r":\w+(?=})")
"""Starlette's converter in ``{name:path}``, which is no part of a templated address."""

_PROBLEM = {
    "description": "Problem details (RFC 9457); `type` is a stable slug",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """An OpenAPI 3.1 description of every endpoint."""
    listed = [endpoint for endpoint in endpoints if not is_page(endpoint.path)]
    kinds = [kind for endpoint in listed for kind in (endpoint.request, endpoint.response) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        request = next(schema_of) if endpoint.request is not None else None
        response = next(schema_of) if endpoint.response is not None else None
        paths.setdefault(templated(endpoint.path), {})[endpoint.method.lower()] = _operation(
            endpoint, request, response
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Refdesk", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key"}},
        },
    }


def templated(path: str) -> str:
    """The address as OpenAPI writes it."""
    return _CONVERTER.sub("", path)


def is_page(path: str) -> bool:
    """Whether the address is a file of the web page rather than part of the API."""
    return path == "/" or path.startswith("/web/")


def _operation(endpoint: Endpoint, request: Any, response: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary}
    if response is not None:
        answer["content"] = {"application/json": {"schema": response}}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)", endpoint.path)
        ],
        "responses": {str(endpoint.status): answer, "default": _PROBLEM},
        "security": [] if endpoint.policy == "public" else [{"key": []}],
    }
    if request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    return operation
