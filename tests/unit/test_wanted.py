"""What kind of answer a question wants."""

import pytest

from refdesk.answering.quoting.wanted import Wanted


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("What does a ticket for Route B cost?", ["route b"]),
        ("Who is the manager of MV Petrel in Port Aldren?", ["mv petrel", "port aldren"]),
        ("What does D-07 mean?", ["d-07"]),
        ("fault code m31", ["m31"]),
        ("Where is TX/40/b?", ["tx/40/b"]),
        ("What is due by the 15th?", []),
        ("Who wrote the 12-page report of order 4500123?", []),
        ("May I bring a dog?", []),
        ("How many days of leave do I get?", []),
    ],
)
def test_names_are_capitals_inside_the_sentence_and_identifiers(question: str, names: list[str]) -> None:
    """Several words that follow each other are one name."""
    assert [name.text for name in Wanted.of(question).names] == names


@pytest.mark.parametrize(
    ("question", "text", "missing"),
    [
        ("What does D-07 mean?", "D07: no power", 0),
        ("battery pack BX3617", "packs are BX-36-17", 0),
        ("fault code m31", "system 31, M310", 1),
        ("What does a ticket for Route B cost?", "On Route A it costs 9", 1),
        ("Where are the Terns today?", "The Tern hangs in the library.", 0),
        ("Do Ole Lund and Anna Berg share a room?", "anna berg sits in 12", 0.5),
    ],
)
def test_a_name_is_found_however_it_is_written(question: str, text: str, missing: float) -> None:
    """Set apart or together, in the plural, in small letters; never as a part of another."""
    assert Wanted.of(question).names_missing_in(text) == missing


def test_an_identifier_is_one_of_the_words_found() -> None:
    """Its parts alone say little."""
    assert "d-07" in Wanted.of("What does D-07 mean?").found_in("Code D07")


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("How do I renew it?", {"steps"}),
        ("How are certificates renewed?", {"steps"}),
        ("It burns. How can I leave?", {"steps"}),
        ("How many days are there?", {"number", "one"}),
        ("When is the meeting?", {"number", "date", "one"}),
        ("In which month do we renew it?", {"number", "date", "one"}),
        ("And when does it end?", {"number", "date"}),
        ("Until when may I stay?", {"number", "date"}),
        ("It is late. When do we leave?", {"number", "date"}),
        ("Where do we meet when it rains?", {"one"}),
        ("Whom do I call at night or when the office is closed?", {"one"}),
        ("Where is the office?", {"one"}),
        ("What is the difference between A4 and A5?", {"compared"}),
        ("Which is heavier, the Heron or the Pelican?", {"compared"}),
        ("What is not allowed?", set()),
    ],
)
def test_its_words_tell_what_a_question_wants(question: str, kinds: set[str]) -> None:
    """Steps, a number, a day, one thing, or several beside each other."""
    wanted = Wanted.of(question)
    assert {kind for kind in ("steps", "number", "date", "one", "compared") if getattr(wanted, kind)} == kinds


@pytest.mark.parametrize(
    ("question", "counted"),
    [
        ("How many days of leave do I get?", ("day", "leav")),
        ("And how much annual leave can be carried over?", ("annual", "leav")),
        ("How many docks are there?", ("dock",)),
        ("How much is the meal allowance?", ()),
        ("How long is the notice period?", ()),
    ],
)
def test_what_is_to_be_counted_is_told_by_its_words(question: str, counted: tuple[str, ...]) -> None:
    """As stems; nothing where no thing is named that has a number."""
    assert Wanted.of(question).counted == counted
