"""What models write in Markdown, on the page: it looks right however it is cut, and nothing of it flickers, runs or loads."""

import asyncio
import contextlib
import os
import random
import termios
from itertools import accumulate, pairwise
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect
from rich.console import Console
from tests.browser.conftest import Open
from tests.support.model_outputs import Output, outline, outputs, sentences, spelled
from tests.support.running import REFDESK, Json, Refdesk, environment
from tests.support.screen import Screen
from tests.support.scripted_llm import Behaviour, ScriptedLlm

from refdesk.app.commands.terminal_markdown import TerminalMarkdown
from refdesk.contracts.answers import Source

SEED = 11
DOCUMENTS = {
    "gannet.md": (
        "# Gannet ferry\n\nEach passenger may take 2 bags of up to 23 kg each. A bicycle costs 6 EUR. "
        "Dogs travel free on a lead. A ticket is refunded in full until 48 hours before departure. "
        "After that half of the fare is refunded. Refunds arrive within 10 working days."
    ),
    "boarding.md": (
        "# Gannet boarding\n\nBoarding closes 15 minutes before departure. "
        "Cars must be at the quay 45 minutes before departure."
    ),
}
SOURCES = [
    Source(n=n, document_id=name, version=1, title=name, passage=text, ordinal=0, stale=False)
    for n, (name, text) in enumerate(DOCUMENTS.items(), 1)
]
LOADS = "img, iframe, object, embed, script, style, video, link, a"
STRUCTURE = ":is(h3, h4, h5, h6, th, pre) .contradicted, :is(h3, h4, h5, h6, th, pre).contradicted"
WORDS = r"/[^\p{L}\p{N}]/gu"
DRAW = f"""async ({{ text, sentences, cuts }}) => {{
    const {{ drawAnswer }} = await import("/web/answer_text.js");
    const {{ placeOf }} = await import("/web/text.js");
    const citation = (n) => Object.assign(document.createElement("sup"), {{ textContent: `[${{n}}]` }});
    let ends = 0;
    const placed = sentences.map((one) => {{
        const place = placeOf(one.text, text, ends);
        ends = place.ends;
        return {{ ...one, ...place }};
    }});
    const words = (root) => {{
        const copy = root.cloneNode(true);
        copy.querySelectorAll(".found, small").forEach((mark) => mark.remove());
        return copy.textContent.replace({WORDS}, "");
    }};
    const root = document.createElement("div");
    const draw = (until, growing) => {{
        const told = placed.filter((one) => one.ends < until || !growing);
        drawAnswer(root, {{ text: text.slice(0, until), sentences: told, growing, quoted: false }}, citation);
        return words(root);
    }};
    return {{ words: [...cuts.map((cut) => draw(cut, true)), draw(text.length, false)], html: root.innerHTML }};
}}"""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def ferry(desk: Refdesk) -> list[Json]:
    """Two documents, one passage each."""
    return [await desk.settled(await desk.upload(name, text.encode())) for name, text in DOCUMENTS.items()]


def cuts(text: str, chance: random.Random) -> list[int]:
    """Where the pieces of a stream end: a few characters each, sometimes many."""
    steps = (chance.choice((1, 2, 3, 5, 8, 40)) for _ in text)
    return [end for end in accumulate(steps) if end < len(text)]


def pieces(text: str, chance: random.Random) -> tuple[str, ...]:
    return tuple(text[begin:end] for begin, end in pairwise([0, *cuts(text, chance), len(text)]))


async def drawn(page: Page, text: str, *, cuts: list[int]) -> Any:
    """What the page's own module makes of a text: its words after each cut, and its HTML at the end."""
    told = [{"text": one.text, "citations": one.citations, "support": one.support} for one in sentences(text, SOURCES)]
    return await page.evaluate(DRAW, {"text": text, "sentences": told, "cuts": cuts})


