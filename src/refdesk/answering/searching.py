"""A search without an answer, for every door that offers one."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.access.policy import may
from refdesk.answering.assistant import Assistant
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Filters, Hit, Question
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.texts import Text

SEARCH_LIMIT_DEFAULT = 10
SEARCH_LIMIT_MAX = 100


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: Text
    limit: int = SEARCH_LIMIT_DEFAULT
    filters: Filters = Filters()
    after: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    wait_seconds: Annotated[float, Meta(ge=0)] | None = None


class SearchReply(msgspec.Struct, frozen=True):
    """``access_as_of``: the Document Service was silent, and access was checked against the record as of then."""

    hits: list[Hit]
    as_of: datetime
    index_lag_seconds: float
    access_as_of: datetime | msgspec.UnsetType = msgspec.UNSET


async def search(assistant: Assistant, asked: SearchRequest, principal: Principal) -> SearchReply:
    """The passages that match. Raises the refusal."""
    if not 1 <= asked.limit <= SEARCH_LIMIT_MAX:
        raise InvalidRequest(
            f"limit is {asked.limit}; give 1 to {SEARCH_LIMIT_MAX}.", limit=SEARCH_LIMIT_MAX, actual=asked.limit
        )
    question = Question(question=asked.query, filters=asked.filters, after=asked.after, wait_seconds=asked.wait_seconds)
    evidence = await assistant.search(question, principal, limit=asked.limit)
    return SearchReply(
        hits=evidence.hits(with_scores=may(principal, "passages.read_scores")),
        as_of=evidence.as_of,
        index_lag_seconds=evidence.index_lag_seconds,
        access_as_of=evidence.checked_at or msgspec.UNSET,
    )
