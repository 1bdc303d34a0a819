"""What PostgreSQL and the file system refuse, as errors of the one tree."""

import errno
import os

import psycopg
import pytest
from psycopg import errors

from refdesk.contracts.errors import (
    InsufficientStorage,
    ReadOnly,
    TransactionConflict,
    Unavailable,
    problem,
)
from refdesk.outside import storage_errors
from refdesk.outside.postgres import conflicts as postgres_conflicts
from refdesk.outside.postgres import errors as postgres_errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.DiskFull, InsufficientStorage),
        (errors.ReadOnlySqlTransaction, ReadOnly),
        (errors.DeadlockDetected, TransactionConflict),
        (errors.SerializationFailure, TransactionConflict),
        (errors.TooManyConnections, Unavailable),
        (errors.AdminShutdown, Unavailable),
        (errors.CannotConnectNow, Unavailable),
        (errors.InvalidPassword, Unavailable),
        (errors.InvalidCatalogName, Unavailable),
        (errors.InsufficientPrivilege, Unavailable),
        (errors.QueryCanceled, Unavailable),
        (errors.LockNotAvailable, Unavailable),
        (errors.IoError, Unavailable),
        (errors.ConnectionException, Unavailable),
        (psycopg.OperationalError, Unavailable),
    ],
)
def test_a_refusal_that_may_pass_says_so(error: type[psycopg.Error], kind: type[Unavailable]) -> None:
    """With the kind it is, when to come again, and its cause."""
    with pytest.raises(Unavailable) as raised, postgres_errors.translated():
        raise error("words that name a host")
    assert type(raised.value) is kind
    assert isinstance(raised.value.__cause__, error)
    said = problem(raised.value)
    assert said["status"] in (503, 507) and said["retryable"] and said["retry_after"] >= 1
    assert "host" not in said["detail"]


@pytest.mark.parametrize("error", [errors.UniqueViolation, errors.SyntaxError, errors.UndefinedTable])
def test_a_bug_of_ours_stays_one(error: type[psycopg.Error]) -> None:
    """It is not called an outage."""
    with pytest.raises(error), postgres_errors.translated():
        raise error("ours")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, InsufficientStorage),
        (errno.EDQUOT, InsufficientStorage),
        (errno.EROFS, ReadOnly),
        (errno.EACCES, ReadOnly),
        (errno.EMFILE, Unavailable),
        (errno.EIO, Unavailable),
        (errno.ESTALE, Unavailable),
    ],
)
def test_the_file_systems_refusals_are_told_apart(number: int, kind: type[Unavailable]) -> None:
    """Full, read-only, or out of order."""
    with pytest.raises(Unavailable) as raised, storage_errors.translated("The content directory"):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is kind
    assert raised.value.message.startswith("The content directory")


async def test_a_transaction_that_lost_is_done_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some times, and then it is told."""
    monkeypatch.setattr(postgres_conflicts, "PAUSE_S_MAX", 0.0)
    tries = []

    @postgres_conflicts.repeated
    async def work(*, losses: int) -> str:
        tries.append(losses)
        if len(tries) <= losses:
            raise TransactionConflict
        return "done"

    assert await work(losses=2) == "done"
    assert len(tries) == 3
    tries.clear()
    with pytest.raises(TransactionConflict):
        await work(losses=10)
    assert len(tries) == postgres_conflicts.CONFLICTS_MAX + 1
