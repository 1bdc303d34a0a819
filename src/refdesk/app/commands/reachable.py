"""Whether the servers that were named take connections: asked before anything is started, where it can still be said."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.postgres.database import require_database
from refdesk.outside.valkey.forms import doors
from refdesk.settings.redaction import shown
from refdesk.settings.tree import PREFIX, Settings

CONNECT_TIMEOUT_S = 3.0
NATS_PORT = 4222
VALKEY_PORT = 6379


WEB = frozenset({"http", "https"})
ADDRESSES: Mapping[str, Collection[str]] = {
    "nats_url": frozenset({"", "nats", "tls", "ws", "wss"}),
    "documents_url": WEB,
    "embedding_url": WEB,
    "embedding_previous_url": WEB,
    "llm_url": WEB,
    "rerank_url": WEB,
}
"""Settings that name servers, several separated by commas, and the schemes that each may have."""


def require_addresses(settings: Settings) -> None:
    """Raises ConfigurationError when a setting is not an address: looked at before anything waits for what is there."""
    for name, schemes in ADDRESSES.items():
        value = settings.value(name)
        for url in value.split(",") if value else ():
            if not _is_address(url.strip(), schemes=schemes):
                example = "nats://host:4222" if "nats" in schemes else "http://host:8080"
                raise ConfigurationError(
                    f"{PREFIX}{name.upper()}={shown(name, url)!r} is not an address. Give one such as {example}."
                )


def _is_address(url: str, *, schemes: Collection[str]) -> bool:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def require_servers(settings: Settings) -> None:
    """Raises ConfigurationError when a setting names a server that takes no connection."""
    if settings.databases.url is not None:
        wait_s = settings.databases.wait_s
        await require_database(settings.databases.url, setting="REFDESK_DATABASE_URL", wait_s=wait_s)
        _require_address(settings.databases.url)
    if settings.nats.url is not None:
        await _require("NATS", settings.nats.url.split(","), setting="REFDESK_NATS_URL", port=NATS_PORT)
    if settings.valkey.url is not None:
        await _require("Valkey", doors(settings.valkey.url), setting="REFDESK_VALKEY_URL", port=VALKEY_PORT)


def _require_address(database_url: str) -> None:
    """libpq takes more than addresses, but of these one can tell another database's on the same server."""
    if "://" not in database_url:
        raise ConfigurationError(
            "REFDESK_DATABASE_URL is not an address. Give one such as postgresql://user:password@host/postgres."
        )


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
    except ValueError:  # whose words may be a password's
        return "its address cannot be read"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if parts.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(parts.path)
            else:
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or port)
    except TimeoutError:
        return f"{where} does not take a connection within {CONNECT_TIMEOUT_S:g} s"
    except (OSError, ValueError) as error:  # ValueError: no name that a host can have
        return f"{where}: {getattr(error, 'strerror', None) or error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None
