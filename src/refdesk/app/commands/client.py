"""The command line's side of the HTTP API."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
import msgspec
import platformdirs
from rich.console import Console

from refdesk.contracts import hidden_characters
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import ConfigurationError, RefdeskError
from refdesk.contracts.hidden_characters import clean
from refdesk.outside.cancellation import heed_cancellation
from refdesk.settings import loading

if TYPE_CHECKING:
    import aiohttp  # otherwise imported by what connects: `--help` and misuse do not

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0


class _CleanConsole(Console):
    """Prints what comes from the service as text: no terminal obeys what a document, a model or a file's name says."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(one) if isinstance(one, str) else one for one in objects), **options)


console = _CleanConsole(highlight=False)
progress_console = _CleanConsole(stderr=True, highlight=False)


def say(text: str, *, end: str = "\n", err: bool = False) -> None:
    """Print as it is what needs no layout, without what a terminal would obey."""
    click.echo(clean(text) + end, nl=False, err=err)


class CallFailed(RefdeskError):
    """The call to Refdesk failed."""

    code = "call-failed"

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed a little later."""
        return bool(self.details.get("passing"))

    @property
    def refused_with(self) -> int | None:
        """The reply's status, where there was a reply."""
        return self.details.get("status")


TOO_MANY = 429
PASSING_STATUSES = frozenset({TOO_MANY, 503})
PATIENCE_S_MAX = 3600.0
"""How long in all one operation waits as long as it is told to (429); a quota of a day is not waited for."""
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Between attempts while the service has a part that is just restarting."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    id: str | None
    name: str
    data: bytes


class Client:
    """Calls one running Refdesk. Problems become CallFailed with the problem's own words."""

    def __init__(self, session: "aiohttp.ClientSession", *, url: str) -> None:
        self._session = session
        self.url = url.rstrip("/")

    async def call(
        self, method: str, path: str, *, json: Any = None, params: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The decoded JSON reply, None for an empty one."""
        async with self.open(method, path, json=json, params=params, headers=headers) as response:
            body = await response.read()
        try:
            return msgspec.json.decode(body) if body else None
        except msgspec.DecodeError as error:
            raise CallFailed(f"What answers at {self.url} is not Refdesk. Name another with --url.") from error

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Any = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        import aiohttp

        sent = {"Accept": "*/*", **(headers or {})}
        if json is not None:
            data, sent["Content-Type"] = msgspec.json.encode(json), "application/json"
        try:
            async with self._session.request(
                method, self.url + path, data=data, params=params, headers=sent
            ) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                yield response
        except aiohttp.ClientConnectorError as error:
            raise CallFailed(
                f"Nothing answers at {self.url}. Start Refdesk with `refdesk up`, or name another with --url."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(f"The call to {self.url}{path} broke off: {error!r}.", passing=True) from error

    async def events(self, method: str, path: str, *, json: Any = None) -> AsyncGenerator[ServerSentEvent, None]:
        """Server-sent events as they arrive."""
        async with self.open(method, path, json=json, headers={"Accept": "text/event-stream"}) as response:
            fields: dict[bytes, bytes] = {}
            async for line in response.content:
                name, _, value = line.rstrip(b"\r\n").partition(b":")
                if line.strip():
                    fields[name] = value.removeprefix(b" ")
                elif b"data" in fields:
                    number = fields.get(b"id")
                    yield ServerSentEvent(
                        number.decode() if number else None, fields.get(b"event", b"message").decode(), fields[b"data"]
                    )
                    fields = {}
                else:
                    fields = {}


async def _refusal(response: "aiohttp.ClientResponse") -> CallFailed:
    body = await response.read()
    try:
        detail = msgspec.json.decode(body)["detail"]
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = body[:500].decode(errors="replace") or response.reason
    said = response.headers.get("Retry-After", "")
    retry_after_s = int(said) if said.isdecimal() and len(said) < 10 else None
    passing = response.status in PASSING_STATUSES
    return CallFailed(str(detail), passing=passing, status=response.status, retry_after_s=retry_after_s)


@contextmanager
def unless_passing() -> Iterator[None]:
    """Lets a failure pass that the next look may not find."""
    try:
        yield
    except CallFailed as error:
        if not error.passing:
            raise


async def patiently(
    operation: Callable[[], Awaitable[T]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> T:
    """The operation's result, tried again while its refusal is a passing one: for what may be done twice.

    A refusal for asking too often (429) is waited out as long as it says. Any other is tried a few times, and not before it says.
    """
    delays_s, left_s = iter(RETRY_DELAYS_S), PATIENCE_S_MAX
    while True:
        try:
            return await operation()
        except CallFailed as error:
            told_s = error.retry_after_s or 0
            waits = error.refused_with == TOO_MANY and told_s > 0
            delay_s = told_s if waits else next(delays_s, None)
            if not error.passing or delay_s is None or told_s > left_s:
                raise
        left_s -= told_s
        await sleep(max(delay_s, told_s))


@asynccontextmanager
async def connect(*, url: str | None = None) -> AsyncIterator[Client]:
    """A client of the Refdesk at ``url`` (default: REFDESK_URL), with REFDESK_API_KEY or this account's operator key."""
    settings = loading.load({"url": url}).settings
    async with client_of(
        settings.client.url, key=settings.client.api_key or operator_key_of(settings.client.url)
    ) as client:
        yield client


@asynccontextmanager
async def client_of(url: str, *, key: str | None) -> AsyncIterator[Client]:
    """A client of the Refdesk at ``url`` with this key, or with none."""
    import aiohttp

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, read_bufsize=1 << 18) as session:
        yield Client(session, url=url)


def operator_key_path(port: int) -> Path:
    """Where `refdesk up` leaves its operator key for the command line of the same account."""
    return platformdirs.user_state_path("refdesk") / f"operator-{port}.key"


def ports_of_this_account() -> list[int]:
    """Where a Refdesk runs that this account has started by `refdesk up`."""
    names = (file.stem.removeprefix("operator-") for file in operator_key_path(0).parent.glob("operator-*.key"))
    return sorted(int(name) for name in names if name.isdecimal())


def operator_key_of(url: str) -> str | None:
    """The operator key of a Refdesk that this account started on this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is not an address. Give one such as http://127.0.0.1:8080.") from error
    if not is_loopback(host) or port is None:
        return None
    path = operator_key_path(port)
    return path.read_text().strip() if path.is_file() else None


def run(main: Coroutine[Any, Any, T]) -> T:
    heed_cancellation()
    return asyncio.run(main)


def print_json(value: Any) -> None:
    """One JSON object on the last line. What a terminal would obey is written as JSON's escapes: nothing is lost."""
    click.echo(hidden_characters.escaped(msgspec.json.encode(value).decode()))


url_option = click.option("--url", help="The running Refdesk (default: REFDESK_URL or http://127.0.0.1:8080).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
