"""Who may do what: one table, and one question to it.

    door ─────────── require(principal, "documents.change") ──┐
    use case ─────── may(principal, …, Resource(owner=…)) ────┼──▶ POLICY
    socket message ─ require(principal, "answers.ask") ───────┘

Every route and every message of a socket names its action. An action has an *audience*, which the door checks, and may have a
rule for what is acted upon, which the use case checks once it knows that.

Which documents somebody may *read* is not asked here one by one: a principal's `Scope` stands inside every query
(`contracts.access`). What may not be read is not there, at any door.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from refdesk.contracts.access import EVERYONE, PRINCIPAL_PREFIX, Principal
from refdesk.contracts.errors import Forbidden

ANONYMOUS = Principal(id="anonymous", role="asker")
"""A caller without a key."""

Audience = Literal["public", "principal", "writer", "administrator"]
"""``public``: every caller. ``principal``: callers with a key. ``writer``: callers whose key may write."""

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
    "dead_letters.manage",
    "index.manage",
]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What is acted upon, as far as a rule looks at it."""

    owner: str | None = None
    """The id of the principal whose it is."""
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


def _owns_or_edits(principal: Principal, resource: Resource) -> bool:
    """Editors change what they can also read; only that comes to this rule."""
    return principal.editor or _owns_or_administers(principal, resource)


def _may_name(principal: Principal, resource: Resource) -> bool:
    """Everyone, one of the principal's own groups, or a single principal; administrators, whomever they like."""
    reader = resource.reader or ""
    is_known = reader == EVERYONE or reader in principal.groups or reader.startswith(PRINCIPAL_PREFIX)
    return is_known or principal.administrator


_SYNCS = "Syncs belong to their owner. Only administrators act for others."

POLICY: Mapping[Action, Rule] = {
    "page.read": Rule("public"),
    "health.read": Rule("public"),
    "metrics.read": Rule("administrator"),
    "description.read": Rule("principal"),
    "signin.describe": Rule("public"),
    "keys.manage": Rule("administrator"),
    "session.begin": Rule("public"),
    "session.leave": Rule("public"),
    "sessions.read": Rule("principal"),
    "sessions.read_all": Rule("administrator"),
    "sessions.end": Rule("principal"),
    "sessions.end_all": Rule("administrator"),
    "principal.read": Rule("principal"),
    "documents.read": Rule("principal"),
    "documents.create": Rule("writer"),
    "documents.change": Rule(
        "writer", _owns_or_edits, "You may read this document but not change it. Ask its owner or an editor."
    ),
    "documents.name": Rule(
        "writer", _owns_or_administers, "External ids belong to their owner. Only administrators use those of others."
    ),
    "documents.let_read": Rule("writer", _may_name, "You may let everyone, your own groups or principals read."),
    "documents.upload_freely": Rule("administrator"),
    "documents.operate": Rule("administrator"),
    "syncs.report": Rule("writer", _owns_or_administers, _SYNCS),
    "syncs.read": Rule("principal", _owns_or_administers, _SYNCS),
    "syncs.read_all": Rule("administrator"),
    "answers.ask": Rule("principal"),
    "answers.read": Rule("principal", _owns, "This answer is somebody else's."),
    "answers.stop": Rule("principal", _owns, "This answer is somebody else's."),
    "answers.rate": Rule("principal", _owns, "This answer is somebody else's."),
    "answers.share": Rule("principal", _owns, "This answer is somebody else's."),
    "answers.read_details": Rule("administrator"),
    "conversations.read": Rule("principal", _owns, "This conversation is somebody else's."),
    "conversations.change": Rule("principal", _owns, "This conversation is somebody else's."),
    "passages.search": Rule("principal"),
    "passages.read": Rule("principal"),
    "passages.read_scores": Rule("administrator"),
    "texts.embed": Rule("principal"),
    "tools.call": Rule("principal"),
    "feedback.read": Rule("administrator"),
    "gaps.read": Rule("administrator"),
    "gaps.read_own": Rule("principal"),
    "usage.read": Rule("principal"),
    "usage.read_all": Rule("administrator"),
    "operations.read": Rule("administrator"),
    "dead_letters.manage": Rule("administrator"),
    "index.manage": Rule("administrator"),
}
"""Answers and conversations are their asker's alone, administrators included; an answer may be shared by them."""

_REFUSALS: Mapping[Audience, str] = {
    "writer": "Your key reads and asks; it may not write (its role is `asker`). Ask for one that may.",
    "administrator": "Only administrators may do this. Use a key of the group `administrators`.",
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
    error = Forbidden(_REFUSALS.get(rule.audience) if is_outside else rule.refusal)
    if field is not None:
        error.details["field"] = field
    raise error


def _belongs(principal: Principal, audience: Audience) -> bool:
    match audience:
        case "public":
            return True
        case "principal":
            return principal != ANONYMOUS
        case "writer":
            return principal.administrator or (principal.role == "writer" and principal != ANONYMOUS)
        case "administrator":
            return principal.administrator
