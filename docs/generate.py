"""Writes the halves of docs/reference that the code knows best: everything below the mark. `python docs/generate.py`."""

import ast
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec
from prometheus_client.metrics import MetricWrapperBase

import refdesk
from refdesk.app.cli import cli
from refdesk.contracts.errors import RefdeskError
from refdesk.outside import telemetry
from refdesk.settings import tree

MARK = "<!-- Everything below is written by `python docs/generate.py` from the code. -->\n"
REFERENCE = Path(__file__).parent / "reference"
SUFFIXES = {"counter": "_total", "info": "_info"}
WIDTH: dict[str, Any] = {"terminal_width": 100, "max_content_width": 100}


def main() -> None:
    for name in PAGES:
        (REFERENCE / name).write_text(page(name), encoding="utf-8")


def page(name: str) -> str:
    """The whole page: what people wrote above the mark, and what the code says now below it."""
    written, _, _ = (REFERENCE / name).read_text(encoding="utf-8").partition(MARK)
    return f"{written.rstrip()}\n\n{MARK}{PAGES[name]()}"


def basic_settings_page() -> str:
    return _settings_tables(lambda name: name in tree.BASIC)


def advanced_settings_page() -> str:
    return _settings_tables(lambda name: name not in tree.BASIC)


def _settings_tables(is_wanted: Callable[[str], bool]) -> str:
    sections = []
    for group in msgspec.structs.fields(tree.Settings):
        topic, _, more = (inspect.getdoc(group.type) or "").partition("\n\n")
        rows = [
            (f"`{tree.PREFIX}{name.upper()}`", _default(name), meaning)
            for name, meaning in _settings_of(group.type)
            if is_wanted(name)
        ]
        if rows:
            said = f"{' '.join(more.split())}\n\n" if more else ""
            table = _table(("setting", "default", "meaning"), rows)
            sections.append(f"\n## {topic.removesuffix('.')}\n\n{said}{table}")
    return "".join(sections)


def _settings() -> Iterator[tuple[str, str]]:
    """Flat name and docstring of each setting, as they stand in the sources."""
    for group in msgspec.structs.fields(tree.Settings):
        yield from _settings_of(group.type)


def _settings_of(group: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    names = dict(zip(group.__struct_fields__, group.__struct_encode_fields__, strict=True))
    source = inspect.getsource(group)
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for field, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield names[field.target.id], _docstring(following)


def _docstring(node: ast.stmt | None) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""


def _default(name: str) -> str:
    value = tree.Settings().value(name)
    return "" if value is None else f"`{value}`"


def errors_page() -> str:
    by_code: dict[str, type[RefdeskError]] = {}
    for kind in _errors(RefdeskError):
        if kind.__module__.startswith("refdesk."):
            by_code.setdefault(kind.code, kind)
    rows = [
        (f"`{code}`", str(kind.status), "yes" if kind.retryable else "no", " ".join((kind.__doc__ or "").split()))
        for code, kind in sorted(by_code.items())
    ]
    return "\n" + _table(("type", "status", "try again", "meaning"), rows)


def _errors(kind: type[RefdeskError]) -> Iterator[type[RefdeskError]]:
    """The tree, parents first; every module is imported so that none is missed."""
    for module in pkgutil.walk_packages(refdesk.__path__, "refdesk."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)


def cli_page() -> str:
    return "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in _help(cli, "refdesk", None))


def _help(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name, parent=parent, **WIDTH, **command.context_settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _help(found, below, context)


def metrics_page() -> str:
    metrics = [metric for metric in vars(telemetry).values() if isinstance(metric, MetricWrapperBase)]
    return "\n" + _table(("metric", "kind", "labels", "meaning"), sorted(_metric(metric) for metric in metrics))


def _metric(metric: Any) -> tuple[str, str, str, str]:
    (family,) = metric.describe()
    name = family.name + SUFFIXES.get(family.type, "")
    return f"`{name}`", family.type, ", ".join(f"`{label}`" for label in metric._labelnames), family.documentation


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": basic_settings_page,
    "settings-advanced.md": advanced_settings_page,
    "errors.md": errors_page,
    "cli.md": cli_page,
    "metrics.md": metrics_page,
}

if __name__ == "__main__":
    main()
