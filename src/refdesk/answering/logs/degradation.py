"""Why a language model did not write an answer, or not all of it, and how much of that each reader sees.

A log is the same for all its readers, and only administrators may read what a server says. So the ending in a log holds both
sentences, and each reader is shown one of them.
"""

from typing import Any

import msgspec

from refdesk.answering.logs.log import ENDINGS, Entry
from refdesk.contracts.answers import Done, Failed
from refdesk.contracts.errors import ModelFailed, RefdeskError, problem

AGAIN = "Ask again in a moment."
TELL = "Tell an administrator: `refdesk doctor` says what to mend."
DETAILS = "details_for_administrators"
_MARK = DETAILS.encode()
_SHOWN_AS = {Done.name: "degraded_reason", Failed.name: "detail"}
"""The field with the sentence."""


class DegradedDone(Done, frozen=True, kw_only=True):
    """The ending as it is in the log: ``degraded_reason`` is for everybody."""

    details_for_administrators: str


def degraded(done: Done, error: ModelFailed) -> DegradedDone:
    """The ending of an answer that was made without the model, which has failed with this."""
    why = {"degraded": True, "degraded_reason": _plain(error), "degraded_type": error.code}
    fields = {**msgspec.structs.asdict(done), **why}
    return DegradedDone(**fields, details_for_administrators=problem(error)["detail"])


def failed(error: RefdeskError, *, partial: bool) -> Failed:
    """The ending of an answer that could not be completed, as it is in the log."""
    said = problem(error) | {"partial": partial}
    if isinstance(error, ModelFailed) and error.message != (type(error).__doc__ or "").strip():
        said |= {"detail": _plain(error), DETAILS: said["detail"]}
    return Failed(said)


def _plain(error: ModelFailed) -> str:
    return f"{error.title}. {AGAIN if error.retryable else TELL}"


def seen_by(batch: list[Entry], *, with_details: bool) -> list[Entry]:
    """The entries as this reader sees them; an ending is the last of all."""
    last = batch[-1]
    if last.name not in ENDINGS or _MARK not in bytes(last.data):
        return batch
    fields: dict[str, Any] = msgspec.json.decode(last.data)
    details = fields.pop(DETAILS, None)
    if details is not None and with_details:
        fields[_SHOWN_AS[last.name]] = details
    return [*batch[:-1], Entry(last.id, last.name, msgspec.Raw(msgspec.json.encode(fields)))]
