"""PostgreSQL, for each setting that names one."""

import psycopg

from refdesk.app.commands.checks.findings import CONNECT_TIMEOUT_S, Finding, Findings
from refdesk.app.settings import PREFIX, Loaded

PGVECTOR_MIN = (0, 8)  # iterative scans of HNSW

PGVECTOR_SQL = b"SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


async def check_databases(loaded: Loaded) -> Findings:
    settings = loaded.settings
    for name in ("database_url", "documents_database_url", "index_database_url", "access_database_url"):
        if (url := getattr(settings, name)) is not None:
            yield await _database(url, name=name, with_vectors=name in ("database_url", "index_database_url"))


async def _database(url: str, *, name: str, with_vectors: bool) -> Finding:
    label, setting = name.removesuffix("_url").replace("_", " "), PREFIX + name.upper()
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            version = connection.info.server_version // 10_000
            row = await (await connection.execute(PGVECTOR_SQL)).fetchone()
    except psycopg.OperationalError as error:
        return Finding("FAIL", label, f"does not answer: {error}", f"Start that server, or mend {setting}.")
    except psycopg.Error:
        return Finding(
            "FAIL", label, "its URL cannot be read", f"Set {setting} to postgresql://user:password@host/name."
        )
    pgvector = str(row[0]) if row else ""
    if with_vectors and _version(pgvector) < PGVECTOR_MIN:
        mend = "Install pgvector 0.8 or newer on that server."
        return Finding("FAIL", label, f"PostgreSQL {version} with pgvector {pgvector or 'missing'}", mend)
    return Finding("ok", label, f"PostgreSQL {version}" + (f" with pgvector {pgvector}" if with_vectors else ""))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
