"""One question, one call: finished logs are replayed, running ones are joined, under two keys in Valkey.

*Exact*: the same question (white space and letter case aside), scope, parameters and shape of the desk, while neither the
documents nor the index has changed at all. Change is told by their epochs: each change of documents is counted, each of a
generation leaves its transaction's mark, in the transaction that makes it. Equal epochs see equal data.

*Fingerprint*: the same question, history, wishes of style, shape and parameters, standing on the same passages in the same
versions. Such a log is, by construction, what would be generated now. It is safe across people: whoever reaches a fingerprint
has just been shown by their own filtered search that they may read every passage in it.

The *shape* is a name for the configuration that shapes an answer: the model, what it reads, how it is found and ranked.

Only complete answers stay: one that fails, is stopped or was degraded gives its key back. Valkey down: each process
generates for itself.
"""

import hashlib
import logging

import msgspec

from refdesk.answering.brought import Brought
from refdesk.answering.evidence.retrieval import Evidence
from refdesk.answering.logs.journal import Lease
from refdesk.answering.reuse.sharing import normalised
from refdesk.answering.scripts import lua
from refdesk.answering.writing.prompting import PROMPT_VERSION
from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Question
from refdesk.outside.valkey.client import Script, Valkey, ValkeyError

logger = logging.getLogger(__name__)


class Exact(msgspec.Struct, frozen=True):
    """What an exact key holds: the log, and the epoch in which it was known to be what we would generate."""

    log_id: str
    epoch: str


class Cache:
    def __init__(self, valkey: Valkey, *, retention_s: int) -> None:
        self._valkey = valkey
        self._retention_s = retention_s
        self._claim = Script(valkey, lua("claim"))
        self._release = Script(valkey, lua("release"))

    async def exact(self, key: str) -> Exact | None:
        try:
            stored = await self._valkey.command("GET", key)
        except ValkeyError as error:
            logger.debug("the cache does not answer: %s", error)
            return None
        return None if stored is None else msgspec.json.decode(stored, type=Exact)

    async def keep_exact(self, key: str, exact: Exact) -> None:
        try:
            await self._valkey.command("SET", key, msgspec.json.encode(exact), "EX", self._retention_s)
        except ValkeyError as error:
            logger.debug("an answer is not cached: %s", error)

    async def holder(self, key: str) -> str | None:
        """The log that holds a place now, if any."""
        try:
            stored = await self._valkey.command("GET", key)
        except ValkeyError as error:
            logger.debug("a question is not coalesced: %s", error)
            return None
        return None if stored is None else str(stored, "ascii")

    async def claim(self, fingerprint: str, log_id: str, *, lease: Lease) -> str:
        """The log that holds this fingerprint: another one, or ``log_id``, which this process then writes.

        The lease comes first: whoever finds the claim finds the lease, too, and does not take a log that is about to begin for
        one that is gone. They may lie on two nodes of a cluster, so no script can write both.
        """
        try:
            await self._valkey.command("SET", lease.key, lease.owner, "PX", lease.ms)
            holder: bytes = await self._claim([fingerprint], [log_id, self._retention_s])
        except ValkeyError as error:
            logger.debug("a question is not coalesced: %s", error)
            return log_id
        return holder.decode()

    async def release(self, fingerprint: str, log_id: str) -> None:
        """Gives the place back: the log did not become an answer to be replayed."""
        try:
            await self._release([fingerprint], [log_id])
        except ValkeyError as error:
            logger.debug("a failed answer may be joined until it expires: %s", error)


def exact_key(question: Question, *, scope: Scope, shape: str, output_tokens_max: int) -> str:
    parts = (normalised(question.question), scope.digest(), shape, output_tokens_max, question.filters, PROMPT_VERSION)
    return "refdesk:exact:" + _digest(parts)


class Flight(msgspec.Struct, frozen=True):
    """The two keys of a question on its evidence: the question's own, and the one it shares with others on the same."""

    own: str
    shared: str


def flight(question: Question, evidence: Evidence, *, brought: Brought, shape: str, output_tokens_max: int) -> Flight:
    passages = [
        (p.document_id, p.version, p.content_sha256, p.ordinal, p.document_id in evidence.stale)
        for p in evidence.passages
    ]
    shared = _digest((passages, brought, shape, output_tokens_max, PROMPT_VERSION))
    own = _digest((normalised(question.question), shared))
    similar = f"refdesk:similar:{evidence.generation}:{shared}"  # vectors of one model only
    return Flight(own=f"refdesk:flight:{own}", shared=similar)


def _digest(parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
