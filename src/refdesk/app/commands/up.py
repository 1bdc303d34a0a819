"""``refdesk up``: everything on one machine, on one port."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import click

from refdesk.access.first_key import read_key_file
from refdesk.app import samples, server, tiny_llm
from refdesk.app.commands.browser import open_page
from refdesk.app.commands.client import CallFailed, Client, client_of, operator_key_path, run
from refdesk.app.commands.reachable import require_addresses, require_servers
from refdesk.app.embedded.children import ChildEvent
from refdesk.app.embedded.kept_secrets import kept_secret, write_private
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackOptions, StackUrls, make_folder, writing
from refdesk.app.embedded.supervisor import Service, supervise
from refdesk.app.language_models import NOT_ASKED
from refdesk.app.local_models import find_servers, with_local_model
from refdesk.contracts.errors import RefdeskError
from refdesk.outside.embedding.prepared import prepare
from refdesk.settings import loading
from refdesk.settings.tree import PREFIX, Settings

START_TIMEOUT_S = 90.0
OPERATOR_KEY = "operator.key"
"""In the data directory, from the first start on."""
TINY_LLM = "smollm2"
LOCAL_LLM = "auto"
MODEL_ASKED_S = 150.0
"""How long the start waits, with everything else ready, to say whether the model answers."""
MODEL_LOOK_S = 1.0
TINY_LLM_OUTPUT_TOKENS = 200


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything is kept.")
@click.option("--host", help="Address to listen on (default: 127.0.0.1).")
@click.option("--port", type=int, help="Port for people (default: 8080).")
@click.option("--no-samples", is_flag=True, help="Do not load the sample handbook at the first start.")
@click.option("--no-browser", is_flag=True, help="Do not open the page at the first start on a desktop.")
@click.option(
    "--llm",
    help=f"An OpenAI-compatible URL, `{LOCAL_LLM}` for a server on this machine, or `{TINY_LLM}` for the packaged tiny model.",
)
def command(
    data_dir: Path | None, host: str | None, port: int | None, no_samples: bool, no_browser: bool, llm: str | None
) -> None:
    """Start everything on this machine: servers, services and the web page."""
    overrides = {"data_dir": data_dir, "host": host, "port": port}
    if llm not in (TINY_LLM, LOCAL_LLM):
        overrides["llm_url"] = llm
    loaded = loading.load(overrides)
    for mistake in loaded.mistaken:
        click.echo(mistake, err=True)
    settings = loading.with_origins(loaded)
    require_addresses(settings)
    settings = settings.having(port=settings.address.port or free_port())
    run(_up(settings, with_samples=not no_samples, with_browser=not no_browser, llm=llm))


async def _up(settings: Settings, *, with_samples: bool, with_browser: bool, llm: str | None) -> None:
    server.bind(settings.address.host, settings.address.port).close()
    if settings.keys.bootstrap_key_file is not None:
        read_key_file(settings.keys.bootstrap_key_file)
    await require_servers(settings)
    if llm == LOCAL_LLM:
        settings, found = await with_local_model(settings)
        click.echo(f"{settings.language_model.model} writes the answers: {found.shown}.")
    is_first_start = not (settings.places.data_dir / OPERATOR_KEY).exists()
    key = _operator_key(settings)
    if settings.embedding.url is None and settings.embedding.model is None:
        await prepare(settings.places.model_folders, say=click.echo)
    url = shown = f"http://{_reachable(settings.address.host)}:{settings.address.port}"
    if (
        settings.address.tls_certificate is not None
    ):  # its own services and this account's command line need no certificate
        settings = settings.having(plain_port=settings.address.plain_port or free_port())
        url, shown = f"http://127.0.0.1:{settings.address.plain_port}", f"https{shown.removeprefix('http')}"
    services = []
    if llm == TINY_LLM:
        services.append(_tiny_llm_service(free_port()))
        settings = _with_tiny_llm(settings, services[0])
    services += _services(settings.having(documents_url=url, operator_key=key), url=url)
    welcomes: list[asyncio.Task[None]] = []

    def on_ready(_: StackUrls) -> None:
        opened = open_page if with_browser and is_first_start else None
        welcome = _welcome(settings, url=url, shown=shown, operator_key=key, with_samples=with_samples, opened=opened)
        welcomes.append(asyncio.get_running_loop().create_task(welcome))

    with _operator_key_file(settings.address.plain_port or settings.address.port, key):
        await supervise(_stack_options(settings), services=services, on_event=_say, on_ready=on_ready)


def _stack_options(settings: Settings) -> StackOptions:
    return StackOptions(
        data_dir=settings.places.data_dir,
        database_url=settings.databases.url,
        nats_url=settings.nats.url,
        nats_monitoring_url=settings.nats.monitoring_url,
        stream_bytes_max=settings.streams.bytes_max,
        message_bytes_max=settings.streams.message_bytes_max,
        valkey_url=settings.valkey.url,
        log_files=settings.log_files,
    )


def _services(settings: Settings, *, url: str) -> list[Service]:
    indexer_port = str(free_port())
    environment = loading.to_environment(settings)
    peers = [f"indexer=http://127.0.0.1:{indexer_port}", *filter(None, [settings.services.peer_urls])]
    return [
        Service(
            name="desk",
            command=(sys.executable, "-m", "refdesk", "desk"),
            health_url=f"{url}/health/live",  # a part that is away does not mend by starting the desk again
            live_url=f"{url}/health/live",
            silence_s_max=settings.services.silence_seconds_max,
            environment={**environment, f"{PREFIX}PEER_URLS": ",".join(peers)},
            start_timeout_s=START_TIMEOUT_S,
            stop_grace_s=server.GRACE_S + 5.0,
        ),
        Service(
            name="indexer",
            command=(sys.executable, "-m", "refdesk", "indexer", "--host", "127.0.0.1", "--port", indexer_port),
            health_url=f"http://127.0.0.1:{indexer_port}/health/live",
            live_url=f"http://127.0.0.1:{indexer_port}/health/live",
            silence_s_max=settings.services.silence_seconds_max,
            environment=environment,
            start_timeout_s=START_TIMEOUT_S,
        ),
    ]


def _tiny_llm_service(port: int) -> Service:
    tiny_llm.model_path()
    return Service(
        name="tiny-llm",
        command=(sys.executable, "-m", "refdesk.app.tiny_llm", str(port)),
        health_url=f"http://127.0.0.1:{port}/health",
        start_timeout_s=START_TIMEOUT_S,
    )


def _with_tiny_llm(settings: Settings, service: Service) -> Settings:
    click.echo("SmolLM2 135M writes the answers. It shows how generation feels; it is far too small to be trusted.")
    return settings.having(
        llm_url=service.health_url.replace("/health", "/v1"),
        llm_model=TINY_LLM,
        llm_context_tokens_max=tiny_llm.CONTEXT_TOKENS,
        output_tokens_default=min(settings.questions.output_tokens_default, TINY_LLM_OUTPUT_TOKENS),
    )


async def _welcome(
    settings: Settings,
    *,
    url: str,
    shown: str,
    operator_key: str,
    with_samples: bool,
    opened: Callable[[str], None] | None,
) -> None:
    try:
        if with_samples:
            await _load_samples(settings, url=url, operator_key=operator_key)
    except (RefdeskError, aiohttp.ClientError) as error:
        click.echo(f"The sample documents could not be loaded: {error}", err=True)
    click.echo(f"Refdesk is ready at {shown}" + (f" (this account: {url})" if url != shown else ""))
    if opened is not None:
        opened(url)
    if settings.language_model.url is None:
        click.echo(f"Answers are quoted from the documents. {await _way_to_a_model(settings)}")
    if not await _has_keys(url, operator_key=operator_key):
        click.echo("While no API key exists, whoever is on this machine is administrator (`refdesk keys create NAME`).")
    click.echo("Ctrl-C stops everything.")
    if settings.language_model.url is not None:
        click.echo(await _what_the_model_does(url, operator_key=operator_key))


async def _way_to_a_model(settings: Settings) -> str:
    """In one line."""
    found = await find_servers(own_port=settings.address.port)
    if not found:
        return "REFDESK_LLM_URL, or --llm URL, brings a language model."
    return f"{found[0].shown} runs on this machine: `refdesk up --llm {LOCAL_LLM}` lets it write them."


async def _what_the_model_does(url: str, *, operator_key: str) -> str:
    """Once the assistant has asked it."""
    said = ""
    with contextlib.suppress(TimeoutError, CallFailed):
        async with asyncio.timeout(MODEL_ASKED_S), client_of(url, key=operator_key) as client:
            while (said := await _fact_of_the_model(client)) == NOT_ASKED:
                await asyncio.sleep(MODEL_LOOK_S)
    return f"The language model {said or NOT_ASKED}"


async def _fact_of_the_model(client: Client) -> str:
    return str((await client.call("GET", "/health/ready?verbose"))["facts"].get("language model", NOT_ASKED))


async def _has_keys(url: str, *, operator_key: str) -> bool:
    """Also where it cannot be looked up: nothing is said that may be untrue."""
    try:
        async with client_of(url, key=operator_key) as client:
            return bool((await client.call("GET", "/api/keys"))["keys"])
    except CallFailed:
        return True


def _operator_key(settings: Settings) -> str:
    """The key in the data directory, made with it at the first start; a setting wins."""
    with writing(settings.places.data_dir):
        make_folder(settings.places.data_dir)
        return settings.services.operator_key or kept_secret(settings.places.data_dir / OPERATOR_KEY)


@contextlib.contextmanager
def _operator_key_file(port: int, key: str) -> Iterator[None]:
    """Lets this account's command line find the key while we run; where there is no place for it, it needs one of its own."""
    path = operator_key_path(port)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, key)
    except OSError as error:
        click.echo(
            f"The command line will need REFDESK_API_KEY: its key cannot be left in {path.parent} ({error.strerror}).",
            err=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


async def _load_samples(settings: Settings, *, url: str, operator_key: str) -> None:
    if not samples.is_loaded(settings.places.data_dir):
        count = await samples.load(url, operator_key=operator_key)
        samples.mark_loaded(settings.places.data_dir)
        click.echo(f"Loaded {count} sample documents of a fictional company (--no-samples leaves them out).")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _say(event: ChildEvent) -> None:
    click.echo(event.message, err=True)
