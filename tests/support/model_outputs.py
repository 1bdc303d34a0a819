"""What language models write, and how it is to look: `tests/data/model_outputs.txt`, and an independent reading of Markdown.

An outline is HTML reduced to what a reader sees: blocks, and in them runs of text with their marks, citations as ``[n]``. Most of
the texts are compared with the outline that markdown-it makes of them. Some say themselves how they are to look: those that
break off, and those that models mean otherwise than CommonMark reads them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

from refdesk.answering.grounding.checking import Grounding
from refdesk.answering.text.citations import CitationReader
from refdesk.answering.text.sentences import SentenceSplitter
from refdesk.contracts.answers import Sentence, Source

FILE = Path(__file__).parents[1] / "data" / "model_outputs.txt"
MARKS = {"strong", "em", "del", "code", "s"}
VOID = {"br", "hr"}
IGNORED = {"thead", "tbody", "div", "span", "button", "sup"}
SHALLOWER = {f"h{level}": f"h{min(6, level + 2)}" for level in range(1, 7)}
"""The question above an answer is a heading itself."""
_CITATION = re.compile(r"\s*\[(\d{1,3}(?:, ?\d{1,3})*)\]")


@dataclass(frozen=True)
class Output:
    name: str
    text: str
    html: str
    """How it is to look, where that is not how markdown-it reads it."""

    def outline(self) -> list[str]:
        if self.html:
            return outline(self.html, rendered=True)
        parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
        parser.enable(["table", "strikethrough"]).disable(
            ["lheading", "code", "reference", "link", "image", "autolink"]
        )
        return outline(parser.render(spelled(self.text)), rendered=True)


def outputs() -> Iterator[Output]:
    for part in FILE.read_text("utf-8").split("%%%% ")[1:]:
        if part.startswith("expect"):
            continue
        name, _, text = part.partition("\n")
        yield Output(name, text.removesuffix("\n"), _expected(name))


def _expected(name: str) -> str:
    _, _, rest = FILE.read_text("utf-8").partition(f"%%%% {name}\n")
    following = rest.partition("%%%% ")[2]
    return following.removeprefix("expect\n").partition("%%%% ")[0].strip() if following.startswith("expect") else ""


def spelled(text: str) -> str:
    """As the service passes it on."""
    reader = CitationReader([1, 2])
    return reader.read(text) + reader.rest()


def sentences(text: str, sources: list[Source]) -> list[Sentence]:
    """The sentences of an answer as its events tell them."""
    splitter, grounding = SentenceSplitter(), Grounding(sources)
    return [grounding.check(cut) for cut in (*splitter.feed(text), *splitter.flush())]


def outline(html: str, *, rendered: bool = False) -> list[str]:
    """One line for each block, with what it stands in: ``ul li | Dogs travel ⟨em⟩free [1]``. ``rendered``: by markdown-it."""
    parser = _Outline(rendered=rendered)
    parser.feed(html)
    parser.close()
    parser.end_block()
    return parser.lines


class _Outline(HTMLParser):
    def __init__(self, *, rendered: bool) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._rendered = rendered
        self._path: list[str] = []
        self._marks: list[str] = []
        self._runs: list[tuple[str, str]] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._hidden or tag == "small" or given.get("class") == "found":  # what the service adds
            self._hidden += 1
        elif tag in IGNORED:
            return
        elif tag in MARKS and not (tag == "code" and self._path[-1:] == ["pre"]):
            self._marks.append("del" if tag == "s" else tag)
        elif tag == "br":
            self._runs.append(("", "⏎"))
        elif tag == "hr":
            self.end_block()
            self.lines.append(" ".join([*self._path, "hr"]))
        elif tag != "code":
            self.end_block()
            name = SHALLOWER.get(tag, tag) if self._rendered else tag
            if tag == "li" and "ol" in self._path[-1:]:
                name = f"li{given.get('value') or ''}"
            self._path.append(name)
            if tag in ("li", "pre", "td", "th"):
                self._runs.append(("", ""))

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif tag in MARKS and self._path[-1:] != ["pre"]:
            self._marks.remove("del" if tag == "s" else tag)
        elif tag not in IGNORED | VOID | {"code"}:
            self.end_block()
            self._path.pop()

    def handle_data(self, data: str) -> None:
        if not self._hidden and (self._runs or data.strip()):
            self._runs.append((" ".join(sorted(set(self._marks))), data))

    def end_block(self) -> None:
        runs, self._runs = self._runs, []
        if not runs:
            return
        text, before = "", ""
        for marks, data in runs:
            text += data if marks == before or not data.strip() else f"⟨{marks}⟩{data}"
            before = marks if data.strip() else before
        path = [re.sub(r"^li\d*$", "li", name) for name in self._path]
        text = text.strip("\n") if "pre" in path else " ".join(text.split()).replace(" ⏎", "⏎").replace("⏎ ", "⏎")
        if "pre" not in path:
            text = _CITATION.sub(lambda found: "".join(f"[{n.strip()}]" for n in found[1].split(",")), text)
            if path[-1:] == ["p"] and path[-2:-1] == ["li"]:
                path.pop()
        if text or path[-1:] != ["li"]:
            self.lines.append(f"{' '.join(path)} | {text}")
