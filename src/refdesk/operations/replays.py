"""Replaying dead letters: the Document Service tells the document again, and the indexer tries it anew.

A letter speaks of one version. While that is the document's newest one, a replay puts a new event into the outbox and the
document is pending again; when there is a newer one, or the document is gone, the letter is settled: the newer event speaks.
The letter is marked only after the Document Service has committed, and only if it has not failed again by then.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import Conflict, NotFound
from refdesk.indexing.dead_letters import DeadLetter, DeadLetters
from refdesk.outside.document_service import DocumentServiceClient

BATCH = 200
"""Dead letters read, and documents told again, at a time."""

Outcome = Literal["queued", "superseded", "unreadable"]


class Replayed(msgspec.Struct, frozen=True):
    """How many letters came to which end.

    ``queued`` ones are tried again; ``superseded`` ones are settled by a newer version; ``unreadable`` ones name no document
    and stay.
    """

    queued: int
    superseded: int
    unreadable: int


class Replays:
    """Raises Unavailable when the index database or the Document Service does not answer: then nothing is settled."""

    def __init__(self, letters: DeadLetters, *, documents: DocumentServiceClient) -> None:
        self._letters = letters
        self._documents = documents

    async def one(self, letter_id: int) -> Outcome:
        """Raises NotFound, and Conflict for a letter that is settled already or names no document."""
        letter = await open_letter(self._letters, letter_id)
        if _token(letter) is None:
            raise Conflict(
                f"Dead letter {letter.id} names no document, so there is nothing to try again. Discard it; `refdesk reconcile` "
                "finds what it may have told of."
            )
        return (await self._replay([letter]))[0]

    async def every(self, *, code: str | None = None, reason: str | None = None) -> Replayed:
        """Every open letter with this code, or with this text in its reason; without either, all of them."""
        outcomes: list[Outcome] = []
        before: int | None = None
        while letters := await self._letters.list(limit=BATCH, before=before, code=code, reason=reason):
            outcomes += await self._replay(letters)
            before = letters[-1].id
        return Replayed(
            queued=outcomes.count("queued"),
            superseded=outcomes.count("superseded"),
            unreadable=outcomes.count("unreadable"),
        )

    async def _replay(self, letters: Sequence[DeadLetter]) -> list[Outcome]:
        told = await self._documents.retell(_tokens(letters))
        outcomes: list[Outcome] = []
        for letter in letters:
            token = _token(letter)
            if token is not None:
                await self._letters.mark_replayed(letter)
            outcomes.append("unreadable" if token is None else "queued" if token in told else "superseded")
        return outcomes


async def open_letter(letters: DeadLetters, letter_id: int) -> DeadLetter:
    """Raises NotFound, and Conflict for a letter that is settled already."""
    letter = await letters.get(letter_id)
    if letter is None:
        raise NotFound
    settled = "replayed" if letter.replayed_at else "discarded" if letter.discarded_at else None
    if settled is not None:
        raise Conflict(f"Dead letter {letter_id} was {settled} already.")
    return letter


def _tokens(letters: Iterable[DeadLetter]) -> list[FreshnessToken]:
    return [token for letter in letters if (token := _token(letter)) is not None]


def _token(letter: DeadLetter) -> FreshnessToken | None:
    if letter.document_id is None or letter.version is None:
        return None
    return FreshnessToken(document_id=letter.document_id, version=letter.version)
