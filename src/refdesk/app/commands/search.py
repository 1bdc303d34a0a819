"""``refdesk search QUERY``: the passages that match."""

import click

from refdesk.app.commands.ask import checked_by_record
from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option


@click.command()
@click.argument("query")
@click.option("--limit", default=10, show_default=True, help="How many passages.")
@url_option
@json_option
def command(query: str, limit: int, url: str | None, as_json: bool) -> None:
    """Show the passages that match a query, best first."""
    run(_search(query, limit=limit, url=url, as_json=as_json))


async def _search(query: str, *, limit: int, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        reply = await client.call("POST", "/api/search", json={"query": query, "limit": limit})
    if as_json:
        print_json(reply)
        return
    for hit in reply["hits"]:
        page = f", page {hit['page']}" if "page" in hit else ""
        console.print(f"{hit['n']}. {hit['title']}{page}", style="bold", markup=False)
        console.print(f"   {' '.join(hit['passage'].split())[:300]}", markup=False, soft_wrap=True)
    if not reply["hits"]:
        console.print("Nothing found.")
    if "access_as_of" in reply:
        console.print(checked_by_record(reply["access_as_of"]), markup=False)
