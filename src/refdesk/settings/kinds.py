"""Kinds of values that settings have, and what their groups share."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]


def prefixed(prefix: str) -> Callable[[str], str]:
    """How a field's name becomes the setting's, in a group whose settings all begin alike."""
    return lambda field: prefix + field
