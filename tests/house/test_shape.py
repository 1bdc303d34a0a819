"""Functions that read in one look, modules of a size one can know, and nothing left lying about."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.trees import tree_of

ROOT = Path(__file__).parents[2]
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500
MEDIAN_FUNCTION_LINES_MAX = 10
SHORTHAND = re.compile(r"(?:.*_(?:new|old|copy|backup|tmp|v\d+)|utils?|helpers?|misc)$")
LEFTOVER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|<<<<<<<|>>>>>>>|\bbreakpoint\(\)|\bpdb\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|work|root)/\w")
PROMISE = re.compile(r"\b[Pp]romises? P?\d+|\(P\d+\)")
CHANGE_CHARACTERS_MAX = 300
TEXT = {".py", ".sql", ".js", ".css", ".html", ".md", ".toml"}


def functions(file: Path) -> list[tuple[str, int]]:
    """Name and number of lines of each function, nested ones too; a function's docstring does not count."""
    found = []
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = ast.get_docstring(node, clean=False) or ""
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - (said.count("\n") + 1 if said else 0)
            found.append((f"{file.name}:{node.lineno} {node.name}", lines))
    return found


def test_a_function_is_read_in_one_look(sources: list[Path]) -> None:
    """60 lines at the very most, and a median of ten."""
    lengths = [entry for file in sources for entry in functions(file)]
    assert [entry for entry in lengths if entry[1] > FUNCTION_LINES_MAX] == []
    assert sorted(lines for _, lines in lengths)[len(lengths) // 2] <= MEDIAN_FUNCTION_LINES_MAX


def test_a_module_stays_below_500_lines(sources: list[Path]) -> None:
    """A longer one has two subjects."""
    sizes = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in sources}
    assert {name: lines for name, lines in sizes.items() if lines > MODULE_LINES_MAX} == {}


def test_every_module_says_what_it_is(sources: list[Path]) -> None:
    """A docstring at the top of all but empty files."""
    trees = {file: tree_of(file) for file in sources}
    assert [file.name for file, tree in trees.items() if tree.body and ast.get_docstring(tree) is None] == []


def test_names_of_modules_are_names_of_things(sources: list[Path]) -> None:
    """No `_new`, no `_old`, no `utils`."""
    assert [file.name for file in sources if SHORTHAND.fullmatch(file.stem)] == []


def test_nothing_is_left_lying_about() -> None:
    """No marks of unfinished work, no debugger, no path of somebody's machine."""
    found = []
    for folder in ("src", "docs", "samples", "benchmarks"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in TEXT and "handbook" not in file.parts and ".egg-info" not in str(file):
                found += _leftovers(file)
    assert found == []


def _leftovers(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [
        f"{file.relative_to(ROOT)}:{number}"
        for number, line in enumerate(lines, start=1)
        if LEFTOVER.search(line) or MACHINE_PATH.search(line)
    ]


def test_no_requirement_names_a_registry() -> None:
    """Pinned and hashed, from wherever the one who installs gets packages."""
    for file in (ROOT / "requirements").iterdir():
        text = file.read_text(encoding="utf-8")
        assert "index-url" not in text and "://" not in text, file.name


def test_every_runtime_requirement_is_hashed() -> None:
    """What is installed is what was tried."""
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        pins = re.findall(r"^\w\S*==", text, re.MULTILINE)
        hashed = re.findall(r"^\w\S*==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)
        assert pins and len(pins) == len(hashed), file.name


PAGES = (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"))


def headings(page: Path) -> Iterator[str]:
    """Each with those that it stands under, so that two releases may both have *Changed*."""
    above: list[str] = []
    in_code = False
    for line in page.read_text(encoding="utf-8").splitlines():
        in_code ^= line.startswith("```")
        level = len(line) - len(line.lstrip("#"))
        if level and not in_code and line[level:].startswith(" "):
            above = [*above[: level - 1], line.strip("# ")]
            yield " › ".join(above)


def test_no_page_has_a_heading_twice() -> None:
    """A second one is a section that was pasted again, and a link leads to the first."""
    found = {page.name: list(headings(page)) for page in PAGES}
    assert {
        name: twice for name, all_ in found.items() if (twice := {one for one in all_ if all_.count(one) > 1})
    } == {}


def test_no_text_speaks_of_a_promise_by_number() -> None:
    """The repository defines none: a reader cannot look it up."""
    texts = [*PAGES, *(file for folder in ("src", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py"))]
    found = {file.name: PROMISE.findall(file.read_text(encoding="utf-8")) for file in texts if file != Path(__file__)}
    assert {name: said for name, said in found.items() if said} == {}


def test_the_changelog_has_short_lines() -> None:
    """What somebody notices, not how it works: that has a page."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    changes = [" ".join(change.split()) for change in re.findall(r"^\* (.*(?:\n  .*)*)", text, re.MULTILINE)]
    assert len(changes) > 50
    assert [change for change in changes if len(change) > CHANGE_CHARACTERS_MAX] == []
