"""No pattern of ours backtracks: each is found, and run on texts made to be hard for it.

A new pattern is found by itself when it is a module's constant or is written where it is used. One that is put together
elsewhere has to be named in ``MADE``.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.house.trees import tree_of
from tests.support import growth

from refdesk.answering.quoting import wanted
from refdesk.contracts import hidden_characters
from refdesk.index import identifiers

ROOT = Path(__file__).parents[2]
FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
METHODS = FUNCTIONS - {"compile"}
MADE: dict[str, Callable[[], re.Pattern[str]]] = {
    "refdesk.contracts.hidden_characters:_long_runs": hidden_characters._long_runs,
    "refdesk.index.identifiers:_joined": lambda: identifiers._joined("CX41b"),
    "refdesk.answering.quoting.wanted:_inflected": lambda: wanted._inflected("Ferry Heron"),
}
"""Patterns that are compiled inside a function, by its name."""


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def used(sources: list[Path]) -> dict[str, set[str]]:
    """By a pattern's name: the methods that are called on it, anywhere; of a private one, in its own module."""
    calls: dict[str, set[str]] = {}
    for file in sources:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
                place = f"{module_of(file)}:" if name.startswith("_") else ""
                calls.setdefault(place + name, set()).add(node.attr)
    return calls


def written(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """(enclosing function, function of `re`, call) for every use of the module `re`."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, str, ast.Call]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.name
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in FUNCTIONS
        ):
            yield inside, node.func.attr, node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return walk(tree, "")


def patterns(sources: list[Path]) -> dict[str, tuple[re.Pattern[Any], set[str]]]:
    """Every pattern by where it is, with how it is used."""
    calls, found = used(sources), {}
    for file in sources:
        name, text = module_of(file), file.read_text(encoding="utf-8")
        if "re." in text:
            module = importlib.import_module(name)
            for constant, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    methods = calls.get(f"{name}:{constant}") or calls.get(constant) or {"search", "fullmatch"}
                    found[f"{name}:{constant}"] = value, methods
        for inside, function, call in written(tree_of(file)):
            if function != "compile" and isinstance(call.args[0], ast.Constant):
                found[f"{name}:{inside}:{call.lineno}"] = re.compile(call.args[0].value), {function}
        for pattern in re.findall(r"Meta\(pattern=r?\"([^\"]+)\"", text):
            found[f"{name}:Meta {pattern}"] = re.compile(pattern), {"search"}
    return found | {name: (make(), {"sub"}) for name, make in MADE.items()}


def test_every_pattern_is_found(sources: list[Path]) -> None:
    """A pattern that is put together where nobody looks would not be tried."""
    missed = []
    for file in sources:
        tree = tree_of(file)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "re"]
        missed += [f"{file.name}:{node.lineno} write `import re`" for node in imports]
        for inside, function, call in written(tree):
            is_plain = function != "compile" and isinstance(call.args[0], ast.Constant)
            if inside and not is_plain and f"{module_of(file)}:{inside}" not in MADE:
                missed.append(f"{file.name}:{call.lineno} make it a constant, or name it in MADE")
    assert missed == []
    assert len(patterns(sources)) > 40


def works(pattern: re.Pattern[Any], methods: set[str]) -> Iterator[Callable[[str], Any]]:
    def given(text: str) -> Any:
        return text if isinstance(pattern.pattern, str) else text.encode("utf-8", "replace")

    for method in sorted(methods):
        if method in ("sub", "subn"):
            yield lambda text: pattern.sub(lambda _: given(""), given(text))
        elif method == "finditer":
            yield lambda text: sum(1 for _ in pattern.finditer(given(text)))
        else:
            yield lambda text, method=method: getattr(pattern, method)(given(text))  # type: ignore[misc]


def try_all(sources: list[Path], *, size_max: int) -> list[str]:
    frozen = []
    for name, (pattern, methods) in patterns(sources).items():
        for work in works(pattern, methods):
            try:
                for prefix, pump, tail in growth.attacks(pattern):
                    growth.check(work, growth.pumped(pump, prefix=prefix, tail=tail), size_max=size_max)
            except growth.Frozen as error:
                frozen.append(f"{name}: {error}")
    return frozen


@pytest.mark.timeout(300)
def test_no_pattern_backtracks(sources: list[Path]) -> None:
    """Twice the text, about twice the time."""
    assert try_all(sources, size_max=growth.SHORT) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_pattern_backtracks_in_a_mebibyte(sources: list[Path]) -> None:
    """The same up to the size that the promise names."""
    assert try_all(sources, size_max=growth.LONG) == []


FREEZING = r"\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html|head|body)\b"
QUADRATIC = r"\s+([.,;:!?])"


@pytest.mark.parametrize(("source", "method"), [(FREEZING, "match"), (QUADRATIC, "sub"), (r"(a+)+$", "search")])
def test_a_pattern_that_backtracks_is_seen(source: str, method: str) -> None:
    """The one that once froze the Document Service, one that is only quadratic, and the textbook's."""
    pattern = re.compile(source, re.IGNORECASE | re.DOTALL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(growth.Frozen):
        patch.setattr(growth, "CPU_S_MAX", 1.0)
        for prefix, pump, tail in growth.attacks(pattern):
            for work in works(pattern, {method}):
                growth.check(work, growth.pumped(pump, prefix=prefix, tail=tail), size_max=8 * growth.SHORT)
