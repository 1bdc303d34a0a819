"""What OpenAI's clients send, read once for all of ``/v1``: bodies, the model's name, and refusals that name the parameter."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.web.bodies import JSON_BYTES_MAX, read_json

MODEL = "refdesk"
"""The one model there is: the desk."""
MODEL_SHOWN_MAX = 80

T = TypeVar("T")

_AT = re.compile(r"at `\$\.?([^`]{1,200})`")
_FIELD = re.compile(r"field `([^`]{1,200})`")


async def read_body_as(request: Request, kind: type[T], *, bytes_max: int = JSON_BYTES_MAX) -> T:
    """The JSON body; raises MalformedJson and InvalidRequest, with the parameter's name as ``field``."""
    try:
        return await read_json(request, kind, bytes_max=bytes_max)
    except InvalidRequest as error:
        at, field = _AT.search(error.message), _FIELD.search(error.message)
        names = [found[1] for found in (at, field) if found]
        if names:
            error.details["field"] = ".".join(names)
        raise


def without_nul(text: str, field: str) -> str:
    """`contracts.texts.Text` for a field that may also be a list: msgspec 0.22 crashes on a pattern in such a union."""
    if "\0" in text:
        raise InvalidRequest("A text holds NUL characters. Send it without them.", field=field)
    return text


def check_model(name: str) -> None:
    """Raises NotFound as OpenAI does for a model that is not there."""
    if name != MODEL:
        raise NotFound(
            f"The model {name[:MODEL_SHOWN_MAX]!r} does not exist. This desk has one: {MODEL!r}.",
            field="model",
            code="model_not_found",
        )


def refused(field: str, why: str) -> InvalidRequest:
    """For a parameter that asks for what this desk does not do."""
    return InvalidRequest(why, field=field, code="unsupported_parameter")


def refuse_given(asked: msgspec.Struct, refusals: Iterable[tuple[str, tuple[Any, ...], str]]) -> None:
    """Raises InvalidRequest for the first parameter that has a value beside None and those named harmless."""
    for field, harmless, why in refusals:
        value = getattr(asked, field)
        if value is not None and value not in harmless:
            raise refused(field, why)
