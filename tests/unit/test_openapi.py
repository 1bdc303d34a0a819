"""The description of the API is made from the endpoints and stays within OpenAPI."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk import __version__
from refdesk.access.keys import ApiKeys
from refdesk.app.health import Health, health_endpoints
from refdesk.app.http import metrics_endpoint, openapi_endpoint, page_endpoints
from refdesk.app.key_routes import key_endpoints
from refdesk.contracts.access import Principal
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint, Parameter, whole


class Asked(msgspec.Struct):
    name: Annotated[str, Meta(max_length=3)]


class Given(msgspec.Struct):
    asked: Asked


async def nothing(request: Request, principal: Principal) -> ASGIApp:
    return Response()


def anybody(_: HTTPConnection) -> bool:
    return True


def endpoint(**fields: Any) -> Endpoint:
    return Endpoint(
        **{
            "method": "GET",
            "path": "/api/x",
            "action": "description.read",
            "handler": nothing,
            "summary": "X",
            **fields,
        }
    )


def test_bodies_are_references_to_named_schemas() -> None:
    """With the constraints that are checked."""
    described = openapi.describe([endpoint(method="POST", request=Asked, response=Given, status=201)])
    operation = described["paths"]["/api/x"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Asked"}
    assert operation["responses"]["201"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Given"
    }
    assert described["components"]["schemas"]["Asked"]["properties"]["name"] == {"type": "string", "maxLength": 3}


def test_every_reference_leads_to_a_component() -> None:
    """Of the endpoints that every door has, too."""
    described = openapi.describe([endpoint(request=Asked, response=Given), *key_endpoints(ApiKeys.__new__(ApiKeys))])
    references = re.findall(rb'"\$ref":"#/components/schemas/([^"]+)"', msgspec.json.encode(described))
    assert references
    assert {reference.decode() for reference in references} <= set(described["components"]["schemas"])


def test_an_address_shows_its_parameters_without_starlettes_converters() -> None:
    """`{name:path}` would be no valid template."""
    described = openapi.describe([endpoint(path="/api/x/{id}/y/{name:path}")])
    operation = described["paths"]["/api/x/{id}/y/{name}"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["id", "name"]
    assert all(parameter["required"] and parameter["in"] == "path" for parameter in operation["parameters"])


def test_parameters_are_described_as_they_are_checked() -> None:
    """The type that is shown is the one that decides."""
    limit = Parameter(name="limit", kind=whole(1, 5), default=3, meaning="How many")
    etag = Parameter(name="If-Match", where="header", meaning="What was read")
    described = openapi.describe([endpoint(path="/api/x/{id}", parameters=(limit, etag))])
    shown = described["paths"]["/api/x/{id}"]["get"]["parameters"]
    assert [(given["name"], given["in"], given["required"]) for given in shown] == [
        ("id", "path", True),
        ("limit", "query", False),
        ("If-Match", "header", False),
    ]
    assert shown[1]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert shown[1]["description"] == "How many"


def test_an_endpoint_says_all_it_takes_and_gives() -> None:
    """Forms beside JSON, streams beside JSON, and statuses beside the usual one."""
    bodies = {"request": Asked, "form": Given, "response": Given, "media_types": ("text/event-stream",)}
    described = openapi.describe([endpoint(method="POST", **bodies, also=(201, 304))])
    operation = described["paths"]["/api/x"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert set(operation["responses"]) == {"200", "201", "304", "default"}
    assert set(operation["responses"]["201"]["content"]) == {"application/json", "text/event-stream"}
    assert "content" not in operation["responses"]["304"]


def test_methods_of_one_address_stand_together() -> None:
    """One path item each."""
    described = openapi.describe([endpoint(), endpoint(method="DELETE", status=204)])
    assert set(described["paths"]["/api/x"]) == {"get", "delete"}


def test_only_public_addresses_need_no_key() -> None:
    """Security is told per operation."""
    described = openapi.describe([endpoint(), endpoint(path="/health/x", action="health.read")])
    assert described["paths"]["/api/x"]["get"]["security"] == [{"key": []}]
    assert described["paths"]["/health/x"]["get"]["security"] == []
    assert described["components"]["securitySchemes"]["key"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key",
    }


def test_every_operation_may_end_in_a_problem() -> None:
    """RFC 9457, whatever the status."""
    described = openapi.describe([endpoint()])
    assert "application/problem+json" in described["paths"]["/api/x"]["get"]["responses"]["default"]["content"]


def test_the_web_page_is_no_part_of_the_api() -> None:
    """Its files come and go; what it calls is described."""
    assert list(openapi.describe(page_endpoints(list))["paths"]) == ["/api/examples"]


async def test_the_description_is_served_as_it_was_made() -> None:
    """It names the version that runs."""
    listed = [*health_endpoints(Health([])), metrics_endpoint(open_to=anybody)]
    served = openapi_endpoint(listed, open_to=anybody)
    response: Any = await served.handler(Request({"type": "http", "headers": []}), Principal(id="anonymous"))
    described = msgspec.json.decode(response.body)
    assert described == msgspec.to_builtins(openapi.describe([*listed, served]))
    assert described["openapi"] == "3.1.0"
    assert described["info"] == {"title": "Refdesk", "version": __version__}
    assert set(described["paths"]) == {"/health/live", "/health/ready", "/metrics", "/openapi.json"}
