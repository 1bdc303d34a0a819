"""What models write in Markdown, on a terminal."""

import random
import re
from itertools import pairwise

import pytest
from rich.console import Console
from tests.support.model_outputs import Output, outputs, spelled
from tests.support.screen import Screen

from refdesk.app.commands.terminal_markdown import TerminalMarkdown

SEED = 11
WIDTH = 160
LOOK = """\
Answer

You may take 2 bags of up to 23 kg each.
[1]

Details

 1 Bicycles cost 6 EUR. [1]
 2 Dogs travel free:
   ▌ on a lead [2]

 Item  Limit
 ───────────────
 Bag   23 kg [1]

 See the desk.

----------------------------------------

Sources: [1, 2]"""
OUTPUTS = {output.name: output for output in outputs()}


def shown(*pieces: str, height: int = 24, width: int = WIDTH) -> Screen:
    """The screen after an answer that came in these pieces, each of them drawn."""
    screen = Screen(height=height)
    console = Console(file=screen, force_terminal=True, width=width, height=height, color_system=None)
    with TerminalMarkdown(console, interval_s=0) as answer:
        for piece in pieces:
            answer.say(piece)
    return screen


def pieces(text: str, chance: random.Random) -> list[str]:
    ends = sorted(chance.sample(range(len(text)), k=len(text) // 4))
    return [text[begin:end] for begin, end in pairwise([0, *ends, len(text)])]


def words(text: str) -> str:
    """Letters alone: who numbers the items of a list differs."""
    return re.sub(r"[\W\d_]", "", text)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_end_is_the_same_however_it_was_cut(name: str) -> None:
    """On a screen that it fits, and on one that it does not; there, by its letters, too."""
    text, chance = spelled(OUTPUTS[name].text), random.Random(SEED)
    for height, cuts in ((24, [pieces(text, chance)]), (6, [pieces(text, chance), list(text)])):
        whole = shown(text, height=height, width=60).text()
        for cut in cuts:
            assert shown(*cut, height=height, width=60).text() == whole


def expected(output: Output) -> str:
    return "\n".join(line.partition(" | ")[2].replace("⏎", "\n") for line in output.outline())


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_word_is_lost_or_moved(name: str) -> None:
    """Every word of a model's output is shown, in its order."""
    output = OUTPUTS[name]
    text = re.sub(r"⟨[^⟩]*⟩", "", expected(output))
    assert words(shown(spelled(output.text)).text()) == words(text)


def test_blocks_look_like_what_they_are() -> None:
    """Lists are indented, tables have columns, code keeps its lines; no sign of Markdown is left."""
    screen = shown(spelled(OUTPUTS["55 a mixed answer"].text), width=40)
    assert screen.text() == LOOK


def test_what_has_ended_is_never_drawn_again() -> None:
    """Nor does a long last block scroll away line by line: what leaves the screen is whole."""
    text = "First.\n\n" + "".join(f"- item {number}\n" for number in range(40))
    screen = shown(*text, height=8)
    assert screen.text().split() == ["First.", *(word for number in range(40) for word in ("•", "item", str(number)))]
