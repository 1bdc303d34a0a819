"""``refdesk ask QUESTION``: the answer as it is written, its sources below."""

from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from datetime import date, datetime
from typing import Any, Protocol

import click
import msgspec

from refdesk.app.commands.client import (
    CallFailed,
    ServerSentEvent,
    connect,
    console,
    json_option,
    print_json,
    run,
    say,
    url_option,
)
from refdesk.app.commands.terminal_markdown import TerminalMarkdown
from refdesk.contracts.hidden_characters import CleanStream
from refdesk.index.chunks import place

LAG_TOLD_S = 1.0
"""How far the index is behind before it is said."""
QUOTING = "extractive"
"""The model that writes no Markdown: it quotes."""


class Day(click.ParamType[str]):
    """A day, as the service takes it."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            self.fail(f"{value!r} is no day. Write it as 2026-05-01.", param, ctx)


DAY = Day()


@click.command()
@click.argument("question")
@click.option("--after", multiple=True, help="A freshness token: answer not before that write is searchable.")
@click.option("--max-output-tokens", type=int, help="The longest answer wanted.")
@click.option("--tag", "tags", multiple=True, help="Answer from documents with this tag only; with all of them.")
@click.option(
    "--document", "document_ids", multiple=True, metavar="ID", help="Answer from this document only, or these."
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FOLDER",
    help="Answer from this folder only (`wiki`, `wiki/hr`), or these.",
)
@click.option(
    "--since", type=DAY, metavar="DAY", help="Answer from what was changed on this day (2026-05-01) or later."
)
@click.option("--until", type=DAY, metavar="DAY", help="Answer from what was changed on this day or before.")
@click.option("--conversation", metavar="NAME", help="A name of yours: the question is understood by those before it.")
@url_option
@json_option
def command(question: str, url: str | None, as_json: bool, **wanted: Any) -> None:
    """Ask a question; the answer streams.

    Below it stand its sources, the cited ones first, and what to know about it: sentences that a source contradicts, a limit of
    length that cut it, changes that are not searchable yet.
    """
    run(_ask({"question": question, **_fields(**wanted)}, url=url, as_json=as_json))


def _fields(
    *,
    after: tuple[str, ...],
    max_output_tokens: int | None,
    conversation: str | None,
    **filters: Any,
) -> dict[str, Any]:
    """The question's fields beside its text: those that were given."""
    fields = {
        "after": after,
        "max_output_tokens": max_output_tokens,
        "filters": {name: given for name, given in filters.items() if given},
        "conversation_id": conversation,
    }
    return {name: given for name, given in fields.items() if given not in (None, (), {})}


async def _ask(asked: dict[str, Any], *, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        if as_json:
            answer = await client.call("POST", "/api/answers", json=asked)
            print_json(answer)
            _raise_if_failed(answer.get("error"))
            return
        await _show(client.events("POST", "/api/answers", json=asked))


async def _show(events: AsyncGenerator[ServerSentEvent, None]) -> None:
    sources: list[dict[str, Any]] = []
    contradicted: list[str] = []
    cited: set[int] = set()
    async with aclosing(events):
        with ExitStack() as open_answer:
            answer: _Answer = PlainText()
            async for event in events:
                data = msgspec.json.decode(event.data)
                match event.name:
                    case "accepted":
                        answer = open_answer.enter_context(_answer_of(data["model"]))
                    case "sources":
                        sources = data
                    case "queued":
                        console.print(f"[dim]{data['position']} in line, about {data['estimated_seconds']:.0f} s[/dim]")
                    case "delta":
                        answer.say(data["text"])
                    case "sentence":
                        cited.update(data["citations"])
                        contradicted += [data["text"]] if data["support"] == "contradicted" else []
                    case "done":
                        open_answer.close()
                        _show_end(data, sources, contradicted, cited=cited)
                    case "error":
                        open_answer.close()
                        _raise_if_failed(data)


class _Answer(Protocol):
    def say(self, text: str) -> None: ...


class PlainText:
    """The text as it comes: for files and other programs, and for quotes, which are no Markdown."""

    def __enter__(self) -> "PlainText":
        return self

    def __exit__(self, *_: object) -> None:
        click.echo()

    def say(self, text: str) -> None:
        say(text, end="")


class _Clean:
    """Without what a terminal would obey, however it is cut."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer
        self._stream = CleanStream()

    def say(self, text: str) -> None:
        self._answer.say(self._stream.feed(text))

    def end(self) -> None:
        self._answer.say(self._stream.flush())


@contextmanager
def _answer_of(model: str) -> Iterator[_Answer]:
    is_drawn = console.is_terminal and not console.is_dumb_terminal and model != QUOTING
    with TerminalMarkdown(console) if is_drawn else PlainText() as answer:
        clean = _Clean(answer)
        yield clean
        clean.end()


def _show_end(
    done: dict[str, Any],
    sources: list[dict[str, Any]],
    contradicted: list[str],
    *,
    cited: Collection[int] = frozenset(),
) -> None:
    click.echo()
    if done["finish_reason"] == "length":
        say("The answer ends here because it has reached its limit of length (--max-output-tokens).")
    for sentence in contradicted:
        console.print(f"Not what the source says: {sentence}", markup=False, soft_wrap=True, style="yellow")
    if done["finish_reason"] != "not_found":
        for source in sorted(sources, key=lambda source: source["n"] not in cited):
            style = None if source["n"] in cited else "dim"
            console.print(_source_line(source), markup=False, soft_wrap=True, style=style)
    if (lag_s := done.get("index_lag_seconds", 0)) >= LAG_TOLD_S:
        say(f"Changes of the last {lag_s:,.0f} s are not all in this answer: they are still being indexed.")
    if "access_as_of" in done:
        console.print(checked_by_record(done["access_as_of"]), markup=False)
    elif done["degraded"]:
        reason = done.get("degraded_reason", "The language model did not answer.")
        console.print(f"Quoted from the documents. {reason}", markup=False, soft_wrap=True)


def checked_by_record(as_of: str) -> str:
    """What people are told when the Document Service was silent."""
    checked_at = datetime.fromisoformat(as_of).astimezone()
    return (
        f"The Document Service does not answer. Access was checked against the record of changes as of {checked_at:%H:%M}, "
        "and only documents for everyone were read."
    )


def _source_line(source: dict[str, Any]) -> str:
    page = f", page {source['page']}" if "page" in source else ""
    stale = " (a newer version is on its way)" if source["stale"] else ""
    return f"[{source['n']}] {place(source['title'], source.get('heading'))}{page}{stale}"


def _raise_if_failed(problem: dict[str, Any] | None) -> None:
    if problem is not None:
        raise CallFailed(problem.get("detail", "The answer failed."))
