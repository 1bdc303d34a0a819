"""``refdesk keys``: make, list and revoke API keys."""

from typing import Any
from urllib.parse import quote

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option


@click.group()
def command() -> None:
    """Make, list and revoke API keys."""


@command.command()
@click.argument("name")
@click.option("--groups", default="", help="Comma-separated groups; `administrators` may do everything.")
@url_option
@json_option
def create(name: str, groups: str, url: str | None, as_json: bool) -> None:
    """Make a key. It is shown once; only its hash is kept."""
    names = [group.strip() for group in groups.split(",") if group.strip()]
    made = run(_call("POST", "/api/keys", json={"name": name, "groups": names}, url=url))
    if as_json:
        print_json(made)
    else:
        click.echo(made["key"])
        click.echo("Keep it now: it is not shown again. Send it as `Authorization: Bearer <key>`.", err=True)


@command.command("list")
@url_option
@json_option
def list_(url: str | None, as_json: bool) -> None:
    """List the keys and their groups."""
    reply = run(_call("GET", "/api/keys", url=url))
    if as_json:
        print_json(reply)
    for key in [] if as_json else reply["keys"]:
        console.print(f"{key['name']}  {', '.join(key['groups']) or '-'}  {key['created_at'][:10]}", markup=False)


@command.command()
@click.argument("name")
@url_option
def revoke(name: str, url: str | None) -> None:
    """Revoke a key; it stops working within a second."""
    run(_call("DELETE", f"/api/keys/{quote(name, safe='')}", url=url))


async def _call(method: str, path: str, *, url: str | None, json: object = None) -> dict[str, Any]:
    async with connect(url=url) as client:
        reply: dict[str, Any] = await client.call(method, path, json=json)
        return reply
