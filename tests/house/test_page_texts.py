"""The page's words: every language has the same ones, those that are used are there, and nothing is said beside them."""

import json
import re
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from playwright._impl._driver import compute_driver_executable

from refdesk.access.audit import Result
from refdesk.answering.curating.feedback import Rating
from refdesk.answering.curating.gaps import Reason
from refdesk.app.health import Level
from refdesk.contracts.access import Role
from refdesk.contracts.answers import FinishReason
from refdesk.contracts.documents import State, WaitingReason
from refdesk.contracts.syncs import Outcome, SyncState
from refdesk.operations.generations import Difference
from refdesk.operations.series import PLOTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src" / "refdesk" / "app" / "page"
ERRORS = ROOT / "docs" / "reference" / "errors.md"
FIRST_VISIT_BYTES_MAX = 150_000
NOW = re.compile(r"^(?:import|export)\b[^;]*? from \"\./([a-z_]+\.js)\"|^import \"\./([a-z_]+\.js)\"", re.MULTILINE)
CALLED = re.compile(r"\b(?:t|hasText)\(\s*\"([a-z_.]+)\"|\? \"([a-z_]+\.[a-z_]+)\" : \"([a-z_]+\.[a-z_]+)\"")
NAMED = re.compile(r"data-text(?:-[a-z-]+)?=\"([^\"]+)\"")
PUT_IN = re.compile(r"\{(\w+)\}")
FIRST, VIEWS = "{}", "views_{}"
"""The catalogues of a language: of a first visit, and of the other views."""
COMMENT = re.compile(r"/\*\*.*?\*/|(?<![:\"'`])//[^\n]*", re.DOTALL)
PLAIN = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"")
VALUE = re.compile(r"\$\{(?:[^{}`]|\{[^{}`]*\})*\}")
TEMPLATE = re.compile(rf"`((?:[^`\\$]|\\.|\$(?!\{{)|{VALUE.pattern})*)`")
"""Without another template in it."""
GRAMMAR = {"text.js", "blocks.js", "inlines.js"}
"""Patterns, and no words."""
WORDS = re.compile(r"^[A-Z][a-z]+$|[A-Za-z]{2,}[.,:;]? [A-Za-z]{2,}|\b[a-z]{2,} ?\{\}|\{\}\W* (?!min$)[a-z]{3,}")
MUTE = re.compile(
    r"make\(\"\w+\", (?:\"[^\"]*\"|`[^`]*`)|class: `[^`]*`|(?:Selector|All|matchMedia)\([^)]*\)"
    r"|Error\((?:`[^`]*`|\"[^\"]*\")"
)
"""Class names, selectors, and messages for programmers."""
NOT_SAID = {*"Refdesk English Deutsch Word Excel Markdown Escape Enter Files Error".split(), "passage cited"}
"""Names, keys of the keyboard, types, and classes."""
CODES = re.compile(r"Refdesk|refdesk keys create NAME|[a-z]+\.[a-z]+|file://|\W*")
SERVICE_WORDS: dict[str, Any] = {
    "differs": Difference, "finish": FinishReason, "gap_reason": Reason, "level": Level, "outcome": Outcome, "result": Result,
    "role": Role, "state": State, "sync_state": SyncState, "usefulness": Rating, "verdict": Level, "waiting": WaitingReason,
}  # fmt: skip

Catalogue = dict[str, str | dict[str, str]]


@cache
def catalogue(name: str) -> Catalogue:
    """As the page's own engine reads it."""
    source = (PAGE / "texts" / f"{name}.js").read_text(encoding="utf-8")
    node, _ = compute_driver_executable()
    read = f"{source.replace('export default', 'const texts =')}\nconsole.log(JSON.stringify(texts))"
    said = subprocess.run([node, "-"], input=read, capture_output=True, text=True, check=True, timeout=60)
    found: Catalogue = json.loads(said.stdout)
    return found


def put_in(text: str | dict[str, str]) -> set[str]:
    forms = [text] if isinstance(text, str) else list(text.values())
    return {name for form in forms for name in PUT_IN.findall(form)}


@pytest.mark.parametrize("name", [FIRST, VIEWS])
def test_every_language_says_everything(name: str) -> None:
    """With the same values put in, and a form for every number."""
    english, german = catalogue(name.format("en")), catalogue(name.format("de"))
    assert list(german) == list(english)
    for key, text in english.items():
        assert put_in(german[key]) == put_in(text), key
        assert isinstance(german[key], str) == isinstance(text, str), key
        assert isinstance(text, str) or set(text) == {"one", "other"}, key


