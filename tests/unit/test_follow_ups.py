"""Which questions lean on the one before them."""

import pytest

from refdesk.answering.conversations.turns import Turn
from refdesk.answering.follow_ups import CONTEXT_CHARACTERS_MAX, FollowUp, leaning, leans
from refdesk.contracts.answers import Source

FARES = "What does a car cost in summer?"


def source(passage: str, *, title: str = "Handbook") -> Source:
    return Source(n=1, document_id="d", version=1, title=title, passage=passage, ordinal=0, stale=False)


FARE = source("A car costs EUR 46 in summer and EUR 32 in winter.", title="Fares")
STORMS = source("Sailings are cancelled in winter storms.")


@pytest.mark.parametrize("question", ["And in winter?", "Who pays for it?", "What about buses?", "Why?", "In winter?"])
def test_what_refers_back_or_is_short_may_lean(question: str) -> None:
    """It is read with the question before it."""
    follow_up = leaning(question, [Turn(FARES, "A car costs EUR 46. [1]")])
    assert follow_up == FollowUp(question, FARES, "A car costs EUR 46.")
    assert follow_up.text == f"{FARES} {question}"


def test_a_whole_question_stands_alone() -> None:
    """So does the first of a conversation."""
    assert leaning("Where can visitors park bicycles near the office?", [Turn(FARES, "")]) is None
    assert leaning("And in winter?", []) is None


def test_the_name_of_a_section_stands_alone() -> None:
    """However short it is, and whatever its words: the page asks by it for what else a document says."""
    assert leaning("Fares › In winter", [Turn(FARES, "")]) is None
    assert leaning("Timetable › When it does not sail", [Turn(FARES, "")]) is None


def test_what_leaned_is_read_as_it_was() -> None:
    """A chain of follow-ups keeps its topic, up to a limit."""
    third = leaning("And on Sundays?", [Turn(FARES, ""), Turn("And in winter?", "", f"{FARES} And in winter?")])
    assert third is not None and third.text == f"{FARES} And in winter? And on Sundays?"
    long = leaning("And on Sundays?", [Turn("And in winter?", "", "x" * (CONTEXT_CHARACTERS_MAX + 1))])
    assert long is not None and long.context == "And in winter?"


def test_it_leans_when_one_passage_is_about_both() -> None:
    """Whatever else is found on the question alone."""
    assert leans(FollowUp("And in winter?", FARES), alone=[STORMS], together=[STORMS, FARE])


def test_a_new_topic_leans_on_nothing() -> None:
    """What is about the old one says nothing of it, and what says it is not about the old one."""
    pension = source("The pension fund sends a statement every February.")
    new = FollowUp("And the pension?", FARES)
    assert not leans(new, alone=[pension], together=[FARE, pension])
    assert not leans(new, alone=[], together=[])
