"""``refdesk status``: what is there, what is waiting, what failed."""

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option

LISTED_MAX = 20


@click.command()
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """Show how many documents are searchable, waiting and failed, and why those failed."""
    run(_status(url=url, as_json=as_json))


async def _status(*, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        backlog = await client.call("GET", "/api/documents/backlog")
        failed = await client.call("GET", "/api/documents", params={"state": "failed", "limit": str(LISTED_MAX)})
    if as_json:
        print_json({**backlog, "failures": failed["documents"]})
        return
    console.print(
        f"{backlog['documents_indexed']} indexed, {backlog['documents_pending']} pending, "
        f"{backlog['documents_failed']} failed; the index is {backlog['index_lag_seconds']:.1f} s behind."
    )
    for document in failed["documents"]:
        console.print(f"failed: {document['title']}: {document['failure']}", markup=False, soft_wrap=True)
