"""``refdesk dead-letters``: what could not be indexed, and what becomes of it."""

from typing import Any

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option

_PATH = "/api/dead-letters"


@click.group()
def command() -> None:
    """List, show, retry and discard what could not be indexed."""


@command.command("list")
@click.option("--code", help="Only those with this code.")
@click.option("--reason", help="Only those with this text in their reason.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many, newest first.")
@url_option
@json_option
def list_(code: str | None, reason: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List what could not be indexed, newest first."""
    wanted = {"code": code, "reason": reason, "limit": str(limit)}
    reply = run(_call("GET", "", url=url, params={name: value for name, value in wanted.items() if value}))
    if as_json:
        print_json(reply)
        return
    for letter in reply["dead_letters"]:
        console.print(_line(letter), markup=False, soft_wrap=True)
    console.print(f"{reply['open']} open.")


@command.command()
@click.argument("number", type=int)
@url_option
@json_option
def show(number: int, url: str | None, as_json: bool) -> None:
    """Show one: its event, the reason, the attempts and their times."""
    letter = run(_call("GET", f"/{number}", url=url))
    if as_json:
        print_json(letter)
        return
    for name, value in letter.items():
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)


@command.command()
@click.argument("numbers", nargs=-1, type=int)
@click.option("--code", help="All with this code.")
@click.option("--reason", help="All with this text in their reason.")
@click.option("--all", "every", is_flag=True, help="All of them.")
@url_option
@json_option
def retry(
    numbers: tuple[int, ...], code: str | None, reason: str | None, every: bool, url: str | None, as_json: bool
) -> None:
    """Have documents tried again, by number, code or reason."""
    if sum((bool(numbers), bool(code), bool(reason), every)) != 1:
        raise click.UsageError("Say which: numbers, or one of --code, --reason and --all.")
    wanted = {"code": code, "reason": reason, "all": every}
    report = run(_retry(numbers, {name: value for name, value in wanted.items() if value}, url=url))
    console.print(f"{report['queued']} queued, {report['superseded']} settled by a newer version.")
    if report["unreadable"]:
        console.print(f"{report['unreadable']} name no document and cannot be tried again: discard them.")
    if as_json:
        print_json(report)


@command.command()
@click.argument("numbers", nargs=-1, required=True, type=int)
@url_option
def discard(numbers: tuple[int, ...], url: str | None) -> None:
    """Put dead letters away; their documents stay as they are."""
    run(_discard(numbers, url=url))


async def _retry(numbers: tuple[int, ...], wanted: dict[str, Any], *, url: str | None) -> dict[str, int]:
    async with connect(url=url) as client:
        if not numbers:
            report: dict[str, int] = await client.call("POST", f"{_PATH}/retry", json=wanted)
            return report
        outcomes = [(await client.call("POST", f"{_PATH}/{number}/retry"))["outcome"] for number in numbers]
    return {outcome: outcomes.count(outcome) for outcome in ("queued", "superseded", "unreadable")}


async def _discard(numbers: tuple[int, ...], *, url: str | None) -> None:
    async with connect(url=url) as client:
        for number in numbers:
            await client.call("DELETE", f"{_PATH}/{number}")


async def _call(method: str, path: str, *, url: str | None, params: Any = None) -> dict[str, Any]:
    async with connect(url=url) as client:
        reply: dict[str, Any] = await client.call(method, _PATH + path, params=params)
        return reply


def _line(letter: dict[str, Any]) -> str:
    document = f"{letter['document_id']}@{letter['version']}" if letter["document_id"] else letter["subject"]
    return f"{letter['id']}  {document}  {letter['code']}, {letter['attempts']} attempts: {letter['reason']}"
