"""``refdesk keys``: make, list, change and revoke API keys."""

from typing import Any, get_args
from urllib.parse import quote

import click
import msgspec

from refdesk.access.keys import KeyView, new_key, open_api_keys
from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option
from refdesk.contracts.access import Role

role_option = click.option(
    "--role", type=click.Choice(get_args(Role)), help="What its holder may do (default: writer). See `Keys and access`."
)


@click.group()
def command() -> None:
    """Make, list, change and revoke API keys."""


@command.command()
@click.argument("name")
@click.option("--groups", default="", help="Comma-separated groups, by which documents name readers.")
@role_option
@click.option("--database", help="Write into this access database itself; no Refdesk needs to run.")
@url_option
@json_option
def create(name: str, groups: str, role: Role | None, database: str | None, url: str | None, as_json: bool) -> None:
    """Make a key. It is shown once; only its hash is kept."""
    if database is not None and url is not None:
        raise click.UsageError("--database writes by itself; --url asks a running Refdesk. Give one of them.")
    wanted = {"name": name, "groups": _names(groups), **({"role": role} if role else {})}
    if database is None:
        made = run(_call("POST", "/api/keys", json=wanted, url=url))
    else:
        made = msgspec.to_builtins(run(_create_in(database, wanted)))
    _show(made, as_json=as_json)


@command.command()
def generate() -> None:
    """Print a new key, for a file that REFDESK_BOOTSTRAP_KEY_FILE names. It opens nothing until then."""
    click.echo(new_key())


@command.command("list")
@url_option
@json_option
def list_(url: str | None, as_json: bool) -> None:
    """List the keys: name, id, role, groups."""
    reply = run(_call("GET", "/api/keys", url=url))
    if as_json:
        print_json(reply)
    for key in [] if as_json else reply["keys"]:
        groups = ", ".join(key["groups"]) or "-"
        console.print(f"{key['name']}  {key['id']}  {key['role']}  {groups}  {key['created_at'][:10]}", markup=False)


@command.command()
@click.argument("name")
@click.option("--groups", help="Comma-separated groups, instead of those it has.")
@role_option
@url_option
@json_option
def change(name: str, groups: str | None, role: Role | None, url: str | None, as_json: bool) -> None:
    """Change a key's groups or role. What its holder has open ends, and has the new rights when it is opened again."""
    wanted = {**({} if groups is None else {"groups": _names(groups)}), **({"role": role} if role else {})}
    changed = run(_call("PUT", _address(name), json=wanted, url=url))
    if as_json:
        print_json(changed)


@command.command()
@click.argument("name")
@url_option
@json_option
def rotate(name: str, url: str | None, as_json: bool) -> None:
    """Make another key for the same holder, who keeps documents and answers. The one before stops working."""
    _show(run(_call("POST", _address(name) + "/rotate", url=url)), as_json=as_json)


@command.command()
@click.argument("name")
@url_option
def revoke(name: str, url: str | None) -> None:
    """Revoke a key; it stops working within a second. A key made under its name later is somebody else's."""
    run(_call("DELETE", _address(name), url=url))


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _address(name: str) -> str:
    return f"/api/keys/{quote(name, safe='')}"


def _show(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        click.echo(made["key"])
        click.echo("Keep it now: it is not shown again. Send it as `Authorization: Bearer <key>`.", err=True)


async def _create_in(database: str, wanted: dict[str, Any]) -> KeyView:
    async with open_api_keys(database, setting="--database") as keys:
        return await keys.create(**{**wanted, "groups": tuple(wanted["groups"])})


async def _call(method: str, path: str, *, url: str | None, json: object = None) -> dict[str, Any]:
    async with connect(url=url) as client:
        reply: dict[str, Any] = await client.call(method, path, json=json)
        return reply
