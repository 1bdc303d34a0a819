"""One table of who may do what."""

from typing import get_args

import pytest

from refdesk.access.policy import ANONYMOUS, POLICY, ROLES, Action, Audience, Resource, audience_of, may, require
from refdesk.contracts.access import ADMINISTRATORS, EDITORS, EVERYONE, Principal, Role, role_within
from refdesk.contracts.errors import Forbidden

ASKER = Principal(id="asker", groups=("hr",), role="asker")
WRITER = Principal(id="writer", groups=("hr",))
CURATOR = Principal(id="curator", groups=("hr",), role="curator")
EDITOR = Principal(id="editor", groups=(EDITORS,), role="curator")
RUNNER = Principal(id="runner", groups=("hr",), role="operator")
ADMINISTRATOR = Principal(id="administrator", role="administrator")
EVERYBODY = (ANONYMOUS, ASKER, WRITER, CURATOR, EDITOR, RUNNER, ADMINISTRATOR)
CURATORS = (CURATOR, EDITOR)

LET_IN: dict[Audience, tuple[Principal, ...]] = {
    "public": EVERYBODY,
    "principal": EVERYBODY[1:],
    "asker": (ASKER, WRITER, *CURATORS, ADMINISTRATOR),
    "writer": (WRITER, *CURATORS, ADMINISTRATOR),
    "curator": (*CURATORS, ADMINISTRATOR),
    "operator": (RUNNER, ADMINISTRATOR),
    "administrator": (ADMINISTRATOR,),
}
AN_OPERATORS: set[Action] = {
    "page.read",
    "health.read",
    "metrics.read",
    "description.read",
    "signin.describe",
    "session.begin",
    "session.leave",
    "sessions.read",
    "sessions.end",
    "principal.read",
    "usage.read",
    "usage.read_all",
    "operations.read",
    "documents.operate",
    "dead_letters.manage",
    "index.manage",
}


def test_every_action_is_in_the_table() -> None:
    """And the table has no other."""
    assert POLICY.keys() == set(get_args(Action))
    assert {"public", *ROLES} == set(get_args(Audience))


@pytest.mark.parametrize("action", get_args(Action))
def test_an_action_is_for_its_audience(action: Action) -> None:
    """Each principal in turn, whatever it would act upon."""
    assert {who.id for who in EVERYBODY if may(who, action)} == {who.id for who in LET_IN[audience_of(action)]}


def test_an_operator_may_do_nothing_else() -> None:
    """A new action is not an operator's unless this list says so."""
    assert {action for action in POLICY if may(RUNNER, action)} == AN_OPERATORS


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("documents.change", Resource(owner="writer"), (WRITER, ADMINISTRATOR)),
        ("documents.change", Resource(owner="asker"), (ADMINISTRATOR,)),
        ("documents.change", Resource(owner="x", readers=("hr", "legal")), (CURATOR, ADMINISTRATOR)),
        ("documents.change", Resource(owner="x", readers=("legal",)), (ADMINISTRATOR,)),
        ("documents.change", Resource(owner="x", readers=(EVERYONE,)), (EDITOR, ADMINISTRATOR)),
        ("documents.change", Resource(owner="x", readers=("principal:curator",)), (ADMINISTRATOR,)),
        ("documents.change", Resource(owner="runner", readers=("hr",)), (CURATOR, ADMINISTRATOR)),
        ("documents.name", Resource(owner="writer"), (WRITER, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader=EVERYONE), (WRITER, *CURATORS, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader="principal:somebody"), (WRITER, *CURATORS, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader="hr"), (WRITER, CURATOR, ADMINISTRATOR)),
        ("documents.let_read", Resource(), (ADMINISTRATOR,)),
        ("answers.read", Resource(owner="asker"), (ASKER,)),
        ("answers.read", Resource(owner="runner"), ()),
        ("answers.stop", Resource(owner="writer"), (WRITER,)),
        ("answers.read", Resource(), ()),
    ],
)
def test_what_is_acted_upon_decides(action: Action, resource: Resource, allowed: tuple[Principal, ...]) -> None:
    """Owners, curators of its groups and administrators change a document; an answer is its asker's alone."""
    assert {who.id for who in EVERYBODY if may(who, action, resource)} == {who.id for who in allowed}


@pytest.mark.parametrize(
    ("who", "action", "words"),
    [
        (ASKER, "documents.create", "its role is `asker`"),
        (WRITER, "keys.manage", "Only administrators.*`writer`"),
        (WRITER, "dead_letters.manage", "Only operators and administrators"),
        (RUNNER, "answers.ask", "Your role is `operator`"),
        (WRITER, "documents.change", "Ask its owner or a curator"),
    ],
)
def test_a_refusal_says_what_is_missing(who: Principal, action: Action, words: str) -> None:
    """And names the field that asks for too much, where there is one."""
    with pytest.raises(Forbidden, match=words) as raised:
        require(who, action, Resource(owner="somebody"), field="owner")
    assert raised.value.details == {"field": "owner"}


def test_what_is_allowed_raises_nothing() -> None:
    """A writer and their own document."""
    require(WRITER, "documents.change", Resource(owner="writer"))


def test_a_group_gives_no_right_but_to_read() -> None:
    """Whoever names the groups, a provider of identities among them, names no administrator by it."""
    assert not Principal(id="x", groups=(ADMINISTRATORS, EDITORS)).administrator
    assert not may(Principal(id="x", groups=(ADMINISTRATORS,)), "keys.manage")
    assert not Principal(id="x", groups=(ADMINISTRATORS,)).scope.everything


@pytest.mark.parametrize(
    ("groups", "role", "meant"),
    [
        ((), "writer", "writer"),
        (("hr", ADMINISTRATORS), "writer", "administrator"),
        (("hr", EDITORS), "writer", "curator"),
        ((EDITORS, ADMINISTRATORS), "writer", "administrator"),
        ((ADMINISTRATORS,), "asker", "asker"),
        ((ADMINISTRATORS,), "operator", "operator"),
        ((), "curator", "curator"),
    ],
)
def test_a_group_that_stands_for_a_role_lifts_a_writers_key(groups: tuple[str, ...], role: Role, meant: Role) -> None:
    """As it did before there were these roles; one that is less than a writer stays what it is."""
    assert role_within(groups, role) == meant
