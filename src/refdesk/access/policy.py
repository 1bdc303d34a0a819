"""Who may do what: one table, and one question to it.

    door ─────────── require(principal, "documents.change") ──┐
    use case ─────── may(principal, …, Resource(owner=…)) ────┼──▶ POLICY
    socket message ─ require(principal, "answers.ask") ───────┘

Every route and every message of a socket names its action. An action has an *audience*, which the door checks, and may have a
rule for what is acted upon, which the use case checks once it knows that. An audience is named for the least role that belongs to
it. Operators belong to none that is shown content: a document's title, text or reason, a question, an answer, a passage.

Which documents somebody may *read* is not asked here one by one: a principal's `Scope` stands inside every query
(`contracts.access`). What may not be read is not there, at any door.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple

import msgspec

from refdesk.contracts.access import EDITORS, EVERYONE, PRINCIPAL_PREFIX, Principal, Role, Scope
from refdesk.contracts.errors import Forbidden

ANONYMOUS = Principal(id="anonymous", role="asker")
"""A caller without a key."""

Audience = Literal["public", "principal", "asker", "writer", "curator", "operator", "administrator"]
"""``public``: every caller. ``principal``: whoever is known. Any other: that role, and those that may all that it may."""

ROLES: Mapping[Audience, frozenset[Role]] = {
    "principal": frozenset({"asker", "writer", "curator", "operator", "administrator"}),
    "asker": frozenset({"asker", "writer", "curator", "administrator"}),
    "writer": frozenset({"writer", "curator", "administrator"}),
    "curator": frozenset({"curator", "administrator"}),
    "operator": frozenset({"operator", "administrator"}),
    "administrator": frozenset({"administrator"}),
}
"""Which roles belong to an audience."""

Action = Literal[
    "page.read",
    "health.read",
    "metrics.read",
    "description.read",
    "signin.describe",
    "keys.manage",
    "session.begin",
    "session.leave",
    "sessions.read",
    "sessions.read_all",
    "sessions.end",
    "sessions.end_all",
    "principal.read",
    "documents.read",
    "documents.create",
    "documents.change",
    "documents.name",
    "documents.let_read",
    "documents.upload_freely",
    "documents.operate",
    "documents.inspect",
    "documents.read_erasure",
    "syncs.report",
    "syncs.read",
    "syncs.read_all",
    "answers.ask",
    "answers.read",
    "answers.stop",
    "answers.rate",
    "answers.share",
    "answers.read_details",
    "conversations.read",
    "conversations.change",
    "passages.search",
    "passages.read",
    "passages.read_scores",
    "texts.embed",
    "tools.call",
    "feedback.read",
    "gaps.read",
    "gaps.read_own",
    "usage.read",
    "usage.read_all",
    "operations.read",
    "feedback.read_all",
    "examples.read",
    "dead_letters.manage",
    "index.manage",
    "index.compare",
    "operations.read_content",
    "audit.read",
]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What is acted upon, as far as a rule looks at it."""

    owner: str | None = None
    """The id of the principal whose it is."""
    readers: Collection[str] = ()
    """Who may read the document."""
    reader: str | None = None
    """A reader that is to be added to a document."""


class Rule(NamedTuple):
    """``allows``: what those of the audience may do it to; unset, to everything."""

    audience: Audience
    allows: Callable[[Principal, Resource], bool] | None = None
    refusal: str = ""


def _owns(principal: Principal, resource: Resource) -> bool:
    return principal.id == resource.owner


def _owns_or_administers(principal: Principal, resource: Resource) -> bool:
    return principal.administrator or _owns(principal, resource)


def _curates(principal: Principal, readers: Collection[str]) -> bool:
    """Whether a document of these readers is one of the curator's groups.

    What everyone reads is of no group; it is kept up by the curators of the group ``editors``.
    """
    return principal.role == "curator" and curated_scope(principal).allows(tuple(readers))


def curated_scope(principal: Principal) -> Scope:
    """The documents of a curator's groups."""
    groups = {*principal.groups, *((EVERYONE,) if EDITORS in principal.groups else ())}
    return Scope(readers=tuple(sorted(groups)))


def _owns_or_curates(principal: Principal, resource: Resource) -> bool:
    """Only what the principal can also read comes to this rule."""
    return _owns_or_administers(principal, resource) or _curates(principal, resource.readers)


def _may_name(principal: Principal, resource: Resource) -> bool:
    """Everyone, one of the principal's own groups, or a single principal; administrators, whomever they like."""
    reader = resource.reader or ""
    is_known = reader == EVERYONE or reader in principal.groups or reader.startswith(PRINCIPAL_PREFIX)
    return is_known or principal.administrator


