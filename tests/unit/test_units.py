"""What of a passage can be quoted on its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.text.units import Unit, units
from refdesk.contracts.answers import Source


def read(passage: str, *, heading: str | None = None) -> list[Unit]:
    return list(
        units(
            Source(
                n=1, document_id="d", version=1, title="Guide", heading=heading, passage=passage, ordinal=0, stale=False
            )
        )
    )


@pytest.mark.parametrize(
    ("passage", "texts"),
    [
        ("The desk is open. It closes at noon.", ["The desk is open.", "The desk is open. It closes at noon."]),
        (
            "Members have a badge. It may be exchanged once.",
            ["Members have a badge.", "Members have a badge. It may be exchanged once."],
        ),
        ("Money\n\nSalaries are paid monthly.", ["Salaries are paid monthly."]),
        ("Is it free?\n\nYes. Travel is free.", ["Yes. Travel is free."]),
        ("8. Claiming expenses\nExpenses are claimed online.", ["Expenses are claimed online."]),
        ("Guide\n\nCall the service desk.", ["Call the service desk."]),
        ("Name | Room\nAnna Berg | 12", ["Name: Anna Berg · Room: 12"]),
        ("Anna Berg | 12\nOle Lund | 14", ["Anna Berg · 12", "Ole Lund · 14"]),
        ("A | B\nFirst cell | one | two", ["First cell · one · two"]),
        ("Guide\nSurname: Berg\nClass: A\nSeat: 14", ["Surname: Berg", "Class: A", "Seat: 14"]),
        ("Typed over: no cranes\n\nSticky note: replace it", ["Typed over: no cranes", "Sticky note: replace it"]),
        ("姓名：张三\n部门：财务", ["姓名：张三", "部门：财务"]),
        ("Room 103\nSeats 30\nFloor 2", ["Room 103 · Seats 30", "Room 103 · Floor 2"]),
        ("Room 103\nIt has 30 seats.\nFloor 2", ["Room 103", "It has 30 seats.", "Floor 2"]),
        ("Appendix: Forms\nThey hang in the hall.", ["They hang in the hall."]),
        ("", []),
    ],
)
def test_a_passage_is_read_as_units(passage: str, texts: list[str]) -> None:
    """Headings, questions and table headers are what units stand under; they are none themselves."""
    assert [unit.text for unit in read(passage)] == texts


def test_a_sentence_leans_on_the_one_that_names_what_it_speaks_of() -> None:
    """However many lie between; of those only the last is quoted."""
    prose = "The Tern folds. It weighs 9 kilograms. Its hinge broke. Nine of them were made."
    assert [unit.text for unit in read(prose)][-2:] == [
        "The Tern folds. It weighs 9 kilograms. Its hinge broke.",
        "The Tern folds. … Its hinge broke. Nine of them were made.",
    ]


def test_what_introduces_a_list_is_read_with_what_it_leans_on() -> None:
    """Otherwise nobody knows who looks at what."""
    assert read("Mechanics check ten bicycles. They look at:\n\n- the bell\n- the lock pin")[-1].lead == (
        "Mechanics check ten bicycles. They look at:"
    )


def test_a_list_is_a_unit_beside_its_items() -> None:
    """Each item leans on the line that introduces the list."""
    items = read("Fail over when one of these holds:\n\n1. The disk reports errors.\n2. The power is lost.")
    assert [(unit.kind, unit.context, unit.numbered) for unit in items] == [
        ("item", "Fail over when one of these holds:", True),
        ("item", "Fail over when one of these holds:", True),
        ("list", "Fail over when one of these holds:", True),
    ]
    assert items[-1].lead == "Fail over when one of these holds:"
    assert items[-1].text == "1. The disk reports errors.\n2. The power is lost."


def test_a_list_without_introduction_is_led_by_its_heading() -> None:
    """By the nearest one of the chunk, where the text has none."""
    assert read("- First thing done.\n- Second thing done.", heading="Setup › Verify")[-1].lead == "Verify"


def test_a_line_of_a_card_is_about_its_first() -> None:
    """And is read with all of it: who is paid stands in one line, how much in another."""
    *_, net = read("Pay slip 5\nEmployee Bo Lind\nGross 2890 EUR\nNet 2350 EUR")
    assert (net.text, net.entity) == ("Pay slip 5 · Net 2350 EUR", "Pay slip 5") and "Bo Lind" in net.context


def test_a_field_is_about_its_label() -> None:
    """Whoever asks for the label asks for what stands behind it."""
    assert [(unit.kind, unit.entity) for unit in read("Surname: Okonkwo\nClass: A")] == [
        ("row", "Surname"),
        ("row", "Class"),
    ]


def test_a_row_knows_what_it_is_about() -> None:
    """Its first cell; and which columns it has."""
    (row,) = read("Service | Team | Tier\nManifest | Team Curlew | Tier 1")[:1]
    assert (row.entity, row.columns) == ("Manifest", "Team Tier")


@given(st.text(alphabet="A b1.|-\n?:", max_size=80))
def test_any_text_can_be_read(passage: str) -> None:
    """Whatever a parser has left."""
    assert all(unit.text.strip() for unit in read(passage))
