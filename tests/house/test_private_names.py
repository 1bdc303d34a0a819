"""What a module keeps to itself, nobody else uses: names that begin with an underscore."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.trees import tree_of

PACKAGE = Path(__file__).parents[2] / "src" / "refdesk"
NAMED_TUPLES = {"_asdict", "_replace", "_fields", "_make"}
"""Public, whatever they look like."""
OF_LIBRARIES = {
    "web/connections.py": {"_unset_keepalive_if_required", "_should_upgrade"},  # uvicorn's protocol, which ours extends
    "indexing/readers/outlook.py": {"_storage"},  # oxmsg's message, which ours extends
    "documents/uploads.py": {"_files_to_close_on_error"},  # Starlette's parser of forms, which ours extends
    "outside/nats/monitoring.py": {"_server_info"},  # nats-py has no other word of which server it is
}
"""By module: libraries have no other way. Each is found missing by a test of that module when the library changes."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def members(tree: ast.Module) -> set[str]:
    """Of this module's classes, and what it gives its objects."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(one.name)
                targets = (
                    one.targets
                    if isinstance(one, ast.Assign)
                    else [one.target]
                    if isinstance(one, ast.AnnAssign)
                    else []
                )
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def others(file: Path, *, inherited: set[str]) -> Iterator[str]:
    """Private names that the module uses and does not have; ``inherited``: what an object may have of itself."""
    tree = tree_of(file)
    own = members(tree) | NAMED_TUPLES
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from filter(is_private, parts)
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            is_of_itself = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not is_of_itself or node.attr not in inherited:
                yield node.attr


def test_a_module_uses_no_private_name_of_another(sources: list[Path]) -> None:
    """It would break with what its owner may change. What a class of ours inherits from another of ours is its own."""
    inherited = {name for file in sources for name in members(tree_of(file))}
    found = {file.relative_to(PACKAGE).as_posix(): set(others(file, inherited=inherited)) for file in sources}
    assert {name: names for name, names in found.items() if names} == OF_LIBRARIES
