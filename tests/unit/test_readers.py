"""Whom a writer may let read: names become ids, and groups are one's own."""

import pytest

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Forbidden
from refdesk.documents.readers import granted, ids_of

ADA = Principal(id="k1", groups=("hr",), name="ada")
LIVE = {"ada": "k1", "alice": "k2"}


async def named(name: str) -> str | None:
    return LIVE.get(name)


async def test_a_name_means_who_has_it_now() -> None:
    """Ids, and names that no key has, stay what they are."""
    ids = await ids_of(["hr", "everyone", "principal:alice", "principal:k9", "principal:gone"], named)
    assert ids == {"principal:alice": "principal:k2"}
    kept = granted(["principal:alice", "principal:k9", "hr"], by=ADA, before=(), ids=ids)
    assert kept == ("hr", "principal:k2", "principal:k9")


async def test_a_reader_that_is_there_is_not_given_to_who_has_the_name_by_now() -> None:
    """`principal:alice` of an older document is the alice of then: sending it back must not let in another one."""
    asked = ["principal:alice", "principal:ada"]
    kept = granted(asked, by=ADA, before=["principal:alice"], ids=await ids_of(asked, named))
    assert kept == ("principal:alice", "principal:k1")


def test_a_foreign_group_is_refused_and_a_kept_one_is_not() -> None:
    """The refusal names it, and what may be named instead."""
    assert granted(["board"], by=ADA, before=["board"], ids={}) == ("board",)
    with pytest.raises(Forbidden, match=r"not in board, legal,.*everyone, hr, principal:<id>"):
        granted(["legal", "board", "hr"], by=ADA, before=(), ids={})
