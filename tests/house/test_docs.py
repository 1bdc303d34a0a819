"""What the code has is in the documentation. (The idea is datasette's.)"""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast, get_args

import msgspec
import pytest

from refdesk.access.policy import POLICY, audience_of, may
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.answers import AnswerEvent, Failed, Source, Sources, Timings, Usage
from refdesk.contracts.events import Event
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint, SocketEndpoint

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()


@pytest.mark.parametrize("name", generator.PAGES)
def test_a_generated_page_says_what_the_code_says(name: str) -> None:
    """Settings, errors, commands and metrics: run `python docs/generate.py` when this is red."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == generator.page(name)


def test_every_setting_is_explained() -> None:
    """The docstring below a setting is its documentation."""
    assert [name for name, meaning in generator._settings() if not meaning] == []


def events() -> Iterator[tuple[str, tuple[str, ...]]]:
    for kind in get_args(AnswerEvent):
        yield kind.name, () if kind in (Failed, Sources) else kind.__struct_fields__
    for kind in get_args(Event):
        yield kind.type, kind.__struct_fields__
    for kind in (Source, Timings, Usage):
        yield kind.__name__, kind.__struct_fields__
    yield "document", ()
    yield "deleted", ()


@pytest.mark.parametrize(("name", "fields"), list(events()))
def test_an_event_and_its_fields_are_documented(name: str, fields: tuple[str, ...]) -> None:
    """Names stand between backticks in events.md."""
    page = (REFERENCE / "events.md").read_text(encoding="utf-8")
    wanted = set(fields) if name[0].isupper() else {name, *fields}
    assert {word for word in wanted if f"`{word}`" not in page} == set()


def test_every_address_is_documented_and_no_other(endpoints: list[Endpoint | SocketEndpoint]) -> None:
    """http.md lists method, address and audience of what a desk serves."""
    page = (REFERENCE / "http.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\S+ \S+)` \| (\w+) \|", page, re.MULTILINE))
    served = {
        (f"{_method(endpoint)} {openapi.templated(endpoint.path)}", audience_of(endpoint.action))
        for endpoint in endpoints
        if not endpoint.path.startswith("/web/")
    }
    assert documented == served


def test_the_table_of_roles_is_the_policy() -> None:
    """keys-and-access.md says of each role what it may; every action is in a row, or said to be for everybody."""
    page = (DOCS / "howto" / "keys-and-access.md").read_text(encoding="utf-8")
    section = page.partition("## Roles")[2].partition("\n## ")[0]
    head, _, *rows = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("|")]
    roles = [name.strip() for name in head[1:]]
    assert roles == list(get_args(Role))
    said = {}
    for what, *marks in rows:
        for action in re.findall(r"`(\w+\.\w+)`", what):
            said[action] = [role for role, mark in zip(roles, marks, strict=True) if mark.strip() == "yes"]
    for action, rule in POLICY.items():
        if rule.audience == "public":
            assert f"`{action}`" in section
        else:
            allowed = [role for role in roles if may(Principal(id="x", role=cast("Role", role)), action)]
            assert said.pop(action) == allowed, action
    assert said == {}


def _method(endpoint: Endpoint | SocketEndpoint) -> str:
    return endpoint.method if isinstance(endpoint, Endpoint) else "WebSocket"


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    """docs/README.md and docs/adr/README.md list the pages; relative links in all of them are files."""
    pages = sorted(DOCS.rglob("*.md"))
    linked = {target for page in pages for target in _targets(page)}
    assert {str(page.relative_to(DOCS)) for page in pages if page not in linked} == {"README.md"}
    assert {str(target) for target in linked if not target.is_file()} == set()


def _targets(page: Path) -> list[Path]:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    return [(page.parent / link).resolve() for link in links]


def test_the_problem_shown_in_the_documentation_is_one() -> None:
    """The example of errors.md decodes, and its type is documented below it."""
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    example = msgspec.json.decode(page.partition("```json\n")[2].partition("```")[0])
    assert f"| `{example['type']}` | {example['status']} |" in page
