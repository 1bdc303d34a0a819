"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``, under the statuses that OpenAI uses.

``code`` is OpenAI's own word where there is one, else the problem's type; ``message`` says what to do, as everywhere.
"""

from collections.abc import Mapping
from typing import Any

_CODES = {
    "unauthenticated": "invalid_api_key",
    "rate-limited": "rate_limit_exceeded",
    "question-too-long": "context_length_exceeded",
    "overloaded": "server_overloaded",
}
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
"""Other refusals are the request's fault below 500, and the server's above."""
_UNPROCESSABLE, _BAD_REQUEST = 422, 400


def openai_status(status: int) -> int:
    """OpenAI has no 422: what is wrong with a request is 400."""
    return _BAD_REQUEST if status == _UNPROCESSABLE else status


def error_object(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The problem's details as OpenAI's object."""
    status = openai_status(problem["status"])
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    code = problem.get("code") or _CODES.get(problem["type"], problem["type"])
    return {"error": {"message": problem["detail"], "type": kind, "param": problem.get("field"), "code": code}}
