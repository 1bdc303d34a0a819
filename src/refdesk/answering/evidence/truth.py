"""Asking the Document Service which documents a principal may read, and what happens when it does not answer.

The first question that it keeps waiting for ``timeout_s`` is the last: from then on nobody waits, until it has answered a
look in the background. So a frozen service costs one bounded wait and not one per question.

Silence is no reply in time, a connection that fails, and a reply that says that the service is not well (5xx) or is none of
its own. A look that it refuses (4xx) is no silence: the one question fails, and the others go on. Otherwise one asker could
send what makes it refuse, and it would count as silent for everybody.
"""

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from refdesk.contracts.access import NOBODY, Scope
from refdesk.contracts.documents import Seen, StandingRequest
from refdesk.contracts.errors import RefdeskError, Unavailable
from refdesk.outside import telemetry
from refdesk.outside.document_service import DocumentServiceClient, RequestRefused

logger = logging.getLogger(__name__)

PROBE_S = 0.5
"""How often a silent Document Service is asked whether it is back."""


class LookRefused(RefdeskError):
    """The Document Service refused to say what you may read: Refdesk's fault, or that service is older. Tell the operator."""


class Truth(msgspec.Struct, frozen=True):
    """The Document Service's word: the newest version of each readable document, and how far the index is behind.

    Documents of which it does not know what is to be shown are not among them: it is of a time that they have lost.
    """

    as_of: datetime
    index_lag_seconds: float
    versions: dict[str, int]
    epoch: str


class Shown(msgspec.Struct, frozen=True):
    """A version of a document that is to be shown; ``content_sha256`` where it is known: it tells two versions of one number
    apart, of which one was lost by a restored backup."""

    document_id: str
    version: int
    content_sha256: str = ""


class SourceOfTruth:
    """Asks the Document Service, over HTTP, what a scope may still read. Have ``run`` running."""

    def __init__(self, documents: DocumentServiceClient, *, timeout_s: float) -> None:
        self._documents = documents
        self._timeout_s = timeout_s
        self._last_as_of = datetime.fromtimestamp(0, UTC)
        self._silent = asyncio.Event()

    async def standing(self, shown: Collection[Shown], *, scope: Scope) -> Truth | None:
        """None when the Document Service does not answer in time, and at once while it is known not to answer.

        Raises LookRefused when it answers that this look is not a valid one.
        """
        return None if self._silent.is_set() else await self._ask(shown, scope=scope)

    async def run(self) -> None:
        """Until cancelled: look whether a service that fell silent is back."""
        while True:
            await self._silent.wait()
            await asyncio.sleep(PROBE_S)
            with suppress(LookRefused):  # logged; it does not say that the service can be asked again
                if await self._ask([], scope=NOBODY) is not None:
                    logger.info("the Document Service answers again")

    @property
    def last_as_of(self) -> datetime:
        """The newest time up to which this process has seen every change searchable."""
        return self._last_as_of

    async def _ask(self, shown: Collection[Shown], *, scope: Scope) -> Truth | None:
        request = StandingRequest(
            document_ids=sorted({one.document_id for one in shown}),
            readers=list(scope.readers),
            everything=scope.everything,
            seen=[Seen(one.document_id, one.version, one.content_sha256) for one in shown if one.content_sha256],
        )
        try:
            reply = await self._documents.standing(request, timeout_s=self._timeout_s)
        except RequestRefused as error:
            if 400 <= error.answered < 500:
                logger.error("the Document Service refuses a look (%d): %s", error.answered, error.reply)
                raise LookRefused from error
            self._fall_silent(error)
            return None
        except Unavailable as error:
            self._fall_silent(error)
            return None
        self._silent.clear()
        telemetry.truth_silent.set(0)
        self._last_as_of = max(self._last_as_of, reply.as_of)
        return Truth(
            as_of=reply.as_of,
            index_lag_seconds=reply.index_lag_seconds,
            epoch=reply.epoch,
            versions={standing.document_id: standing.version for standing in reply.standings if standing.known},
        )

    def _fall_silent(self, error: Exception) -> None:
        if not self._silent.is_set():
            logger.warning("the Document Service does not answer; access is checked against the record: %r", error)
        self._silent.set()
        telemetry.truth_silent.set(1)
