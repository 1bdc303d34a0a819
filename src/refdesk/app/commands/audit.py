"""``refdesk audit``: who did what to what, and what came of it."""

from datetime import UTC, datetime
from typing import Any, get_args

import click

from refdesk.access.audit import Result
from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option

LISTED_DEFAULT, LISTED_MAX = 100, 1000
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@click.command()
@click.option("--principal", metavar="ID", help="Only what this principal did.")
@click.option("--action", help="Only this action, such as documents.change.")
@click.option("--object", metavar="ID", help="Only what was done to this document, key or answer.")
@click.option("--result", type=click.Choice(get_args(Result)), help="Only what came out so.")
@click.option("--from", "since", type=click.DateTime(TIMES), help="Not before this time (UTC).")
@click.option("--to", "until", type=click.DateTime(TIMES), help="Before this time (UTC).")
@click.option(
    "--limit",
    default=LISTED_DEFAULT,
    show_default=True,
    type=click.IntRange(1, LISTED_MAX),
    help="How many, newest first.",
)
@click.option("--csv", "as_csv", is_flag=True, help="All of them as a table for spreadsheets, oldest first.")
@url_option
@json_option
def command(
    url: str | None, as_json: bool, as_csv: bool, since: datetime | None, until: datetime | None, **wanted: Any
) -> None:
    """Show the audit log, newest first. It has no content: no titles, no questions.

    All of it, as JSON lines, is at /api/audit/export.
    """
    times = {"from": _in_utc(since), "to": _in_utc(until)}
    params = {name: str(value) for name, value in (wanted | times).items() if value is not None}
    if as_csv:
        if as_json:
            raise click.UsageError("Give one of --json and --csv.")
        run(_copy_table(url=url, params=params))
        return
    reply = run(_read(url=url, params=params))
    if as_json:
        print_json(reply)
        return
    for entry in reply["entries"]:
        console.print(_line(entry), markup=False, soft_wrap=True)


async def _read(*, url: str | None, params: dict[str, str]) -> dict[str, Any]:
    async with connect(url=url) as client:
        reply: dict[str, Any] = await client.call("GET", "/api/audit", params=params)
        return reply


async def _copy_table(*, url: str | None, params: dict[str, str]) -> None:
    """As it comes; how many are listed does not bound it."""
    del params["limit"]
    async with connect(url=url) as client, client.open("GET", "/api/audit.csv", params=params) as reply:
        async for piece in reply.content.iter_any():
            click.echo(piece, nl=False)


def _in_utc(given: datetime | None) -> str | None:
    return None if given is None else given.replace(tzinfo=UTC).isoformat()


def _line(entry: dict[str, Any]) -> str:
    who = entry["principal_name"] or entry["principal_id"] or "nobody known"
    what = f"{entry['action']} {entry['object_id'] or ''}".strip()
    return f"{entry['at'][:19]}  {entry['result']}  {who}  {what}  ({entry['did']})  {entry['address'] or '-'}"
