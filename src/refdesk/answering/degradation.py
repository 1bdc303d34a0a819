"""Why an answer was made without its language model, and who is told how much of that.

A log is the same for all its readers, and only administrators may read what a server says. So a log holds both sentences, and
each reader is shown one of them as ``degraded_reason``.
"""

import msgspec

from refdesk.answering.log import Entry
from refdesk.contracts.answers import Done
from refdesk.contracts.errors import ModelFailed

AGAIN = "Ask again in a moment."
TELL = "Tell an administrator: `refdesk doctor` says what to mend."
_MARK = b'"degraded_details"'


class DegradedDone(Done, frozen=True, kw_only=True):
    """The ending as it is in the log: ``degraded_reason`` is for everybody."""

    degraded_details: str
    """The server's own words, for administrators."""


def degraded(done: Done, error: ModelFailed) -> DegradedDone:
    """The ending of an answer whose model has failed with this."""
    fields = {**msgspec.structs.asdict(done), "degraded": True}
    fields["degraded_reason"] = f"{error.title}. {AGAIN if error.retryable else TELL}"
    return DegradedDone(**fields, degraded_details=error.message)


def seen_by(batch: list[Entry], *, administrator: bool) -> list[Entry]:
    """The entries as this reader sees them; an ending is the last of all."""
    last = batch[-1]
    if last.name != Done.name or _MARK not in bytes(last.data):
        return batch
    logged = msgspec.json.decode(last.data, type=DegradedDone)
    fields = msgspec.structs.asdict(logged)
    details = fields.pop("degraded_details")
    seen = Done(**{**fields, "degraded_reason": details} if administrator else fields)
    return [*batch[:-1], Entry(last.id, last.name, msgspec.Raw(msgspec.json.encode(seen)))]
