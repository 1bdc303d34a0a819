"""``refdesk documents``, ``indexer``, ``assistant``: one service in this process, its parts named by URL settings."""

import asyncio
from importlib import import_module

import click
import uvloop

from refdesk.app import server
from refdesk.app import settings as app_settings
from refdesk.app.commands.reachable import require_addresses
from refdesk.outside import telemetry, tracing


def _service(name: str, summary: str, *, module: str, hidden: bool = False) -> click.Command:
    """The module is imported when the command runs: the Document Service must not load the AI side's parts."""

    @click.command(name, help=summary, hidden=hidden)
    @click.option("--host", help="Address to listen on (default: REFDESK_HOST or 127.0.0.1).")
    @click.option("--port", type=int, help="Port to listen on (default: REFDESK_PORT or 8080).")
    def command(host: str | None, port: int | None) -> None:
        settings = app_settings.load({"host": host, "port": port}).settings
        require_addresses(settings)
        server.configure_logging()
        telemetry.describe_build(name)
        tracing.configure(settings.otlp_url, service=name)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(import_module(module).serve(settings))

    return command


documents = _service("documents", "Run the Document Service.", module="refdesk.app.services.documents")
indexer = _service("indexer", "Run an indexer: parse, chunk, embed, store.", module="refdesk.app.services.indexer")
assistant = _service("assistant", "Run the AI Service's api: answers.", module="refdesk.app.services.assistant")
desk = _service(
    "desk",
    "Run the Document Service and the api on one port (what `up` starts).",
    module="refdesk.app.services.desk",
    hidden=True,
)
