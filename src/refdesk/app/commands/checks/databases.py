"""PostgreSQL, for each setting that names one: whether it answers, does its work, has pgvector, and connections enough."""

import asyncio
from collections import defaultdict

import msgspec
import psycopg

from refdesk.app.commands.checks.findings import CONNECT_TIMEOUT_S, Finding, Findings
from refdesk.app.connection_budget import needed
from refdesk.contracts.errors import Unavailable
from refdesk.index.pgvector.extension import Vector, look_at_vector
from refdesk.outside.postgres.database import connection_string
from refdesk.outside.postgres.probe import STATEMENT_S, DatabaseProbe
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import PREFIX, Settings

SERVER = "database_url"
"""Where `refdesk up` makes the three databases."""
DATABASES = ("documents_database_url", "index_database_url", "access_database_url")

_CONNECTIONS = (
    b"SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
)


class _Seen(msgspec.Struct, frozen=True):
    """A database that answers. ``server`` tells it from those elsewhere; ``connections``: what it gives to all."""

    server: tuple[str, int]
    connections: int
    version: int
    vector: Vector


async def check_databases(loaded: Loaded) -> Findings:
    settings = loaded.settings
    named = {name: url for name in (SERVER, *DATABASES) if (url := settings.value(name)) is not None}
    examined = await asyncio.gather(*(_examined(name, url) for name, url in named.items()))
    for finding, _ in examined:
        yield finding
    seen = {name: found for name, (_, found) in zip(named, examined, strict=True) if found is not None}
    for finding in _connections(settings, seen):
        yield finding


async def _examined(name: str, url: str) -> tuple[Finding, _Seen | None]:
    try:
        seen = await _look(url)
    except psycopg.OperationalError as error:
        mend = f"Start that server, or mend {PREFIX}{name.upper()}."
        return Finding("FAIL", _label(name), f"does not answer: {error}", mend), None
    except psycopg.Error:
        mend = f"Set {PREFIX}{name.upper()} to postgresql://user:password@host/name."
        return Finding("FAIL", _label(name), "its URL cannot be read", mend), None
    return await _judged(name, url, seen), seen


def _label(name: str) -> str:
    return name.removesuffix("_url").replace("_", " ")


async def _look(url: str) -> _Seen:
    conninfo = connection_string(url, name="refdesk doctor", statement_timeout_s=STATEMENT_S)
    async with await psycopg.AsyncConnection.connect(conninfo, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        info = connection.info
        row = await (await connection.execute(_CONNECTIONS)).fetchone()
        vector = await look_at_vector(connection)
        return _Seen((info.host, info.port), int(row[0]) if row else 0, info.server_version // 10_000, vector)


async def _judged(name: str, url: str, seen: _Seen) -> Finding:
    label, what = _label(name), f"PostgreSQL {seen.version}"
    if name in (SERVER, "index_database_url"):
        what += f" with pgvector {seen.vector.installed or seen.vector.available or 'missing'}"
        mend = seen.vector.problem(database="index" if name == SERVER else None)
        if mend is not None:
            return Finding("FAIL", label, what, mend)
    if name == SERVER:
        return Finding("ok", label, what)
    probe = DatabaseProbe(url, part=label, read=b"SELECT 1", writes=name != "access_database_url")
    try:
        said = await probe.look()
    except Unavailable as error:
        return Finding("FAIL", label, error.message, "Give that server space, or name the primary one.")
    finally:
        await probe.close()
    return (
        Finding("warn", label, said, "Name the primary server, or make it writable.")
        if said
        else Finding("ok", label, what)
    )


def _connections(settings: Settings, seen: dict[str, _Seen]) -> list[Finding]:
    """What one process of each service may hold, beside what each server gives."""
    by_server: dict[tuple[str, int], set[str]] = defaultdict(set)
    given: dict[tuple[str, int], int] = {}
    for name, found in seen.items():
        by_server[found.server] |= set(DATABASES) if name == SERVER else {name}
        if name == "documents_database_url" and settings.databases.access_url is None:
            by_server[found.server].add("access_database_url")
        given[found.server] = found.connections
    findings = []
    for server, databases in by_server.items():
        count = needed(settings, databases)
        what = f"{given[server]} for all; one process of each service may hold {count}"
        name = f"connections to {server[0]}:{server[1]}"
        mend = "Raise its max_connections, or lower REFDESK_…_CONNECTIONS_MAX (docs/howto/operate.md)."
        findings.append(Finding("ok", name, what) if count <= given[server] else Finding("warn", name, what, mend))
    return findings
