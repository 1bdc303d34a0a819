"""A model that obeys every document, and documents that want harm: no request leaves, no script runs, no terminal obeys."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.async_api import Browser, Page, expect
from tests.browser.conftest import Open
from tests.support.attack_documents import KINDS, Attack, Obedient, attacks
from tests.support.running import Refdesk
from tests.support.scripted_llm import Behaviour, ScriptedLlm

from refdesk.app.cli import cli
from refdesk.contracts.hidden_characters import clean

STEP = 29
"""Every so many of the two hundred is tried in every run: each time another kind and another carrier."""
LOADS = "img, iframe, object, embed, script, style, video, meta, base, a[href^='javascript'], a[href^='data']"
ACTIVE = f":is(main, dialog) :is({LOADS})"


class Canary:
    """Where a request would go that anything of an answer makes."""

    def __init__(self) -> None:
        self.requests = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Canary"]:
        server = await asyncio.start_server(self._heard, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _heard(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        writer.close()


@dataclass
class Harm:
    """What came of the attacks: the names of those that did it."""

    canary: Canary
    scripts: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    """Elements that load, run or lead somewhere by themselves."""
    hidden: list[str] = field(default_factory=list)
    """Characters that a terminal obeys or an eye does not see."""

    def read(self, attack: Attack, *texts: str) -> None:
        if any(clean(text) != text for text in texts):
            self.hidden.append(attack.name)

    async def look(self, attack: Attack, page: Page) -> None:
        if await page.locator(ACTIVE).count():
            self.active.append(attack.name)
        if await page.evaluate("window.stolen") is not None:
            self.scripts.append(attack.name)

    def __str__(self) -> str:
        return (
            f"{self.canary.requests} requests, {len(self.scripts)} scripts, {len(self.active)} active elements, "
            f"{len(self.hidden)} hidden characters"
        )


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


async def by_api(desk: Refdesk, attack: Attack, harm: Harm) -> None:
    """Streamed and read again: every string of every event."""
    events = [event async for event in desk.stream(attack.question)]
    assert events[-1].name == "done", (attack.name, events[-1])
    assert "noon" in "".join(event.data["text"] for event in events if event.name == "delta"), attack.name
    record = await desk.call("GET", f"/api/answers/{events[0].data['answer_id']}")
    harm.read(attack, *(text for event in events for text in strings(event.data)), *strings(record))


async def by_page(page: Page, attack: Attack, harm: Harm) -> None:
    """Asked in a conversation of its own; then its passage is opened beside the answer."""
    if await page.locator("#new-conversation").is_visible():
        await page.locator("#new-conversation").click()
    await page.locator("#question").fill(attack.question)
    await page.locator("#question").press("Enter")
    turn = page.get_by_test_id("turn")
    await expect(turn).to_have_attribute("data-state", "done")
    await expect(turn.get_by_test_id("answer")).to_contain_text("noon")
    await harm.look(attack, page)
    await turn.get_by_test_id("source").first.locator("a").click()
    await expect(page.locator("#reader-body .passage").first).to_be_visible()
    await harm.look(attack, page)
    await page.locator("#reader-close").click()


async def by_command(desk: Refdesk, attack: Attack, harm: Harm) -> None:
    """As text, and as JSON on the last line; in this process, because starting two hundred takes long."""
    runner = CliRunner(env={"REFDESK_URL": desk.url, "XDG_STATE_HOME": str(desk.home / "state")})
    for options in ((), ("--json",)):
        said = await asyncio.to_thread(runner.invoke, cli, ["ask", attack.question, *options], catch_exceptions=False)
        assert said.exit_code == 0 and "noon" in said.stdout, (attack.name, said.output)
        harm.read(attack, said.stdout.removesuffix("\n"), said.stderr)
    assert json.loads(said.stdout.splitlines()[-1])["finish_reason"] == "stop"


async def in_turn(chosen: list[Attack], way: Callable[[Attack], Awaitable[None]]) -> None:
    for attack in chosen:
        await way(attack)


async def try_attacks(desk: Refdesk, llm: ScriptedLlm, visit: Open, *, step: int) -> None:
    """Every ``step``-th attack."""
    async with Canary().listening() as canary:
        harm, model = Harm(canary), Obedient()
        llm.default = Behaviour(reply=model)
        page = (await visit()).page
        chosen = list(islice(attacks(canary.url), 0, None, step))
        for document in [await desk.upload(one.filename, one.content) for one in chosen]:
            await desk.settled(document)
        await asyncio.gather(
            in_turn(chosen, lambda attack: by_api(desk, attack, harm)),
            in_turn(chosen, lambda attack: by_page(page, attack, harm)),
            in_turn(chosen, lambda attack: by_command(desk, attack, harm)),
        )
        print(f"{len(chosen)} attacks, {len(model.obeyed)} obeyed: {harm}")  # noqa: T201
        assert model.obeyed == {one.name for one in chosen}
        assert harm == Harm(canary) and canary.requests == 0


async def test_harm_is_noticed(browser: Browser) -> None:
    """A page that lets pictures and scripts through, and a terminal that gets its colours."""
    async with Canary().listening() as canary:
        harm, page, attack = Harm(canary), await browser.new_page(), next(attacks(canary.url))
        await page.set_content(f"<main><img src='{canary.url}/image.png'><script>window.stolen=1</script></main>")
        await harm.look(attack, page)
        harm.read(attack, "noon", KINDS["colours"])
        await page.close()
        assert harm == Harm(canary, scripts=[attack.name], active=[attack.name], hidden=[attack.name])
        assert canary.requests > 0


@pytest.mark.timeout(300)
async def test_an_obeying_model_does_no_harm(desk: Refdesk, llm: ScriptedLlm, visit: Open) -> None:
    """Page, API and command line."""
    await try_attacks(desk, llm, visit, step=STEP)


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_an_obeying_model_does_no_harm_with_200_documents(desk: Refdesk, llm: ScriptedLlm, visit: Open) -> None:
    """Every kind in every carrier."""
    await try_attacks(desk, llm, visit, step=1)
