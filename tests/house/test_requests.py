"""What is said of requests once is said of all of them."""

from typing import Any

from refdesk.contracts.texts import WITHOUT_NUL
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint, SocketEndpoint

TIMES = ("date", "date-time")
MAY_HOLD_NUL = {
    "TextDocument.text",
    *("ChatMessage.content", "EmbeddingRequest.input", "InputItem.content", "ResponseRequest.input"),
}
"""A document's content is kept as a file. The others may also be lists: `doors.openai.requests.without_nul` refuses it."""


async def test_no_text_that_comes_in_can_hold_nul(endpoints: list[Endpoint | SocketEndpoint]) -> None:
    """PostgreSQL cannot. So fields of bodies, and parameters, are `contracts.texts.Text`; forms are checked as they are read."""
    described = openapi.describe(endpoint for endpoint in endpoints if isinstance(endpoint, Endpoint))
    schemas = described["components"]["schemas"]
    found = set()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                found |= _open(parameter["schema"], f"{path} {parameter['name']}", schemas)
            if body := operation.get("requestBody", {}).get("content", {}).get("application/json"):
                found |= _open(body["schema"], path, schemas)
    assert found == MAY_HOLD_NUL


def _open(schema: dict[str, Any], where: str, schemas: dict[str, Any]) -> set[str]:
    """Where in a schema there is text that may be anything."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        fields = schemas[name].get("properties", {}).items()
        return {place for field, kind in fields for place in _open(kind, f"{name}.{field}", schemas)}
    if schema.get("type") == "string" and schema.get("pattern") != WITHOUT_NUL and schema.get("format") not in TIMES:
        return {where}
    inside = [*schema.get("anyOf", []), schema.get("items")]
    return {place for kind in inside if isinstance(kind, dict) for place in _open(kind, where, schemas)}
