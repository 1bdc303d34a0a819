"""``refdesk feedback``: what askers have rated, and the gaps that their questions show."""

from typing import Any

import click

from refdesk.app.commands.client import Client, connect, console, json_option, print_json, run, url_option

PAGE = 200


@click.command()
@click.option("--rating", type=click.Choice(["up", "down"]), help="Only what was rated so.")
@click.option(
    "--gaps", is_flag=True, help="The questions that the documents do not answer, those that are alike together."
)
@url_option
@json_option
def command(rating: str | None, gaps: bool, url: str | None, as_json: bool) -> None:
    """Show what askers have rated, oldest first; or, with --gaps, what the documents do not answer."""
    if gaps and rating:
        raise click.UsageError("--rating is about ratings: give it without --gaps.")
    run(_gaps(url=url, as_json=as_json) if gaps else _rated(rating, url=url, as_json=as_json))


async def _rated(rating: str | None, *, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        rated = await _all(client, "/api/feedback", "rated", {} if rating is None else {"rating": rating})
    if as_json:
        print_json({"rated": rated})
        return
    for one in rated:
        thumb = "useful" if one["rating"] == "up" else "not useful"
        console.print(f"{one['rated_at'][:10]} {thumb}: {one['question']}", markup=False, soft_wrap=True)
        if one["comment"]:
            console.print(f"  {one['comment']}", markup=False, soft_wrap=True)
    if not rated:
        console.print("Nothing was rated.")


async def _gaps(*, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        gaps = await _all(client, "/api/gaps", "gaps", {"state": "all"})
    if as_json:
        print_json({"gaps": gaps})
        return
    for one in gaps:
        answered = f" (document {one['answered_by']} may answer it)" if one.get("answered_by") else ""
        console.print(f"{one['questions']:>5}  {one['question']}{answered}", markup=False, soft_wrap=True)
    if not gaps:
        console.print("No question was left without an answer.")


async def _all(client: Client, path: str, name: str, params: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await client.call("GET", path, params={**params, "limit": str(PAGE), "cursor": cursor})
        found += page[name]
        cursor = page.get("next_cursor")
    return found
