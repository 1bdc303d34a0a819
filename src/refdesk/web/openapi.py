"""``/openapi.json`` from the endpoints themselves."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from refdesk import __version__
from refdesk.access.policy import audience_of
from refdesk.web.addresses import MCP_ADDRESS, OPENAI_ADDRESSES
from refdesk.web.endpoints import Endpoint, Parameter

_CONVERTER = re.compile(r":\w+(?=})")
"""Starlette's converter in ``{name:path}``, which is no part of a templated address."""

WITHOUT_CONTENT = (204, 304)

_PROBLEM: dict[str, Any] = {
    "description": "Problem details (RFC 9457); `type` is a stable slug",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "retry_after": {"type": "integer"},
                },
                "required": ["type", "title", "status", "detail"],
            }
        }
    },
}

_OPENAI_ERROR = {
    "description": "OpenAI's error object",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                        "required": ["message", "type", "param", "code"],
                    }
                },
                "required": ["error"],
            }
        }
    },
}
_OF_MCP = {
    "description": "Problem details for who is not let in; for others an error of JSON-RPC",
    "content": {**_PROBLEM["content"], "application/json": {"schema": {"type": "object"}}},
}


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """An OpenAPI 3.1 description of every endpoint."""
    listed = [endpoint for endpoint in endpoints if not is_page(endpoint.path)]
    kinds = [kind for endpoint in listed for kind in _kinds(endpoint)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        shown = {id(kind): next(schema_of) for kind in _kinds(endpoint)}
        paths.setdefault(templated(endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint, shown)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Refdesk", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key"}},
        },
    }


def _kinds(endpoint: Endpoint) -> list[Any]:
    """All types that an endpoint speaks of, those of its parameters among them."""
    bodies = (endpoint.request, endpoint.form, endpoint.response)
    return [*(kind for kind in bodies if kind is not None), *(given.kind for given in _parameters(endpoint))]


def _parameters(endpoint: Endpoint) -> list[Parameter]:
    """Those it says, and those that only its address names."""
    said = {parameter.name for parameter in endpoint.parameters}
    names = (name for name in re.findall(r"{(\w+)", endpoint.path) if name not in said)
    return [*(Parameter(name=name, where="path", meaning="") for name in names), *endpoint.parameters]


def templated(path: str) -> str:
    """The address as OpenAPI writes it."""
    return _CONVERTER.sub("", path)


def is_page(path: str) -> bool:
    """Whether the address is a file of the web page rather than part of the API."""
    return path == "/" or path.startswith("/web/")


def _operation(endpoint: Endpoint, schemas: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": [_parameter(parameter, schemas[id(parameter.kind)]) for parameter in _parameters(endpoint)],
        "responses": {
            **{str(status): _reply(endpoint, status, schemas) for status in (endpoint.status, *endpoint.also)},
            "default": _refusal(endpoint.path),
        },
        "security": [] if audience_of(endpoint.action) == "public" else [{"key": []}],
    }
    bodies = {"application/json": endpoint.request, "multipart/form-data": endpoint.form}
    taken = {media_type: {"schema": schemas[id(kind)]} for media_type, kind in bodies.items() if kind is not None}
    if taken:
        operation["requestBody"] = {"required": True, "content": taken}
    return operation


def _refusal(path: str) -> dict[str, Any]:
    if path.startswith(OPENAI_ADDRESSES):
        return _OPENAI_ERROR
    return _OF_MCP if path == MCP_ADDRESS else _PROBLEM


def _parameter(parameter: Parameter, schema: Any) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "schema": schema,
    }
    return described | ({"description": parameter.meaning} if parameter.meaning else {})


def _reply(endpoint: Endpoint, status: int, schemas: dict[int, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = {"description": endpoint.summary}
    content: dict[str, Any] = {media_type: {} for media_type in endpoint.media_types}
    if endpoint.response is not None:
        content["application/json"] = {"schema": schemas[id(endpoint.response)]}
    if content and status not in WITHOUT_CONTENT:
        reply["content"] = content
    return reply
