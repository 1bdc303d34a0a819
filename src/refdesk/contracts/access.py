"""Who may read what.

A principal is an id, not a name: a name may be given again when its key is revoked, an id never is.
A document names its *readers*: ``everyone``, a group (``hr``), or one principal (``principal:<id>``).
A principal's *scope* is the set of reader names that match them; a document is readable when the two sets meet.
A principal's *role* is what it may do (``access.policy``). Administrators read everything. A document without readers is read
by its owner and administrators alone: unknown means no.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

EVERYONE = "everyone"
ADMINISTRATORS = "administrators"
EDITORS = "editors"
PRINCIPAL_PREFIX = "principal:"

Role = Literal["asker", "writer", "curator", "operator", "administrator"]
"""``asker``: reads and asks. ``writer``: also makes documents and changes its own. ``curator``: also changes those of its groups.
``operator``: sees how the desk does and mends it, and no content at all. ``administrator``: everything."""
ROLE_GROUPS: Mapping[str, Role] = {ADMINISTRATORS: "administrator", EDITORS: "curator"}
"""Groups of keys that were made before these roles; a writer's key that is in one has its role (docs/adr/0053)."""

_READER = re.compile(r"(principal:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


def is_reader(name: str) -> bool:
    """Whether ``name`` can stand in a document's readers: ``everyone``, a group, or ``principal:<id>``."""
    return _READER.fullmatch(name) is not None


def role_within(groups: Collection[str], role: Role) -> Role:
    """The role of a key with these groups: a group that stands for a role lifts a writer to it."""
    meant = [ROLE_GROUPS[group] for group in groups if group in ROLE_GROUPS]
    if role != "writer" or not meant:
        return role
    return "administrator" if "administrator" in meant else "curator"


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
    """Somebody who asks, reads, writes or runs the desk. ``name`` is for people; what is owned is owned by ``id``.

    ``role`` alone says what they may do: a group of whatever name gives no right but to read.
    """

    id: str
    groups: tuple[str, ...] = ()
    name: str = ""
    role: Role = "writer"

    @property
    def administrator(self) -> bool:
        return self.role == "administrator"

    @property
    def scope(self) -> Scope:
        names = {EVERYONE, PRINCIPAL_PREFIX + self.id, *self.groups}
        return Scope(readers=tuple(sorted(names)), everything=self.administrator)


LOCAL_ADMINISTRATOR = Principal(id="local", groups=(ADMINISTRATORS,), name="local", role="administrator")
"""Whoever calls from loopback while no API key exists."""

OPERATOR = Principal(id="operator", groups=(ADMINISTRATORS,), name="operator", role="administrator")
"""The holder of the operator key: Refdesk's own services and the command line of the account that started it. It has read
everything since before there was the role ``operator``, and so it is an administrator."""
