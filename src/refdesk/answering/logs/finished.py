"""A finished answer: what the events of an answer add up to, as one object, for every door that shows it whole."""

from datetime import datetime
from typing import Literal

import msgspec

from refdesk.answering.evidence.truth import Shown
from refdesk.answering.logs.log import AnswerRecord, Entry
from refdesk.contracts.answers import Delta, Done, Failed, FinishReason, Sentence, Sources, Timings, Usage


class FinishedAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An answer as one object: what the stream's events add up to."""

    answer_id: str
    question: str
    model: str
    cache: str
    status: Literal["running", "done", "failed"]
    text: str
    sentences: list[msgspec.Raw]
    sources: msgspec.Raw
    conversation_id: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost: float | None = None
    timings: Timings | None = None
    as_of: datetime | None = None
    index_lag_seconds: float | None = None
    degraded: bool | None = None
    degraded_reason: str | msgspec.UnsetType = msgspec.UNSET
    degraded_type: str | msgspec.UnsetType = msgspec.UNSET
    access_as_of: datetime | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | None = None

    @classmethod
    def nothing(cls, answer_id: str, question: str, *, model: str = "", cache: str = "") -> "FinishedAnswer":
        """An answer of which nothing is said."""
        return FinishedAnswer(
            answer_id=answer_id,
            question=question,
            model=model,
            cache=cache,
            status="running",
            text="",
            sentences=[],
            sources=msgspec.Raw(b"[]"),
        )

    @classmethod
    def begun(cls, record: AnswerRecord) -> "FinishedAnswer":
        """The answer before its first event."""
        accepted = record.accepted
        answer = cls.nothing(record.answer_id, record.question, model=accepted.model, cache=accepted.cache)
        answer.conversation_id = record.conversation_id
        return answer

    def add(self, batch: list[Entry]) -> None:
        """Takes in the next events."""
        for entry in batch:
            self._add(entry.name, entry.data)

    def _add(self, name: str, data: msgspec.Raw) -> None:
        match name:
            case Sources.name:
                self.sources = data
            case Delta.name:
                self.text += msgspec.json.decode(data, type=Delta).text
            case Sentence.name:
                self.sentences.append(data)
            case Done.name:
                self.status = "done"
                for field, value in msgspec.structs.asdict(msgspec.json.decode(data, type=Done)).items():
                    setattr(self, field, value)
            case Failed.name:
                self.status, self.error = "failed", data
            case _:
                pass

    def stands_on(self) -> frozenset[Shown]:
        """The document versions that it was made from."""
        return frozenset(msgspec.json.decode(self.sources, type=list[Shown]))

    def cited_documents(self) -> list[str]:
        """Ids of the documents that the answer's sentences cite, in that order."""
        by_number = {one.n: one.document_id for one in msgspec.json.decode(self.sources, type=list[_Named])}
        sentences = [msgspec.json.decode(sentence, type=Sentence) for sentence in self.sentences]
        return list(dict.fromkeys(by_number[n] for sentence in sentences for n in sentence.citations if n in by_number))


class _Named(msgspec.Struct, frozen=True):
    """Of a source, its number and its document."""

    n: int
    document_id: str
