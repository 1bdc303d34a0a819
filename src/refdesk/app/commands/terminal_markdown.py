"""The Markdown of an answer on a terminal, while it is written.

A block that has ended is printed once and for all. The last one is drawn again and again below, until the next one begins::

    Each passenger may take 2 bags. [1]        printed

     • a ticket                                drawn: its end may be another item
     • a pass

So what stands above never changes, whatever comes, and the end is the same however the stream was cut. markdown-it reads, rich
draws; links and images are text with their address, HTML is text, formulas stay as they are.
"""

import asyncio
from itertools import pairwise
from types import TracebackType
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.live import Live
from rich.markdown import Heading, Markdown, MarkdownElement
from rich.segment import Segment

DRAWN_EVERY_S = 0.08
CODE_THEME = "ansi_dark"
"""The terminal's own colours, on its own background."""
_FORMULAS = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_NOT_READ = ("lheading", "code", "reference", "autolink", "html_block", "html_inline")


class TerminalMarkdown:
    """Say text as it comes, within a ``with`` block; at its end, all of it is printed.

    It is drawn at most every ``interval_s``, by the running event loop; with 0, at once.
    """

    def __init__(self, console: Console, *, interval_s: float = DRAWN_EVERY_S) -> None:
        self._interval_s = interval_s
        self._drawing: asyncio.TimerHandle | None = None
        self._drawn_at = 0.0
        self._console = console
        self._parser = _parser()
        self._open = ""
        """What is not printed yet."""
        self._has_printed = False
        self._live = Live(
            get_renderable=self._drawn,
            console=console,
            auto_refresh=False,  # its thread may draw between two lines of what we print
            transient=True,
            vertical_overflow="visible",
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "TerminalMarkdown":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
        rest, self._open = self._open, ""
        self._live.__exit__(kind, error, trace)
        for block in self._blocks(rest):
            self._print(block)

    def say(self, text: str) -> None:
        self._open += text
        if "\n" in text:
            *ended, last = self._blocks(self._open)
            self._open = last
            for block in ended:
                self._print(block)
        if self._interval_s == 0:
            self._draw()
        elif self._drawing is None:
            loop = asyncio.get_running_loop()
            wait_s = max(0.0, self._drawn_at + self._interval_s - loop.time())
            self._drawing = loop.call_later(wait_s, self._draw)

    def _draw(self) -> None:
        if self._drawing is not None:
            self._drawing, self._drawn_at = None, asyncio.get_running_loop().time()
        self._live.refresh()

    def _blocks(self, text: str) -> list[str]:
        """The text cut where its blocks begin. Of a last line without its end nobody knows what it is: it goes with the last."""
        whole, end, rest = text.rpartition("\n")
        lines = (whole + end).splitlines(keepends=True)
        begins = sorted({token.map[0] for token in self._parser.parse(whole + end) if token.level == 0 and token.map})
        blocks = ["".join(lines[at:until]) for at, until in pairwise([0, *begins[1:], len(lines)])]
        return [*blocks[:-1], "".join(blocks[-1:]) + rest]

    def _print(self, block: str) -> None:
        if not block.strip():
            return
        if self._has_printed:
            self._console.print()
        self._console.print(_Lines(_Blocks(block, self._parser)))
        self._has_printed = True

    def _drawn(self) -> "_Lines":
        """As much of the last block as the terminal has room for: what has left the screen cannot be drawn again."""
        return _Lines(_Blocks(self._open, self._parser), last=max(1, self._console.height - 3), gap=self._has_printed)


class _Lines:
    """The lines of a block, or the ``last`` ones, without the empty ones around it; perhaps with a ``gap`` above."""

    def __init__(self, block: "_Blocks", *, last: int = 0, gap: bool = False) -> None:
        self._block = block
        self._last = last
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._block, options, pad=False)
        filled = [at for at, line in enumerate(lines) if any(segment.text.strip() for segment in line)]
        if filled and self._gap:
            yield Segment.line()
        for line in lines[filled[0] : filled[-1] + 1][-self._last :] if filled else ():
            yield from line
            yield Segment.line()


class _LeftHeading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _Blocks(Markdown):
    """Some blocks of an answer."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "heading_open": _LeftHeading}

    def __init__(self, text: str, parser: MarkdownIt) -> None:
        super().__init__("", code_theme=CODE_THEME, hyperlinks=False)
        self.markup = text
        self.parsed = [_as_text(token) for token in parser.parse(text)]


def _as_text(token: Token) -> Token:
    """Line breaks as they are, and pictures as what they are called."""
    for child in token.children or ():
        if child.type == "softbreak":
            child.type = "hardbreak"
        elif child.type == "image":
            child.type, child.content = "text", f"{child.content} ({child.attrs['src']})".strip()
    return token


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(_NOT_READ)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.block.ruler.before("fence", "formula", _formula_block, {"alt": ["paragraph"]})
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    closer = _FORMULAS.get(state.src[state.pos : state.pos + 2])
    end = state.src.find(closer, state.pos + 2) if closer else _end_of_dollars(state)
    if end < 0:
        return False
    end += len(closer or "$")
    if not silent:
        for number, line in enumerate(state.src[state.pos : end].split("\n")):
            if number:
                state.push("hardbreak", "br", 0)
            state.push("text", "", 0).content = line
    state.pos = end
    return True


def _end_of_dollars(state: StateInline) -> int:
    """Where a formula between single signs ends; -1 for an amount of money, and for any other character."""
    if state.src[state.pos] != "$":
        return -1
    end = state.src.find("$", state.pos + 1)
    inside, behind = state.src[state.pos + 1 : end], state.src[end + 1 : end + 2]
    bare = inside and not inside[0].isspace() and not inside[-1].isspace() and inside[-1] != "\\"
    return end if end > 0 and bare and not behind.isdigit() else -1


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula of several lines, whose lines begin no lists."""
    first = state.getLines(start, start + 1, state.blkIndent, False).strip()
    closer = _FORMULAS.get(first[:2])
    if closer is None or first[:2] == "\\(" or closer in first[2:]:
        return False
    last = next((line for line in range(start + 1, end) if closer in state.getLines(line, line + 1, 0, False)), None)
    if last is None:
        return False
    if not silent:
        state.push("paragraph_open", "p", 1).map = [start, last + 1]
        inline = state.push("inline", "", 0)
        inline.content = state.getLines(start, last + 1, state.blkIndent, False).strip()
        inline.children = []
        state.push("paragraph_close", "p", -1)
        state.line = last + 1
    return True