async def test_no_cut_changes_what_is_shown_or_takes_a_word_back(visit: Open) -> None:
    """After every character, and in random pieces: words only come, and the end is the same."""
    page, chance = (await visit()).page, random.Random(SEED)
    for output in outputs():
        text = spelled(output.text)
        whole = await drawn(page, text, cuts=list(range(1, len(text))))
        taken_back = [(one, other) for one, other in pairwise(whole["words"]) if not other.startswith(one)]
        assert not taken_back, output.name
        for _ in range(3):
            assert (await drawn(page, text, cuts=cuts(text, chance)))["html"] == whole["html"], output.name


async def shown(page: Page, llm: ScriptedLlm, output: Output, chance: random.Random) -> Locator:
    """The answer of a model that writes this, once it is complete."""
    llm.default = Behaviour(words=pieces(output.text, chance))
    if await page.locator("#new-conversation").is_visible():
        await page.locator("#new-conversation").click()
    await page.locator("#question").fill(f"What does the Gannet ferry say of {output.name}?")
    await page.locator("#question").press("Enter")
    turn = page.get_by_test_id("turn")
    await expect(turn).to_have_attribute("data-state", "done")
    return turn.get_by_test_id("answer")


async def test_model_outputs_look_right(visit: Open, llm: ScriptedLlm, ferry: list[Json]) -> None:
    """Streamed in random cuts, through the service: each block is what it is, and no structure is called wrong."""
    page, chance = (await visit()).page, random.Random(SEED)
    wrong = {}
    for output in outputs():
        answer = await shown(page, llm, output, chance)
        have = outline(await answer.inner_html())
        if have != output.outline():
            wrong[output.name] = have
        assert await answer.locator(STRUCTURE).count() == 0, output.name
        assert await answer.locator(LOADS).count() == 0, output.name
        flagged = await answer.locator(".contradicted").all_inner_texts()
        assert not [text for text in flagged if text.partition("\nnot what")[0].rstrip().endswith((":", "?"))], (
            output.name
        )
    assert not wrong


async def test_quotes_are_no_markdown(visit: Open, llm: ScriptedLlm, desk: Refdesk) -> None:
    """What the documents say is shown as it stands there when no model is left to write."""
    text = "The pump script reads __init__ and *args, then the 7 files of /etc/pump/*.conf and /var/pump/*.log."
    await desk.settled(await desk.upload("pumps.txt", text.encode()))
    llm.default = Behaviour(status=401)
    page = (await visit()).page
    await page.locator("#question").fill("Which files does the pump script read?")
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "done")
    await expect(page.get_by_test_id("answer")).to_contain_text(text)
    await expect(page.get_by_test_id("answer").locator("em")).to_have_count(0)


async def asked_on_a_terminal(desk: Refdesk, question: str) -> Screen:
    """`refdesk ask` on a terminal of its own."""
    screen, loop = Screen(height=40), asyncio.get_running_loop()
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    settings = {"TERM": "xterm", "REFDESK_URL": desk.url}
    asking = await asyncio.create_subprocess_exec(
        *REFDESK, "ask", question, cwd=desk.home, env=environment(desk.home, **settings), stdout=theirs, stdin=theirs
    )
    os.close(theirs)
    data = bytearray()
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := await loop.run_in_executor(None, os.read, ours, 1 << 16):
            data += piece
    os.close(ours)
    assert await asking.wait() == 0
    screen.write(data.decode())
    return screen


@pytest.mark.parametrize("number", [4, 7])
async def test_a_terminal_shows_it_as_well(desk: Refdesk, llm: ScriptedLlm, ferry: list[Json], number: int) -> None:
    """Streamed in random cuts; with its sources below. To another program it is told as the model wrote it."""
    llm.reset()
    output = next(one for one in outputs() if one.name.startswith(f"{number:02}"))
    llm.default = Behaviour(words=pieces(output.text, random.Random(SEED)))
    question = f"What does the Gannet ferry say on a terminal of {output.name}?"
    seen = (await asked_on_a_terminal(desk, question)).text()
    expected = Screen(height=40)
    with TerminalMarkdown(Console(file=expected, force_terminal=True, width=100, height=40), interval_s=0) as answer:
        answer.say(spelled(output.text))
    assert seen.startswith(expected.text())
    assert "Gannet boarding" in seen.removeprefix(expected.text())
    assert spelled(output.text) in (await desk.command("ask", question)).out
    await desk.empty()
