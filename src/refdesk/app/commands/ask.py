"""``refdesk ask QUESTION``: the answer as it is written, its sources below."""

from contextlib import aclosing
from datetime import datetime
from typing import Any

import click
import msgspec

from refdesk.app.commands.client import CallFailed, connect, console, json_option, print_json, run, say, url_option
from refdesk.contracts.hygiene import CleanStream


@click.command()
@click.argument("question")
@click.option("--after", multiple=True, help="A freshness token: answer not before that write is searchable.")
@click.option("--max-output-tokens", type=int, help="The longest answer wanted.")
@url_option
@json_option
def command(
    question: str, after: tuple[str, ...], max_output_tokens: int | None, url: str | None, as_json: bool
) -> None:
    """Ask a question; the answer streams."""
    asked: dict[str, Any] = {"question": question, "after": after}
    if max_output_tokens is not None:
        asked["max_output_tokens"] = max_output_tokens
    run(_ask(asked, url=url, as_json=as_json))


async def _ask(asked: dict[str, Any], *, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        if as_json:
            answer = await client.call("POST", "/api/answers", json=asked)
            print_json(answer)
            _raise_if_failed(answer.get("error"))
            return
        events = client.events("POST", "/api/answers", json=asked)
        sources: list[dict[str, Any]] = []
        contradicted: list[str] = []
        shown = CleanStream()
        async with aclosing(events):
            async for event in events:
                data = msgspec.json.decode(event.data)
                match event.name:
                    case "sources":
                        sources = data
                    case "queued":
                        console.print(f"[dim]{data['position']} in line, about {data['estimated_seconds']:.0f} s[/dim]")
                    case "delta":
                        say(shown.feed(data["text"]), end="")
                    case "sentence" if data["support"] == "contradicted":
                        contradicted.append(data["text"])
                    case "done":
                        say(shown.flush(), end="")
                        _show_end(data, sources, contradicted)
                    case "error":
                        click.echo()
                        _raise_if_failed(data)


def _show_end(done: dict[str, Any], sources: list[dict[str, Any]], contradicted: list[str]) -> None:
    click.echo("\n")
    for sentence in contradicted:
        console.print(f"Not what the source says: {sentence}", markup=False, soft_wrap=True, style="yellow")
    if done["finish_reason"] != "not_found":
        for source in sources:
            console.print(_source_line(source), markup=False, soft_wrap=True, style="dim")
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
    place = " › ".join(part for part in (source["title"], source.get("heading")) if part)
    page = f", page {source['page']}" if "page" in source else ""
    stale = " (a newer version is on its way)" if source["stale"] else ""
    return f"[{source['n']}] {place}{page}{stale}"


def _raise_if_failed(problem: dict[str, Any] | None) -> None:
    if problem is not None:
        raise CallFailed(problem.get("detail", "The answer failed."))
