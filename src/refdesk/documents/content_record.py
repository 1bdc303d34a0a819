"""The content directory as the database knows it: which one it is, and what is missing in it.

The database carries an identity from its first migration on. The first service that starts writes it into its directory and
records that it is in use; every later one must find it there, so that two services on two directories, or an unmounted volume,
are refused at the start.

    identity in the directory      in use: no                              in use: yes
    ---------------------------    ------------------------------------    --------------
    none                           written, unless contents are missing    refused
    the database's                 recorded (a crash came between)         taken
    another                        refused                                 refused

`refdesk adopt-content` leaves a mark in a directory that is the right one although it is refused, as after a restore.
"""

import asyncio
import logging
from importlib.resources import files
from pathlib import Path

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import ConfigurationError, ContentMissing
from refdesk.documents.store import Row, fetch
from refdesk.outside import blob_identity
from refdesk.outside.blobs import Blobs, Fault
from refdesk.outside.postgres.database import load_queries, one_statement, transaction
from refdesk.outside.storage_errors import translated

logger = logging.getLogger(__name__)

SAMPLE = 20
"""How many of the newest documents' contents are looked for in a directory without an identity."""


class MissingContent(msgspec.Struct, frozen=True):
    """A content that documents refer to and the directory does not have."""

    sha256: str
    fault: Fault


class ContentRecord:
    """The tables ``content_store`` and ``missing_contents``. Every method raises Unavailable when the database is away."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._sql = load_queries(files("refdesk.documents") / "content_record.sql")

    async def claim(self, directory: Path) -> str:
        """The identity of the directory, which is this database's from now on at the latest.

        Raises ConfigurationError when it is another one, or none although the database knows one.
        """
        async with transaction(self._pool) as connection:
            [known] = await fetch(connection, self._sql.lock_store, {})
            adopted = await asyncio.to_thread(blob_identity.adoption_is_asked, directory)
            found = await asyncio.to_thread(_found, directory)
            identity = str(found or known["identity"]) if adopted else str(known["identity"])
            if found != identity:
                if not adopted:
                    rows = await fetch(connection, self._sql.newest_contents, {"count": SAMPLE})
                    sample = [row["content_sha256"] for row in rows]
                    await _require_first_use(directory, found=found, used=known["used"], sample=sample)
                await asyncio.to_thread(_write, directory, identity)
            if adopted or not known["used"]:
                await connection.execute(self._sql.use_store, {"identity": identity})
        if adopted:
            logger.warning("the content directory %s was adopted; its identity is %s", directory, identity)
            await asyncio.to_thread(blob_identity.adoption_is_done, directory)
        return identity

    async def page(self, *, after: str, count: int) -> list[str]:
        """Contents that documents refer to, in the order of their hashes."""
        return [row["content_sha256"] for row in await self._fetch("page", after=after, count=count)]

    async def missing(self, *, after: str, count: int) -> list[MissingContent]:
        return [msgspec.convert(row, MissingContent) for row in await self._fetch("missing", after=after, count=count)]

    async def mark_missing(self, missing: MissingContent) -> list[str]:
        """Its documents have failed from now on; returns those that had not."""
        failure = ContentMissing().message
        rows = await self._fetch("mark_missing", sha256=missing.sha256, fault=missing.fault, failure=failure)
        return [row["id"] for row in rows]

    async def failed_documents(self, names: list[str], *, count: int) -> list[FreshnessToken]:
        """Of the documents that refer to these contents, those that have failed."""
        rows = await self._fetch("documents_of", names=names, count=count)
        return [FreshnessToken(document_id=row["id"], version=row["version"]) for row in rows]

    async def forget_missing(self, names: list[str]) -> None:
        """They are there again; so is whatever no document refers to any more."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._sql.forget_missing, {"names": names})
            await connection.execute(self._sql.forget_unreferenced)

    async def _fetch(self, name: str, **parameters: object) -> list[Row]:
        async with one_statement(self._pool) as connection:
            return await fetch(connection, self._sql[name], parameters)


def _found(directory: Path) -> str | None:
    with translated("The content directory"):
        return blob_identity.read_identity(directory)


def _write(directory: Path, identity: str) -> None:
    with translated("The content directory"):
        blob_identity.write_identity(directory, identity)


async def _require_first_use(directory: Path, *, found: str | None, used: bool, sample: list[str]) -> None:
    if found is not None:
        raise _refusal(directory, f"it has the identity {found[:8]}…, which is another's")
    if used:
        raise _refusal(directory, "it has no identity: perhaps its volume is not mounted")
    if sample and len(await Blobs(directory).faults(sample)) == len(sample):
        raise _refusal(directory, f"the newest {len(sample)} documents have no content in it")


def _refusal(directory: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The content directory {directory} does not belong to this documents database: {why}. Mount the right volume, or name "
        "it with REFDESK_CONTENT_DIR. If this one is right, as after a restore, run `refdesk adopt-content` and start again."
    )