_SYNCS = "Syncs belong to their owner. Only administrators act for others."

_ANSWERS = "This answer is somebody else's."
_CONVERSATIONS = "This conversation is somebody else's."

POLICY: Mapping[Action, Rule] = {
    "page.read": Rule("public"),
    "health.read": Rule("public"),
    "metrics.read": Rule("operator"),
    "description.read": Rule("principal"),
    "signin.describe": Rule("public"),
    "examples.read": Rule("asker"),
    "keys.manage": Rule("administrator"),
    "session.begin": Rule("public"),
    "session.leave": Rule("public"),
    "sessions.read": Rule("principal"),
    "sessions.read_all": Rule("administrator"),
    "sessions.end": Rule("principal"),
    "sessions.end_all": Rule("administrator"),
    "principal.read": Rule("principal"),
    "documents.read": Rule("asker"),
    "documents.create": Rule("writer"),
    "documents.change": Rule(
        "writer",
        _owns_or_curates,
        "You may read this document but not change it. Ask its owner or a curator of its groups.",
    ),
    "documents.name": Rule(
        "writer", _owns_or_administers, "External ids belong to their owner. Only administrators use those of others."
    ),
    "documents.let_read": Rule("writer", _may_name, "You may let everyone, your own groups or principals read."),
    "documents.upload_freely": Rule("administrator"),
    "documents.operate": Rule("operator"),
    "documents.inspect": Rule("administrator"),
    "documents.read_erasure": Rule("writer", _owns_or_curates),
    "syncs.report": Rule("writer", _owns_or_administers, _SYNCS),
    "syncs.read": Rule("asker", _owns_or_administers, _SYNCS),
    "syncs.read_all": Rule("administrator"),
    "answers.ask": Rule("asker"),
    "answers.read": Rule("asker", _owns, _ANSWERS),
    "answers.stop": Rule("asker", _owns, _ANSWERS),
    "answers.rate": Rule("asker", _owns, _ANSWERS),
    "answers.share": Rule("asker", _owns, _ANSWERS),
    "answers.read_details": Rule("administrator"),
    "conversations.read": Rule("asker", _owns, _CONVERSATIONS),
    "conversations.change": Rule("asker", _owns, _CONVERSATIONS),
    "passages.search": Rule("asker"),
    "passages.read": Rule("asker"),
    "passages.read_scores": Rule("administrator"),
    "texts.embed": Rule("asker"),
    "tools.call": Rule("asker"),
    "feedback.read": Rule("curator"),
    "feedback.read_all": Rule("administrator"),
    "gaps.read": Rule("curator"),
    "gaps.read_own": Rule("asker"),
    "usage.read": Rule("principal"),
    "usage.read_all": Rule("operator"),
    "operations.read": Rule("operator"),
    "dead_letters.manage": Rule("operator"),
    "index.manage": Rule("operator"),
    "index.compare": Rule("administrator"),
    "operations.read_content": Rule("administrator"),
    "audit.read": Rule("administrator"),
}
"""Answers and conversations are their asker's alone, administrators included; an answer may be shared by them.
``operations.read_content``: what operations say of a document in words, which may name it: why it could not be indexed."""

_REFUSALS: Mapping[Audience, str] = {
    "asker": "Your role is `operator`: you see how the desk does, and no documents, questions or answers.",
    "writer": "This is for writers; your key may not write (its role is `{role}`). Ask for one that may.",
    "curator": "Only curators and administrators may do this; your role is `{role}`.",
    "operator": "Only operators and administrators may do this; your role is `{role}`.",
    "administrator": "Only administrators may do this; your role is `{role}`.",
}


def audience_of(action: Action) -> Audience:
    return POLICY[action].audience


def may(principal: Principal, action: Action, resource: Resource | None = None) -> bool:
    """Whether the principal may do that to the resource; without one, whether it may to any."""
    rule = POLICY[action]
    if not _belongs(principal, rule.audience):
        return False
    return resource is None or rule.allows is None or rule.allows(principal, resource)


def require(
    principal: Principal, action: Action, resource: Resource | None = None, *, field: str | None = None
) -> None:
    """Raises Forbidden, saying why, unless the principal may. ``field``: what of the request asks for too much."""
    if may(principal, action, resource):
        return
    rule = POLICY[action]
    is_outside = not _belongs(principal, rule.audience)
    error = Forbidden(_REFUSALS.get(rule.audience, "").format(role=principal.role) if is_outside else rule.refusal)
    if field is not None:
        error.details["field"] = field
    raise error


def _belongs(principal: Principal, audience: Audience) -> bool:
    return audience == "public" or (principal != ANONYMOUS and principal.role in ROLES[audience])