def modules() -> dict[str, str]:
    """What the page's modules do, by their name; without what they say about it."""
    return {
        file.name: COMMENT.sub("", file.read_text(encoding="utf-8"))
        for file in PAGE.glob("*.js")
        if file.name not in GRAMMAR
    }


def markup() -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in PAGE.rglob("*.html")}


def asked_for(sources: dict[str, str], markup: dict[str, str]) -> set[str]:
    """The names that modules and markup have."""
    called = {found for source in sources.values() for names in CALLED.findall(source) for found in names if found}
    return called | {name for source in markup.values() for name in NAMED.findall(source)}


def test_every_text_that_is_used_is_there() -> None:
    """In the modules and in the markup; a first visit, and what opens over it, does without the texts of the views."""
    first, views = set(catalogue("en")), set(catalogue("views_en"))
    assert not first & views
    wanted = asked_for(modules(), markup())
    assert len(wanted) > 300
    assert wanted <= first | views
    opened = "answered_gaps filter_picker history passages pdf_pages reader undo".split()
    early = {file.name for file in first_visit()} | {f"{name}.js" for name in opened}
    over = {name: source for name, source in markup().items() if name in ("index", "history", "reader")}
    assert asked_for({name: source for name, source in modules().items() if name in early}, over) <= first


def strings(source: str) -> list[str]:
    """Those of a module, each value of a template as ``{}``."""
    found = []
    while inner := TEMPLATE.search(source):
        values = VALUE.findall(inner[1])
        found += [VALUE.sub("{}", inner[1]), *(text for value in values for text in PLAIN.findall(value))]
        source = source[: inner.start()] + "0" + source[inner.end() :]
    return found + PLAIN.findall(source)


def test_every_text_that_is_there_is_used() -> None:
    """By its name in full, or by one that a value completes."""
    names = {text for source in modules().values() for text in strings(source)} | asked_for({}, markup())
    built = [re.compile(name.replace("{}", "[a-z_0-9]+")) for name in names if re.fullmatch(r"[a-z_]+\.\{\}\w*", name)]
    every = [*catalogue("en"), *catalogue("views_en")]
    assert [one for one in every if one not in names and not any(name.fullmatch(one) for name in built)] == []


def test_every_word_of_the_service_that_is_shown_has_a_text() -> None:
    """What it names by a code, the page names in the reader's language."""
    views = catalogue("views_en")
    wanted = {f"{prefix}.{word}" for prefix, words in SERVICE_WORDS.items() for word in get_args(words)}
    assert wanted | {f"plot.{plot.name}" for plot in PLOTS} <= set(views)


class Texts(HTMLParser):
    """What markup says itself: its texts, and the attributes that are read by people."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.said += [value or "" for name, value in attrs if name in ("placeholder", "aria-label", "title", "alt")]

    def handle_data(self, data: str) -> None:
        self.said.append(data.strip())


def test_nothing_is_said_beside_the_catalogues() -> None:
    """As far as a test can tell: no text in the markup, no words in a module's strings."""
    for name, source in markup().items():
        texts = Texts()
        texts.feed(re.sub(r"<(noscript)>.*?</\1>", "", source))
        assert [text for text in texts.said if not CODES.fullmatch(text)] == [], name
    for name, source in modules().items():
        assert said(source) <= NOT_SAID, name


def said(source: str) -> set[str]:
    """The strings of a module that read like words for people."""
    return {text for text in strings(MUTE.sub("", source)) if WORDS.search(text)}


@pytest.mark.parametrize(
    "source",
    ['write(note, "It is here.");', "announce(`${name} is ready.`);", "write(place, `at ${time}`);", '{ day: "Day" }'],
)
def test_words_in_a_module_are_found(source: str) -> None:
    assert said(source)


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


NEVER_SHOWN = {
    *"call-failed configuration data-directory-in-use data-directory-unusable start-failed".split(),
    *"logout-refused malformed-json malformed-request method-not-allowed misdirected output-limit-too-high".split(),
}
"""Refusals that no page gets: those of the command line and of the start, and those of requests that the page does not make."""
SAID = {"limit", "size", "wait", "said", "aside"}


def test_every_refusal_has_words_in_german() -> None:
    """English is the service's own language."""
    german = catalogue("refusals_de")
    codes = set(re.findall(r"^\| `([a-z-]+)` \|", ERRORS.read_text(encoding="utf-8"), re.MULTILINE))
    assert codes >= NEVER_SHOWN
    assert set(german) == codes - NEVER_SHOWN
    assert all(put_in(text) <= SAID for text in german.values())
