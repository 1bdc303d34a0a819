"""Who may know whom, held by machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import pytest
from tests.house.trees import tree_of

from refdesk.access.policy import Action, audience_of
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint, SocketEndpoint

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
OWNERS_OF_ENGINES = ("refdesk/index/", "refdesk/app/", "refdesk/settings/")
READS_THE_ENVIRONMENT = {"refdesk/settings/loading.py"}
LOOKS_FOR_A_DESKTOP = {"refdesk/app/commands/browser.py"}
HANDS_THE_ENVIRONMENT_ON = {"refdesk/app/embedded/processes.py"}
"""Children get ours as it is; nothing is read out of it."""

AI_SIDE = (
    "refdesk.index",
    "refdesk.indexing",
    "refdesk.answering",
    "refdesk.outside.embedding.packaged",
    "refdesk.outside.embedding.server",
    "refdesk.outside.llm",
    "onnxruntime",
    "onnx",
    "tokenizers",
    "numpy",
    "kreuzberg",
)
ENGINES = re.compile("pgvector|halfvec|qdrant", re.IGNORECASE)
HEAVY = ("onnxruntime", "onnx", "tokenizers", "numpy", "kreuzberg")


def name_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def imports(file: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh interpreter that ran the code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_imports_run_downward_only() -> None:
    """The contracts in pyproject.toml hold."""
    lint = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout


def test_only_composition_and_settings_name_an_engine_of_the_index(sources: list[Path]) -> None:
    """Whoever searches or changes an index knows the port alone."""
    named = {name_of(file) for file in sources if ENGINES.search(file.read_text(encoding="utf-8"))}
    assert "refdesk/index/engines.py" in named
    assert {name for name in named if not name.startswith(OWNERS_OF_ENGINES)} == set()


def test_the_document_service_loads_nothing_of_the_ai_side() -> None:
    """`refdesk documents`, up to the point where it would serve, in a process of its own."""
    loaded = loaded_after(
        "from importlib import import_module\n"
        "from refdesk.app.cli import cli\n"
        "cli.get_command(None, 'documents')\n"
        "import_module('refdesk.app.services.documents')"
    )
    assert "refdesk.documents.service" in loaded
    assert loaded & set(AI_SIDE) == set()
    assert {
        name for name in loaded if name.startswith(("refdesk.index.", "refdesk.indexing.", "refdesk.answering."))
    } == set()


def test_agents_cost_nothing_until_they_come() -> None:
    """What serves answers has not loaded the SDK that speaks MCP: the first request to /mcp does."""
    loaded = loaded_after("import refdesk.app.services.desk")
    assert "refdesk.doors.mcp.routes" in loaded
    assert {name for name in loaded if name.split(".")[0] in ("mcp", "mcp_types", "sse_starlette", "openai")} == set()


def test_commands_that_embed_nothing_load_no_model_library() -> None:
    """The command line starts fast, and the supervisor stays small."""
    loaded = loaded_after(
        "from refdesk.app.cli import COMMANDS, cli\nfor name in COMMANDS: assert cli.get_command(None, name) is not None"
    )
    assert "refdesk.app.commands.up" in loaded
    assert loaded & set(HEAVY) == set()


def test_the_environment_is_read_in_one_file(sources: list[Path]) -> None:
    """os.environ and getenv appear where settings are loaded, children are given ours, and a desktop is looked for."""
    found = set()
    for file in sources:
        for node in ast.walk(tree_of(file)):
            names = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                names = {alias.name for alias in node.names}
            if names & {"environ", "environb", "getenv", "getenvb"}:
                found.add(name_of(file))
    assert found == READS_THE_ENVIRONMENT | HANDS_THE_ENVIRONMENT_ON | LOOKS_FOR_A_DESKTOP


@pytest.mark.parametrize("module", ["pickle", "marshal", "shelve", "dill", "starlette.middleware.base"])
def test_nobody_imports(module: str, sources: list[Path]) -> None:
    """Nothing is unpickled; nothing stands between a handler and its client's disconnect."""
    assert [name_of(file) for file in sources if module in imports(file)] == []


def test_metrics_are_made_in_one_module(sources: list[Path]) -> None:
    """Their names live in outside/telemetry.py; app/http.py only writes them out."""
    users = {name_of(file) for file in sources if "prometheus_client" in imports(file)}
    assert users == {"refdesk/outside/telemetry.py", "refdesk/app/http.py"}


def test_every_third_party_import_is_a_declared_dependency(sources: list[Path]) -> None:
    """What we import, we name in pyproject.toml, rather than hope that somebody else brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for group in project["optional-dependencies"].values() for requirement in group]
    declared = {name for requirement in [*project["dependencies"], *extras] for name in _distributions(requirement)}
    providers = packages_distributions()
    imported = {name.partition(".")[0] for file in sources for name in imports(file)}
    foreign = imported - set(sys.stdlib_module_names) - {"refdesk"}
    undeclared = {
        name
        for name in foreign
        if declared.isdisjoint(by.lower().replace("_", "-") for by in providers.get(name, [name]))
    }
    assert undeclared == set()


def _distributions(requirement: str) -> set[str]:
    """The names a requirement may install: its own, and one per extra (`psycopg[pool]` is psycopg-pool)."""
    match = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement)
    assert match is not None, requirement
    extras = match[2].split(",") if match[2] else []
    return {match[1].lower(), *(f"{match[1].lower()}-{extra}" for extra in extras)}


def test_every_address_says_who_may_call_it(endpoints: list[Endpoint | SocketEndpoint]) -> None:
    """Only health, the page's files and who lets callers in are public; metrics and the description are to this machine."""
    assert {endpoint.action for endpoint in endpoints} <= set(get_args(Action))
    public = {endpoint.path for endpoint in endpoints if audience_of(endpoint.action) == "public"}
    assert {path for path in public if not openapi.is_page(path)} == {
        *("/health/live", "/health/ready"),
        *("/auth/login", "/auth/callback", "/auth/logout", "/auth/backchannel-logout", "/api/sign-in"),
        *("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"),
    }
    opened = {endpoint.path for endpoint in endpoints if isinstance(endpoint, Endpoint) and endpoint.open_to}
    assert opened == {"/metrics", "/openapi.json"}


def test_every_address_is_served_once(endpoints: list[Endpoint | SocketEndpoint]) -> None:
    """Of two equal addresses the second would never be reached."""
    addresses = [(getattr(endpoint, "method", "WebSocket"), endpoint.path) for endpoint in endpoints]
    assert len(addresses) == len(set(addresses))


async def test_every_endpoint_is_in_the_description(endpoints: list[Endpoint | SocketEndpoint]) -> None:
    """/openapi.json, as a running desk makes it, has each method and address but its own and the page's files."""
    described = openapi.describe(endpoint for endpoint in endpoints if isinstance(endpoint, Endpoint))["paths"]
    api = [endpoint for endpoint in endpoints if isinstance(endpoint, Endpoint) and not openapi.is_page(endpoint.path)]
    missing = {
        f"{endpoint.method} {endpoint.path}"
        for endpoint in api
        if endpoint.method.lower() not in described.get(openapi.templated(endpoint.path), {})
    }
    assert missing == set()
