"""The page's words: every language has the same ones, and each that is used is there."""

import json
import re
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

PAGE = Path(__file__).parents[2] / "src" / "refdesk" / "app" / "page"
FIRST_VISIT_BYTES_MAX = 150_000
NOW = re.compile(r"^(?:import|export)\b[^;]*? from \"\./([a-z_]+\.js)\"|^import \"\./([a-z_]+\.js)\"", re.MULTILINE)
CALLED = re.compile(r"\b(?:t|hasText)\(\s*\"([a-z_.]+)\"|\? \"([a-z_]+\.[a-z_]+)\" : \"([a-z_]+\.[a-z_]+)\"")
NAMED = re.compile(r"data-text(?:-[a-z-]+)?=\"([^\"]+)\"")
PUT_IN = re.compile(r"\{(\w+)\}")

Catalogue = dict[str, str | dict[str, str]]


def catalogue(language: str) -> Catalogue:
    """As the page's own engine reads it."""
    source = (PAGE / "texts" / f"{language}.js").read_text(encoding="utf-8")
    node, _ = compute_driver_executable()
    read = f"{source.replace('export default', 'const texts =')}\nconsole.log(JSON.stringify(texts))"
    said = subprocess.run([node, "-"], input=read, capture_output=True, text=True, check=True, timeout=60)
    found: Catalogue = json.loads(said.stdout)
    return found


def put_in(text: str | dict[str, str]) -> set[str]:
    forms = [text] if isinstance(text, str) else list(text.values())
    return {name for form in forms for name in PUT_IN.findall(form)}


def test_every_language_says_everything() -> None:
    """With the same values put in, and a form for every number."""
    english, german = catalogue("en"), catalogue("de")
    assert list(german) == list(english)
    for name, text in english.items():
        assert put_in(german[name]) == put_in(text), name
        assert isinstance(german[name], str) == isinstance(text, str), name
        assert isinstance(text, str) or set(text) == {"one", "other"}, name


def test_every_text_that_is_used_is_there() -> None:
    """In the modules and in the markup."""
    known = set(catalogue("en"))
    modules = [found for file in PAGE.glob("*.js") for names in CALLED.findall(file.read_text()) for found in names]
    markup = [name for file in PAGE.rglob("*.html") for name in NAMED.findall(file.read_text())]
    assert len(modules) > 20 and len(markup) > 20
    assert {name for name in [*modules, *markup] if name} <= known


def first_visit() -> set[Path]:
    """What the page fetches before anything is opened, in one language."""
    seen: set[Path] = set()
    ahead = [PAGE / "app.js"]
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            ahead += [PAGE / (one or other) for one, other in NOW.findall(module.read_text())]
    others = ("index.html", "styles.css", "favicon.svg", "texts/de.js")
    return seen | {PAGE / name for name in others}


def test_a_first_visit_is_light() -> None:
    """Views that are not open yet are fetched when they are."""
    files = first_visit()
    assert PAGE / "turn.js" in files and PAGE / "documents.js" not in files
    assert sum(file.stat().st_size for file in files) <= FIRST_VISIT_BYTES_MAX
