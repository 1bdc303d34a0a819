"""``refdesk status``: what is there, what is waiting, what failed."""

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option

LISTED_MAX = 20


@click.command()
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """Show the documents by state, and whether every part answers."""
    run(_status(url=url, as_json=as_json))


async def _status(*, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        summary = await client.call("GET", "/api/documents/summary")
        failed = await client.call("GET", "/api/documents", params={"state": "failed", "limit": str(LISTED_MAX)})
    if as_json:
        print_json({**summary, "failures": failed["documents"]})
        return
    states = summary["states"]
    console.print(
        f"{states['indexed']} indexed, {states['pending']} pending, {states['failed']} failed; "
        f"searchable up to {summary['as_of'][:19]} ({summary['index_lag_seconds']:.1f} s behind)."
    )
    for document in failed["documents"]:
        console.print(f"failed: {document['title']}: {document['failure']}", markup=False, soft_wrap=True)
