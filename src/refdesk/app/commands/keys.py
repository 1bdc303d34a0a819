"""``refdesk keys``: make, list, change and revoke API keys."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from urllib.parse import quote

import click
import msgspec
from msgspec import UNSET

from refdesk.access.keys import KeyView, new_key, open_api_keys
from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option
from refdesk.app.key_routes import NewKey
from refdesk.contracts.access import Role

role_option = click.option(
    "--role", type=click.Choice(get_args(Role)), help="What its holder may do (default: writer). See `Keys and access`."
)


_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SPAN = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
NEVER = "never"


class Expiry(click.ParamType[str | None]):
    """A span from now on as the time when it ends; None for ``never``."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in (UNSET, NEVER):
            return UNSET if value is UNSET else None
        span = _SPAN.fullmatch(str(value))
        if span is None:
            self.fail(f"{value!r} is no span: give hours, days or weeks, as in 12h, 90d, 4w, or `{NEVER}`.", param, ctx)
        return (datetime.now(UTC) + int(span[1]) * _UNITS[span[2]]).isoformat()


expires_option = click.option("--expires", type=Expiry(), default=UNSET, help="When it ends: 12h, 90d, 4w, or `never`.")


@click.group()
def command() -> None:
    """Make, list, change and revoke API keys."""


@command.command()
@click.argument("name")
@click.option("--groups", default="", help="Comma-separated groups, by which documents name readers.")
@role_option
@expires_option
@click.option("--service", is_flag=True, help="A program's key, not a person's.")
@click.option("--principal", metavar="ID", help="Whose it is, where that is somebody who is there already.")
@click.option("--database", help="Write into this access database itself; no Refdesk needs to run.")
@url_option
@json_option
def create(groups: str, database: str | None, url: str | None, as_json: bool, **given: Any) -> None:
    """Make a key. It is shown once; only its hash is kept."""
    if database is not None and url is not None:
        raise click.UsageError("--database writes by itself; --url asks a running Refdesk. Give one of them.")
    wanted = _wanted(groups=_names(groups), **given)
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
    """List the keys: name, id, role, groups, when it was made, when it ends and when it was last used."""
    reply = run(_call("GET", "/api/keys", url=url))
    if as_json:
        print_json(reply)
    for key in [] if as_json else reply["keys"]:
        console.print(_described(key), markup=False, soft_wrap=True)


@command.command()
@click.argument("name")
@click.option("--groups", help="Comma-separated groups, instead of those it has.")
@role_option
@expires_option
@url_option
@json_option
def change(name: str, groups: str | None, url: str | None, as_json: bool, **given: Any) -> None:
    """Change a key's groups, role or end. What its holder has open ends with a right that is taken away."""
    wanted = _wanted(groups=None if groups is None else _names(groups), **given)
    changed = run(_call("PATCH", _address(name), json=wanted, url=url))
    if as_json:
        print_json(changed)


@command.command()
@click.argument("name")
@expires_option
@url_option
@json_option
def rotate(name: str, url: str | None, as_json: bool, **given: Any) -> None:
    """Make another key for the same holder, who keeps documents and answers.

    The one before stops working, after REFDESK_KEY_ROTATION_GRACE_S. Without --expires the new one lives as long as that was to.
    """
    _show(run(_call("POST", _address(name) + "/rotate", json=_wanted(**given), url=url)), as_json=as_json)


@command.command()
@click.argument("name")
@url_option
def revoke(name: str, url: str | None) -> None:
    """Revoke a key; it stops working within a second. A key made under its name later is somebody else's."""
    run(_call("DELETE", _address(name), url=url))


def _wanted(*, expires: Any = UNSET, service: bool = False, **given: Any) -> dict[str, Any]:
    """The body of a request, without what was not given."""
    told = {name: value for name, value in given.items() if value is not None}
    end = {} if expires is UNSET else {"expires_at": expires}
    return told | end | ({"holder": "service"} if service else {})


def _described(key: dict[str, Any]) -> str:
    """One line: what is not there is a dash."""
    days = [key.get(name) for name in ("created_at", "expires_at", "last_used_at")]
    made, ends, used = (day[:10] if day else "-" for day in days)
    groups = ", ".join(key["groups"]) or "-"
    grace = f"  the key before until {key['previous_until'][:16]}" if key.get("previous_until") else ""
    who = f"{key['name']}  {key['id']}  {key['role']}  {key['holder']}  {groups}"
    return f"{who}  made {made}  ends {ends}  used {used}{grace}"


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
        return await keys.create(**msgspec.structs.asdict(msgspec.convert(wanted, NewKey)))


async def _call(method: str, path: str, *, url: str | None, json: object = None) -> dict[str, Any]:
    async with connect(url=url) as client:
        reply: dict[str, Any] = await client.call(method, path, json=json)
        return reply
