"""`refdesk up`: the embedded servers, then Refdesk's own services, until a signal says stop.

    servers, all at once ─▶ their databases ─▶ services, all at once ─▶ ready ─▶ SIGINT, SIGTERM or SIGHUP
                                                                                       │
                  servers stop ◀─ services stop ◀─────────────────────────────────────┘   a second signal kills

The supervisor itself imports no AI module and serves no requests: it is what is still there when everything else fails.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from refdesk.app.embedded.children import Child, ChildEvent, OnEvent, ignore
from refdesk.app.embedded.processes import Program
from refdesk.app.embedded.pulse import Pulse
from refdesk.app.embedded.stack import StackOptions, StackUrls, running_stack

PROBE_TIMEOUT_S = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OnReady = Callable[[StackUrls], None]


@dataclass(frozen=True, kw_only=True)
class Service:
    """One of Refdesk's own processes.

    It is healthy when an HTTP GET of `health_url` answers 2xx. After that it is killed and started again when `live_url`, where
    it has one, gives no answer at all for `silence_s_max` (`pulse`). SIGTERM asks it to stop. Its environment is ours, then the
    addresses of the stack (`StackUrls.environment`), then `environment`.
    """

    name: str
    command: Sequence[str]
    health_url: str
    live_url: str | None = None
    silence_s_max: float = 8.0
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    stop_grace_s: float = 15.0

    def child(self, urls: StackUrls) -> Child:
        return Child(
            program=Program(
                name=self.name,
                command=self.command,
                environment={**urls.environment(), **self.environment},
                stop_grace_s=self.stop_grace_s,
            ),
            healthy=lambda: answers(self.health_url),
            pulse=None if self.live_url is None else _pulse(self.live_url, silence_s_max=self.silence_s_max),
            start_timeout_s=self.start_timeout_s,
        )


def _pulse(url: str, *, silence_s_max: float) -> Pulse:
    return Pulse(beats=lambda: is_alive(url), look_s_max=PROBE_TIMEOUT_S, silence_s_max=silence_s_max)


def _no_news(urls: StackUrls) -> None:
    """For callers that need not know when everything is ready."""


async def supervise(
    options: StackOptions, *, services: Sequence[Service], on_event: OnEvent = ignore, on_ready: OnReady = _no_news
) -> None:
    """Run the stack and the services until a stop signal; return when every process has ended.

    The first signal stops everything in reverse order, each with its grace; the second kills what is left. Call it from
    the main thread. Raises ConfigurationError, after stopping what was started, when something cannot be started.
    """
    hurry = asyncio.Event()
    running = asyncio.ensure_future(_run(options, services, on_event=on_event, on_ready=on_ready, hurry=hurry))
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            hurry.set()
        else:
            stopping.set()
            running.cancel()
            on_event(ChildEvent(child="refdesk", state="stopping", message="Stopping; a second Ctrl-C does not wait."))

    with _handled(on_signal):
        try:
            await running
        except asyncio.CancelledError:
            if not stopping.is_set():
                raise


async def _run(
    options: StackOptions, services: Sequence[Service], *, on_event: OnEvent, on_ready: OnReady, hurry: asyncio.Event
) -> None:
    async with running_stack(options, on_event=on_event, hurry=hurry) as stack:
        await stack.children.start(*(service.child(stack.urls) for service in services))
        on_ready(stack.urls)
        await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def _handled(on_signal: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def answers(url: str) -> bool:
    """True when an HTTP GET of `url` is answered with a 2xx status."""
    try:
        version, _, status = (await _first_line(url)).partition(b" ")
    except (OSError, ValueError):  # ValueError: a line longer than any status line
        return False
    return version.startswith(b"HTTP/1.") and status.startswith(b"2")


async def is_alive(url: str) -> bool:
    """True when a connection is taken and something comes of it: a refusal or a closed door is a sign of life, too.

    A frozen process takes connections as well, for the kernel does, but nothing ever comes of them.
    """
    try:
        await _first_line(url)
    except (TimeoutError, ConnectionRefusedError):
        return False
    except (OSError, ValueError):
        return True
    return True


async def _first_line(url: str) -> bytes:
    """Of the reply to an HTTP GET of `url`. Raises OSError, TimeoutError among them."""
    address = urlsplit(url)
    path = address.path or "/"
    target = f"{path}?{address.query}" if address.query else path
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(address.hostname, address.port or 80)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
