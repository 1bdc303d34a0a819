"""Shapes that our structs must not have."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import pytest

import refdesk
from refdesk.contracts.texts import Text

COLLECTIONS = {list, tuple, set, frozenset}


def structs(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("refdesk."):
            yield below
        yield from structs(below)


def parts(kind: Any) -> Iterator[Any]:
    """The kinds of a union, without names and annotations of their own."""
    if get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from parts(one)
    else:
        yield kind


def crashes(kind: Any) -> bool:
    """Whether msgspec 0.22 may crash on it: a text with a pattern, and a list, in one union."""
    kinds = list(parts(kind))
    patterned = [one for one in kinds if get_origin(one) is Annotated and get_args(one)[0] is str]
    has_pattern = any(
        isinstance(meta, msgspec.Meta) and meta.pattern for one in patterned for meta in get_args(one)[1:]
    )
    bare = (get_args(one)[0] if get_origin(one) is Annotated else one for one in kinds)
    return has_pattern and any((get_origin(one) or one) in COLLECTIONS for one in bare)


@pytest.mark.parametrize(
    ("kind", "is_found"),
    [(Text | list[int], True), (list[str] | Text | None, True), (Text | None, False), (str | list[str], False)],
)
def test_the_shape_is_recognised(kind: Any, is_found: bool) -> None:
    """Whichever stands first."""
    assert crashes(kind) == is_found


def test_no_field_is_a_patterned_text_or_a_list() -> None:
    """In the garbage collector, long after the decoder was made: say the pattern where the text is used."""
    for module in pkgutil.walk_packages(refdesk.__path__, "refdesk."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    fields = [(one, field) for one in structs(msgspec.Struct) for field in msgspec.structs.fields(one)]
    assert len(fields) > 500
    assert [f"{one.__name__}.{field.name}" for one, field in fields if crashes(field.type)] == []
