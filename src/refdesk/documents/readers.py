"""Whom a writer may let read.

Readers are asked for by name and kept by id: ``principal:<name>`` means the principal whose key has that name at the time of the
write. A document's own readers are taken as they are: who sends back what was shown changes nothing, whoever has a name by now,
and keeps a group that they could not add.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping

from refdesk.access.policy import Resource, may
from refdesk.contracts.access import EVERYONE, PRINCIPAL_PREFIX, Principal
from refdesk.contracts.errors import Forbidden

PrincipalNamed = Callable[[str], Awaitable[str | None]]
"""The id of the principal whose key has this name now; None when no key has. Raises Unavailable."""


async def no_names(_: str) -> None:
    """Where there are no keys: every principal is called by its id."""


async def ids_of(readers: Collection[str], principal_named: PrincipalNamed) -> dict[str, str]:
    """Of those readers that call a principal by its name: the same by its id."""
    ids = {}
    for reader in readers:
        if reader.startswith(PRINCIPAL_PREFIX):
            principal_id = await principal_named(reader.removeprefix(PRINCIPAL_PREFIX))
            if principal_id is not None:
                ids[reader] = PRINCIPAL_PREFIX + principal_id
    return ids


def granted(
    asked: Collection[str], *, by: Principal, before: Collection[str], ids: Mapping[str, str]
) -> tuple[str, ...]:
    """The readers as they are kept. Raises Forbidden when a group is added that ``by`` is not in."""
    readers = {reader if reader in before else ids.get(reader, reader) for reader in asked}
    added = readers.difference(before)
    foreign = sorted(one for one in added if not may(by, "documents.let_read", Resource(reader=one)))
    if foreign:
        raise Forbidden(
            f"You are not in {', '.join(foreign)}, so you cannot let that group read. You may name: "
            f"{', '.join((EVERYONE, *sorted(by.groups), PRINCIPAL_PREFIX + '<id>'))}.",
            field="readers",
        )
    return tuple(sorted(readers))
