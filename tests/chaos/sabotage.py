"""What a service is started with to make it fail: fail-points, where it dies or freezes, and mutants, which break a rule.

The product has no switch for any of this. A nursery's child commits its sabotage on itself before it runs, by wrapping
one function. A *fail-point* is the border of a function: `kill:` or `freeze:` + its name act when it is reached first, and
leave a note in the folder that ``CHAOS_NOTES`` names. A *mutant* is a program that a careless hand might have written.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

NOTES = "CHAOS_NOTES"


@dataclass(frozen=True)
class FailPoint:
    """Before or after a coroutine function, in one of the services."""

    service: str
    function: str
    """``module:name`` or ``module:Class.name``, below ``refdesk``."""
    side: str

    @property
    def name(self) -> str:
        return f"{self.service} {self.side} {self.function}"


def _around(service: str, *functions: str) -> list[FailPoint]:
    return [FailPoint(service, function, side) for function in functions for side in ("before", "after")]


FAIL_POINTS = [
    # a change: content, row, event, commit (which lies between the last two)
    *_around("documents", "outside.blobs:Blobs.put"),
    *_around("documents", "documents.store:DocumentTransaction.insert", "documents.store:DocumentTransaction.replace"),
    *_around("documents", "documents.store:DocumentTransaction.bury", "documents.store:DocumentTransaction.post"),
    *_around("documents", "documents.service:DocumentService.replace", "documents.service:DocumentService.delete"),
    # the relay
    *_around("documents", "documents.outbox:Outbox.claim", "outside.nats.broker:Broker.publish"),
    *_around("documents", "documents.outbox:Outbox.mark_published"),
    # the index's answer
    *_around("documents", "documents.store:DocumentStore.apply_indexed"),
    *_around("documents", "documents.store:DocumentStore.apply_failed"),
    *_around("documents", "outside.nats.messages:Message.ack"),
    # the worker
    *_around("indexer", "indexing.worker:Worker.handle", "outside.document_service:DocumentServiceClient.fetch"),
    *_around("indexer", "indexing.parsing:ParserPool.parse", "indexing.batching:EmbeddingBatcher.embed"),
    *_around("indexer", "index.pgvector.index:PgvectorIndex.replace", "index.pgvector.index:PgvectorIndex.remove"),
    # inside the transaction that flips a version
    *_around("indexer", "index.pgvector.index:_write_vectors", "index.pgvector.index:_settle"),
    # what is told of it
    *_around("indexer", "outside.nats.broker:Broker.publish", "indexing.dead_letters:DeadLetters.forget"),
    *_around("indexer", "outside.nats.messages:Message.ack"),
    # what is given up
    *_around("indexer", "indexing.dead_letters:DeadLetters.record", "indexing.worker:Worker._tell"),
    *_around("indexer", "outside.nats.messages:Message.term"),
]


def commit(name: str) -> None:
    """``kill:<fail-point>``, ``freeze:<fail-point>`` or a mutant's name. Raises KeyError for anything else."""
    act, _, point = name.partition(":")
    if act in ("kill", "freeze"):
        _arm({point.name: point for point in FAIL_POINTS}[point], signal.SIGKILL if act == "kill" else signal.SIGSTOP)
    else:
        MUTANTS[name]()


def _arm(point: FailPoint, number: signal.Signals) -> None:
    note = Path(os.environ[NOTES], point.name)

    def act() -> None:
        if not note.exists():
            note.touch()
            os.kill(os.getpid(), number)

    def armed(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def reached(*given: Any, **named: Any) -> Any:
            if point.side == "before":
                act()
            result = await original(*given, **named)
            if point.side == "after":
                act()
            return result

        return reached

    _wrap(point.function, armed)


def _wrap(function: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a wrapper around ``module:name`` or ``module:Class.name``. Raises AttributeError when there is no such thing."""
    module, _, path = function.partition(":")
    owner: Any = import_module(f"refdesk.{module}")
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    setattr(owner, name, wrapper(getattr(owner, name)))


# -- mutants


def _acknowledge_before_commit() -> None:
    """The worker acknowledges what it is given, and then sets to work."""

    def hasty(original: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(worker: Any, message: Any) -> None:
            await message.ack()

            async def again() -> None:
                """It is done already."""

            message.ack = again
            await original(worker, message)

        return handle

    _wrap("indexing.worker:Worker.handle", hasty)


def _publish_outside_the_transaction() -> None:
    """A change is committed, and its event is written after it."""
    from refdesk.documents.store import DocumentTransaction

    post = DocumentTransaction.post

    def parted(original: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def writing(store: Any) -> AsyncIterator[Any]:
            later: list[tuple[Any, dict[str, Any]]] = []

            async def remember(row: Any, **named: Any) -> None:
                later.append((row, named))

            async with original(store) as change:
                change.post = remember
                yield change
            async with original(store) as event:
                for row, named in later:
                    await post(event, row, **named)

        return writing

    _wrap("documents.store:DocumentStore.writing", parted)


def _mark_before_publish() -> None:
    """The relay marks its rows as published, and then publishes them."""

    def hasty(original: Callable[..., Any]) -> Callable[..., Any]:
        async def claim(outbox: Any, **named: Any) -> Any:
            events = await original(outbox, **named)
            await outbox.mark_published([event.id for event in events], stream="DOCUMENTS", last_sequence=0)
            return events

        return claim

    _wrap("documents.outbox:Outbox.claim", hasty)


def _no_version_fence() -> None:
    """The index takes whatever comes, older or newer."""
    from refdesk.index.pgvector import index
    from refdesk.outside.postgres.database import Queries

    fence = "WHERE documents.version < excluded.version"
    texts = {name: query.decode() for name, query in index._queries.items()}
    assert fence in texts["claim_version"]
    before, _, behind = texts["claim_version"].partition(fence)
    texts["claim_version"] = before + behind[behind.index("RETURNING") :]
    index._queries = Queries(texts)


def _tell_nothing_again() -> None:
    """Events that were lost track of are left alone."""

    def idle(original: Callable[..., Any]) -> Callable[..., Any]:
        async def retell_lost(outbox: Any, **named: Any) -> int:
            return 0

        return retell_lost

    _wrap("documents.outbox:Outbox.retell_lost", idle)


MUTANTS: dict[str, Callable[[], None]] = {
    "acknowledge before commit": _acknowledge_before_commit,
    "publish outside the transaction": _publish_outside_the_transaction,
    "mark before publish": _mark_before_publish,
    "no version fence": _no_version_fence,
    "tell nothing again": _tell_nothing_again,
}
