"""Which answers' logs stand on a document, in Valkey: so that they can be erased with it.

    refdesk:of:<document>    ids of the logs that stand on it, kept as long as they are
    refdesk:erased:{<id>}    the log was erased: whoever asks for it is told so

A log is noted when its sources are copied, by the process that copies it. Valkey down: it is not noted, and goes when it is old.
"""

import logging
from collections.abc import Collection
from weakref import WeakSet

from refdesk.answering.logs.log import AnswerLog
from refdesk.outside.valkey.client import Command, Valkey, ValkeyError

logger = logging.getLogger(__name__)


class EvidenceLogs:
    def __init__(self, valkey: Valkey, *, retention_s: int) -> None:
        self._valkey = valkey
        self._retention_s = retention_s
        self._noted: WeakSet[AnswerLog] = WeakSet()

    async def note(self, logs: Collection[AnswerLog]) -> None:
        """Those of the logs whose sources are known by now, once each."""
        commands: list[Command] = []
        for log in logs:
            stands_on = None if log in self._noted else log.stands_on()
            for document_id in {one.document_id for one in stands_on or ()}:
                commands.append(("SADD", _of(document_id), log.id))
                commands.append(("EXPIRE", _of(document_id), self._retention_s))
            if stands_on is not None:
                self._noted.add(log)
        if not commands:
            return
        try:
            await self._valkey.commands(commands)
        except ValkeyError as error:
            logger.debug("it is not noted what %d logs stand on: %s", len(logs), error)

    async def erase(self, document_ids: Collection[str]) -> int:
        """Remove the logs that stand on one of these, and what another process would go on with them from.

        Returns how many there were. One that is still being written may come back until its reader has heard, within seconds;
        so it stays noted, to be erased again. Raises ValkeyError.
        """
        found = await self._valkey.commands([("SMEMBERS", _of(document_id)) for document_id in document_ids])
        ids = sorted({str(log_id, "ascii") for logs in found for log_id in logs})
        removed = 0
        for log_id in ids:  # each on one node of a cluster
            kept = [f"refdesk:{kind}:{{{log_id}}}" for kind in ("log", "job")]
            there, _, _ = await self._valkey.commands(
                [("EXISTS", kept[0]), ("DEL", *kept), ("SET", _erased(log_id), "1", "EX", self._retention_s)]
            )
            removed += int(there)
        return removed

    async def is_erased(self, log_id: str) -> bool:
        """Raises ValkeyError."""
        return bool(await self._valkey.command("EXISTS", _erased(log_id)))


def _of(document_id: str) -> str:
    return f"refdesk:of:{document_id}"


def _erased(log_id: str) -> str:
    return f"refdesk:erased:{{{log_id}}}"
