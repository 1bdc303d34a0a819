"""Whether the servers that were named take connections: asked before anything is started, where it can still be said."""

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from refdesk.app.settings import Settings
from refdesk.contracts.errors import ConfigurationError

CONNECT_TIMEOUT_S = 3.0
NATS_PORT = 4222
VALKEY_PORT = 6379


async def require_servers(settings: Settings) -> None:
    """Raises ConfigurationError when REFDESK_NATS_URL or REFDESK_VALKEY_URL names a server that takes no connection."""
    if settings.nats_url is not None:
        await _require("NATS", settings.nats_url.split(","), setting="REFDESK_NATS_URL", port=NATS_PORT)
    if settings.valkey_url is not None:
        await _require("Valkey", [settings.valkey_url], setting="REFDESK_VALKEY_URL", port=VALKEY_PORT)


async def _require(server: str, urls: Sequence[str], *, setting: str, port: int) -> None:
    """One of several servers is enough."""
    refusals = [await _refusal(url.strip(), port=port) for url in urls]
    if all(refusals):
        raise ConfigurationError(
            f"{server} does not answer: {'; '.join(map(str, refusals))}. "
            f"Start it, or mend {setting}; without that setting Refdesk starts its own."
        )


async def _refusal(url: str, *, port: int) -> str | None:
    """Why no connection can be made; None when one was."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        where = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or port}"
    except ValueError as error:
        return str(error)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if parts.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(parts.path)
            else:
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or port)
    except TimeoutError:
        return f"{where} does not take a connection within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        return f"{where}: {error.strerror or error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None
