"""``refdesk status``: what is there, what is waiting and why, what failed."""

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option
from refdesk.app.commands.waiting import why

LISTED_MAX = 20


@click.command()
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """Show how many documents are searchable, waiting and failed, and why they wait or failed."""
    run(_status(url=url, as_json=as_json))


async def _status(*, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        backlog = await client.call("GET", "/api/documents/backlog")
        pending, failed = [
            (await client.call("GET", "/api/documents", params={"state": state, "limit": str(LISTED_MAX)}))["documents"]
            for state in ("pending", "failed")
        ]
    if as_json:
        print_json({**backlog, "waiting": pending, "failures": failed})
        return
    console.print(
        f"{backlog['documents_indexed']} indexed, {backlog['documents_pending']} pending, "
        f"{backlog['documents_failed']} failed; the index is {backlog['index_lag_seconds']:.1f} s behind."
    )
    for document in pending:
        console.print(f"waiting: {document['title']}: {why(document)}", markup=False, soft_wrap=True)
    for document in failed:
        console.print(f"failed: {document['title']}: {document['failure']}", markup=False, soft_wrap=True)
