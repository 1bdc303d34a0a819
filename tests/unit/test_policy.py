"""One table of who may do what."""

from typing import get_args

import pytest

from refdesk.access.policy import ANONYMOUS, POLICY, Action, Audience, Resource, audience_of, may, require
from refdesk.contracts.access import ADMINISTRATORS, EDITORS, EVERYONE, Principal
from refdesk.contracts.errors import Forbidden

ASKER = Principal(id="asker", groups=("hr",), role="asker")
WRITER = Principal(id="writer", groups=("hr",))
EDITOR = Principal(id="editor", groups=(EDITORS,))
ADMINISTRATOR = Principal(id="administrator", groups=(ADMINISTRATORS,))
EVERYBODY = (ANONYMOUS, ASKER, WRITER, EDITOR, ADMINISTRATOR)

LET_IN: dict[Audience, tuple[Principal, ...]] = {
    "public": EVERYBODY,
    "principal": EVERYBODY[1:],
    "writer": EVERYBODY[2:],
    "administrator": (ADMINISTRATOR,),
}


def test_every_action_is_in_the_table() -> None:
    """And the table has no other."""
    assert POLICY.keys() == set(get_args(Action))


@pytest.mark.parametrize("action", get_args(Action))
def test_an_action_is_for_its_audience(action: Action) -> None:
    """Each principal in turn, whatever it would act upon."""
    assert {who.id for who in EVERYBODY if may(who, action)} == {who.id for who in LET_IN[audience_of(action)]}


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("documents.change", Resource(owner="writer"), (WRITER, EDITOR, ADMINISTRATOR)),
        ("documents.change", Resource(owner="asker"), (EDITOR, ADMINISTRATOR)),
        ("documents.name", Resource(owner="writer"), (WRITER, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader=EVERYONE), (WRITER, EDITOR, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader="principal:somebody"), (WRITER, EDITOR, ADMINISTRATOR)),
        ("documents.let_read", Resource(reader="hr"), (WRITER, ADMINISTRATOR)),
        ("documents.let_read", Resource(), (ADMINISTRATOR,)),
        ("answers.read", Resource(owner="asker"), (ASKER,)),
        ("answers.stop", Resource(owner="writer"), (WRITER,)),
        ("answers.read", Resource(), ()),
    ],
)
def test_what_is_acted_upon_decides(action: Action, resource: Resource, allowed: tuple[Principal, ...]) -> None:
    """Owners, editors and administrators change documents; an answer is its asker's alone."""
    assert {who.id for who in EVERYBODY if may(who, action, resource)} == {who.id for who in allowed}


@pytest.mark.parametrize(
    ("who", "action", "words"),
    [
        (ASKER, "documents.create", "its role is `asker`"),
        (WRITER, "keys.manage", "Only administrators"),
        (WRITER, "documents.change", "Ask its owner or an editor"),
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
