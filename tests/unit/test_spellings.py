"""What is written in two ways is found in either; and what a slip of the finger was meant to be."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refdesk.index.mistakes import edits_between, may_be_wrong, one_edit_away, one_slip_away, two_edits_away
from refdesk.index.spellings import spellings
from refdesk.index.stems import stems


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("KRN-8359", "krn8359 krn 8359"),
        ("KRN8359", "krn 8359"),  # whole, PostgreSQL has it by itself
        ("KRN 8359", "krn8359"),
        ("krn_8359", "krn8359 krn 8359"),
        ("KRN/8359", "krn8359 krn 8359"),
        ("E-31", "e31 31"),
        ("8,359 parts", "8359"),
        ("8.359 Teile", "8.359 359 8359"),
        ("1'250'000", "1250000"),
        ("version 2.4.10", "2.4.10 10"),
        ("v2.4.10", "2.4.10 10"),
        ("getUserName()", "get user name"),
        ("MAX_RETRIES", "maxretries max retries"),
        ("2026-11-30", "2026.11.30 2026 11 30 20261130"),
        ("30.11.2026", "30.11.2026 30 11 2026 20261130"),
        ("30 November 2026", "20261130"),
        ("Nov 30th, 2026", "30 th 20261130"),
        ("3/4/2026", "3.4.2026 2026 20260403 20260304"),
        ("Room 30 March 9999999", ""),
        ("ask IT about it", "x0it"),
        ("the WHO says who", "x0who"),
        ("THIS IS IT", ""),
        ("Müller's café", "muller mueller cafe"),
        ("an e-mail from the U.S.", "x0us email"),
        ("state-of-the-art", ""),
        ("DE89 3704 0044 0532", "de 89 de89370400440532"),
        ("+49 30 901820, +4930901820", "4930901820"),
        ("M8 x 40 or M8×40", "m8x40"),
        ("user.session.ttl", "usersessionttl user session ttl"),
        ("Straße", "strasse"),
        ("東京", "x6771 x4eac x67714eac"),
        ("テスト", "x30c630b9 x30b930c8"),
        ("plain words only.", ""),
    ],
)
def test_further_spellings(text: str, found: str) -> None:
    """Of identifiers, numbers, dates, acronyms, accents and scripts without spaces."""
    assert spellings(text) == found


@given(st.text())
@example("Отпуск ؠي أيام")
def test_spellings_are_words_that_any_parser_leaves_whole(text: str) -> None:
    """Letters, digits and, in numbers, dots, of ASCII and in small letters; each once. Stems have their language's letters."""
    found = spellings(text).split()
    assert len(found) == len(set(found))
    for word in set(found).difference(stems(text)):
        assert word.isascii() and word.replace(".", "").isalnum() and word == word.lower()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("accomod", "accommod"),
        ("recieve", "receive"),
        ("seperat", "separat"),
        ("occured", "occurred"),
        ("leav", "leave"),
    ],
)
def test_one_edit_finds_what_was_meant(wrong: str, right: str) -> None:
    """Left out, added, exchanged, swapped."""
    assert right in one_edit_away(wrong)
    assert edits_between(wrong, right) == 1


def test_two_edits_need_a_vocabulary() -> None:
    """Words that are as far away as that, and no further."""
    assert two_edits_away("mainten", ["maintain", "maintenan", "main", "minded"]) == ["maintain", "maintenan"]
    assert edits_between("kitten", "sitting") == 3
    assert edits_between("ca", "ac") == 1


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_are_counted_both_ways(one: str, other: str) -> None:
    """And no edit is next to nothing."""
    assert edits_between(one, other) == edits_between(other, one)
    assert (edits_between(one, other) == 0) == (one == other)


@pytest.mark.parametrize(("term", "may"), [("leav", False), ("leave", True), ("krn8359", False), ("müller", False)])
def test_only_words_are_mistakes(term: str, may: bool) -> None:
    """A number or a code that is not there is not there."""
    assert may_be_wrong(term) is may


def test_two_letters_doubled_or_not_are_one_slip() -> None:
    """Which are two edits."""
    assert "tomorrow" in one_slip_away("tommorow")
    assert "accommodation" in one_slip_away("acomodation")
    assert edits_between("tommorow", "tomorrow") == 2
