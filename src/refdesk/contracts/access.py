"""Who may read what.

A principal is an id, not a name: a name may be given again when its key is revoked, an id never is.
A document names its *readers*: ``everyone``, a group (``hr``), or one principal (``principal:<id>``).
A principal's *scope* is the set of reader names that match them; a document is readable when the two sets meet.
Administrators read everything. A document without readers is read by administrators alone: unknown means no.
"""

import hashlib
import re
from collections.abc import Collection
from typing import Literal

import msgspec

EVERYONE = "everyone"
ADMINISTRATORS = "administrators"
EDITORS = "editors"
PRINCIPAL_PREFIX = "principal:"

Role = Literal["asker", "writer"]
"""``asker``: reads and asks. ``writer``: also makes documents and changes its own."""

_READER = re.compile(r"(principal:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


def is_reader(name: str) -> bool:
    """Whether ``name`` can stand in a document's readers: ``everyone``, a group, or ``principal:<id>``."""
    return _READER.fullmatch(name) is not None


class Scope(msgspec.Struct, frozen=True):
    """What one principal may read, in the form a query needs.

    ``readers`` is sorted and holds ``everyone``, the groups and ``principal:<id>``; ``everything`` lifts the filter.
    """

    readers: tuple[str, ...]
    everything: bool = False

    def allows(self, readers: tuple[str, ...] | list[str]) -> bool:
        """Whether a document with these readers is inside the scope."""
        return self.everything or not set(self.readers).isdisjoint(readers)

    def digest(self) -> str:
        """A short stable name of the scope: equal scopes, equal digests. Partitions caches."""
        text = "*" if self.everything else "\n".join(self.readers)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


NOBODY = Scope(readers=())
"""Reads nothing."""


def readers_with_owner(readers: Collection[str], owner: str) -> tuple[str, ...]:
    """Everybody who may read a document: its readers, and its owner."""
    return tuple(readers) if EVERYONE in readers else tuple(sorted({*readers, PRINCIPAL_PREFIX + owner}))


class Principal(msgspec.Struct, frozen=True):
    """Somebody who asks, reads or writes. ``name`` is for people; everything that is owned is owned by ``id``."""

    id: str
    groups: tuple[str, ...] = ()
    name: str = ""
    role: Role = "writer"

    @property
    def administrator(self) -> bool:
        return ADMINISTRATORS in self.groups

    @property
    def editor(self) -> bool:
        return EDITORS in self.groups

    @property
    def scope(self) -> Scope:
        names = {EVERYONE, PRINCIPAL_PREFIX + self.id, *self.groups}
        return Scope(readers=tuple(sorted(names)), everything=self.administrator)


LOCAL_ADMINISTRATOR = Principal(id="local", groups=(ADMINISTRATORS,), name="local")
"""Whoever calls from loopback while no API key exists."""

OPERATOR = Principal(id="operator", groups=(ADMINISTRATORS,), name="operator")
"""The holder of the operator key: Refdesk's own services and the command line of the account that started it."""
