"""``refdesk indexer``, ``assistant`` and ``documents``: one service in this process, its parts named by URL settings."""

import asyncio
import logging
from collections.abc import Callable
from importlib import import_module

import click
import uvloop

from refdesk.app.commands.reachable import require_addresses
from refdesk.outside import logs, telemetry, tracing
from refdesk.outside.cancellation import heed_cancellation
from refdesk.settings import loading

logger = logging.getLogger(__name__)


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where a service listens."""
    command = click.option("--port", type=int, help="Port to listen on (default: REFDESK_PORT or 8080).")(command)
    return click.option("--host", help="Address to listen on (default: REFDESK_HOST or 127.0.0.1).")(command)


def run_service(name: str, *, module: str, host: str | None, port: int | None) -> None:
    """Until it is stopped. The module is imported only now: the Document Service must not load the AI side's parts."""
    loaded = loading.load({"host": host, "port": port})
    settings = loading.with_origins(loaded)
    require_addresses(settings)
    logs.configure(form=settings.telemetry.log_form, level=settings.telemetry.log_level)
    for mistake in loaded.mistaken:
        logger.warning(mistake)
    telemetry.describe_build(name)
    tracing.configure(settings.telemetry.otlp_url, service=name)
    heed_cancellation()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(import_module(module).serve(settings))


def _service(name: str, summary: str, *, hidden: bool = False) -> click.Command:
    @click.command(name, help=summary, hidden=hidden)
    @service_options
    def command(host: str | None, port: int | None) -> None:
        run_service(name, module=f"refdesk.app.services.{name}", host=host, port=port)

    return command


indexer = _service("indexer", "Run an indexer: parse, chunk, embed, store.")
assistant = _service("assistant", "Run the AI Service's api: answers.")
desk = _service("desk", "Run the Document Service and the api on one port (what `up` starts).", hidden=True)
