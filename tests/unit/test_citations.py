"""Citations as models spell them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.text.citations import CitationReader

KNOWN = (1, 2, 3)
PIECES = (
    *(
        "Leave",
        " is",
        " 27",
        " days",
        ".",
        " ",
        "\n",
        "`",
        "``",
        "(",
        ")",
        "[",
        "]",
        "[[",
        "]]",
        "【",
        "】",
        "\\",
        "^",
        "-",
        ", ",
    ),
    *("1", "2", "9", "Passage ", "¹", "²", "†", "source", "(1)", "[1]", " [9]", "m"),
)


def spelled(text: str, *, known: tuple[int, ...] = KNOWN) -> str:
    reader = CitationReader(known)
    return reader.read(text) + reader.rest()


SPELLINGS = [
    ("27 days [1].", "27 days [1]."),
    ("27 days [1, 2].", "27 days [1, 2]."),
    ("27 days [1][2].", "27 days [1][2]."),
    ("27 days [1-3].", "27 days [1, 2, 3]."),
    ("27 days [1–3].", "27 days [1, 2, 3]."),
    ("27 days [^1].", "27 days [1]."),
    ("27 days [1; 2].", "27 days [1, 2]."),
    ("27 days [1 and 2].", "27 days [1, 2]."),
    ("27 days [Passage 1].", "27 days [1]."),
    ("27 days [Passages 1, 2].", "27 days [1, 2]."),
    ("27 days [passage 1, passage 2].", "27 days [1, 2]."),
    ("27 days [Source: 2].", "27 days [2]."),
    ("27 days [[2]].", "27 days [2]."),
    ("27 days【1】.", "27 days[1]."),
    ("27 days 【2†source】.", "27 days [2]."),
    ("27 days \\[1\\].", "27 days [1]."),
    ("27 days (1).", "27 days [1]."),
    ("27 days (1, 2)", "27 days [1, 2]"),
    ("27 days.¹", "27 days.[1]"),
    ("27 days¹ a year", "27 days[1] a year"),
    ("27 days ¹.", "27 days [1]."),
    ("It is paid from ². Next", "It is paid from [2]. Next"),
    ("27 days [doc1].", "27 days [1]."),
    ("27 days [doc_1, doc_2].", "27 days [1, 2]."),
    ("27 days [ID:1].", "27 days [1]."),
    ("27 days [citation:1].", "27 days [1]."),
    ("27 days [1](#1).", "27 days [1]."),
    ("27 days [1](#cite-1)[2](#2)", "27 days [1][2]"),
    ("27 days[1].", "27 days[1]."),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_every_spelling_becomes_ours(text: str, expected: str) -> None:
    """Whatever the model has learnt elsewhere."""
    assert spelled(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("27 days [9].", "27 days.", 1),
        ("27 days [1, 9].", "27 days [1].", 0),
        ("27 days [doc9] and [9](#9).", "27 days and.", 2),
        ("27 days 【7†source】. Next [8]", "27 days. Next", 2),
    ],
)
def test_a_citation_of_nothing_is_removed_and_counted(text: str, expected: str, unknown: int) -> None:
    """With the space before it."""
    reader = CitationReader(KNOWN)
    assert (reader.read(text) + reader.rest(), reader.unknown) == (expected, unknown)


@pytest.mark.parametrize(
    "text",
    [
        "Take values[9] and f(1) of 5 m² or km², 3 m ² and x².",
        "¹ The first note",
        "A call [9](1) and [1]",
        "Use `a[9]` and ```\nb = c [8]\n``` here.",
        "(1) First, (2) second",
        "In [2024] it was [sic] so [1-99].",
        "Open [the page](https://x.example) (see below).",
        "Loads of 25 kg (2 people) are fine.",
        "A [ 1 ] b [",
        "Unfinished [Passage",
    ],
)
def test_what_only_looks_like_a_citation_is_left_alone(text: str) -> None:
    """Indices, calls, powers, enumerations, years, links and code."""
    assert spelled(text) == text


@pytest.mark.parametrize("text", [*(text for text, _ in SPELLINGS), "27 days [9].", "[[2]] and [[2] x", "a\\[1\\] b"])
def test_a_text_letter_by_letter_is_spelled_like_the_whole(text: str) -> None:
    """Also where the last letter of a citation comes alone."""
    reader = CitationReader(KNOWN)
    assert "".join(map(reader.read, text)) + reader.rest() == spelled(text)


@given(st.lists(st.sampled_from(PIECES), max_size=20), st.data())
def test_a_text_in_pieces_is_spelled_like_the_whole(pieces: list[str], data: st.DataObject) -> None:
    """However the model's chunks cut it."""
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reader = CitationReader(KNOWN)
    said = "".join(reader.read(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
    assert said + reader.rest() == spelled(text)


def test_words_are_not_held_back() -> None:
    """Only what may become a citation waits, and never longer than one can be."""
    reader = CitationReader(KNOWN)
    assert reader.read("You get") == "You get"
    assert reader.read(" 27 days [") == " 27 days"
    assert reader.read("see the page on leave for more about that rule, ") != ""


def test_a_long_run_of_openers_takes_linear_time() -> None:
    """A hostile model writes nothing but brackets."""
    reader = CitationReader(KNOWN)
    assert len("".join(reader.read("[[(¹\\") for _ in range(20_000)) + reader.rest()) == 100_000
