"""``refdesk up``: everything on one machine, on one port."""

import asyncio
import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import click
import msgspec

from refdesk.app import samples, server, tiny_llm
from refdesk.app import settings as app_settings
from refdesk.app.children import Child, ChildEvent
from refdesk.app.commands.client import operator_key_path, run
from refdesk.app.processes import Program
from refdesk.app.settings import Settings
from refdesk.app.stack import Stack, StackOptions, running_stack

START_TIMEOUT_S = 90.0
PROBE_TIMEOUT_S = 3.0
TINY_LLM = "smollm2"
SAMPLES_MARK = "samples-loaded"


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything is kept.")
@click.option("--host", help="Address to listen on (default: 127.0.0.1).")
@click.option("--port", type=int, help="Port for people (default: 8080).")
@click.option("--no-samples", is_flag=True, help="Do not load the sample handbook at the first start.")
@click.option("--llm", help=f"An OpenAI-compatible URL, or `{TINY_LLM}` for the packaged tiny model.")
def command(data_dir: Path | None, host: str | None, port: int | None, no_samples: bool, llm: str | None) -> None:
    """Start everything on this machine: servers, services and the web page."""
    overrides = {"data_dir": data_dir, "host": host, "port": port}
    if llm != TINY_LLM:
        overrides["llm_url"] = llm
    settings = app_settings.load(overrides).settings
    run(_up(settings, with_samples=not no_samples, tiny_llm=llm == TINY_LLM))


async def _up(settings: Settings, *, with_samples: bool, tiny_llm: bool) -> None:
    server.bind(settings.host, settings.port).close()
    options = StackOptions(
        data_dir=settings.data_dir,
        database_url=settings.database_url,
        nats_url=settings.nats_url,
        valkey_url=settings.valkey_url,
    )
    with server.stop_signals() as stopping:
        starting = asyncio.create_task(_run(settings, options, stopping, with_samples=with_samples, tiny_llm=tiny_llm))
        await starting


async def _run(
    settings: Settings, options: StackOptions, stopping: asyncio.Event, *, with_samples: bool, tiny_llm: bool
) -> None:
    async with running_stack(options, on_event=_say) as stack:
        key = _operator_key(settings)
        if tiny_llm:
            settings = await _start_tiny_llm(stack, settings)
        url = f"http://{_reachable(settings.host)}:{settings.port}"
        await stack.children.start(*_services(settings, stack, url=url, operator_key=key))
        with _operator_key_file(settings.port, key):
            if with_samples:
                await _load_samples(settings, url=url, operator_key=key)
            await _announce(settings, url)
            await stopping.wait()
            click.echo("Stopping.")


def _services(settings: Settings, stack: Stack, *, url: str, operator_key: str) -> list[Child]:
    known = msgspec.structs.replace(settings, documents_url=url, operator_key=operator_key)
    environment = {**app_settings.to_environment(known), **stack.urls.environment()}

    def service(name: str, *, healthy_at: str | None = None) -> Child:
        async def healthy() -> bool:
            return healthy_at is None or await _answers(healthy_at)

        program = Program(
            name=name,
            command=(sys.executable, "-m", "refdesk", name),
            environment=environment,
            stop_grace_s=server.GRACE_S + 5.0,
        )
        return Child(program=program, healthy=healthy, start_timeout_s=START_TIMEOUT_S)

    return [service("desk", healthy_at=f"{url}/health/ready"), service("indexer")]


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _start_tiny_llm(stack: Stack, settings: Settings) -> Settings:
    tiny_llm.model_path()
    port = _free_port()
    url = f"http://127.0.0.1:{port}/v1"
    program = Program(name="tiny-llm", command=(sys.executable, "-m", "refdesk.app.tiny_llm", str(port)))

    async def healthy() -> bool:
        return await _answers(f"http://127.0.0.1:{port}/health")

    await stack.children.start(Child(program=program, healthy=healthy, start_timeout_s=START_TIMEOUT_S))
    click.echo("SmolLM2 135M writes the answers. It shows how generation feels; it is far too small to be trusted.")
    return msgspec.structs.replace(settings, llm_url=url, llm_model=TINY_LLM, llm_context_tokens_max=tiny_llm.CONTEXT_TOKENS)


def _free_port() -> int:
    with contextlib.closing(server.bind("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _operator_key(settings: Settings) -> str:
    """The key in the data directory, made at the first start; a setting wins."""
    if settings.operator_key:
        return settings.operator_key
    path = settings.data_dir / "operator.key"
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text().strip()


@contextlib.contextmanager
def _operator_key_file(port: int, key: str) -> Iterator[None]:
    """Lets this account's command line find the key while we run."""
    path = operator_key_path(port)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(key)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def _load_samples(settings: Settings, *, url: str, operator_key: str) -> None:
    mark = settings.data_dir / SAMPLES_MARK
    if not mark.exists():
        count = await samples.load(url, operator_key=operator_key)
        mark.touch()
        click.echo(f"Loaded {count} sample documents of a fictional company (--no-samples leaves them out).")


async def _announce(settings: Settings, url: str) -> None:
    click.echo(f"Refdesk is ready at {url}")
    if settings.llm_url is None:
        click.echo("Answers are quoted from the documents. REFDESK_LLM_URL, or --llm URL, brings a language model.")
    click.echo("While no API key exists, whoever is on this machine is administrator (`refdesk keys create NAME`).")
    click.echo("Ctrl-C stops everything.")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _say(event: ChildEvent) -> None:
    click.echo(event.message, err=True)
