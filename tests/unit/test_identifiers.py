"""What a question names by an identifier comes first."""

import pytest

from refdesk.index.chunks import Passage
from refdesk.index.identifiers import RARE_MAX, identifiers, named_first


def passage(text: str, *, score: float, heading: str | None = None) -> Passage:
    return Passage(
        document_id="d",
        version=1,
        content_sha256="",
        title="Parts",
        url=None,
        ordinal=0,
        text=text,
        heading=heading,
        page=None,
        score=score,
        similarity=0.5,
    )


def first(question: str, *texts: str) -> str:
    """The text that comes first, of some that were found in this order."""
    found = [passage(text, score=1.0 - place / 10) for place, text in enumerate(texts)]
    return named_first(question, found)[0].text


@pytest.mark.parametrize(
    ("question", "text"),
    [
        *(
            ("What is KRN-8359?", spelled)
            for spelled in ("Seal KRN-8359", "seal krn 8359", "Seal krn_8359.", "(KRN8359)")
        ),
        ("where is krn-8359", "Seal KRN-8359"),
        ("储物柜 M-01442 的押金是多少？", "儲物櫃M-01442的押金"),
        ("order 4500123", "Order 4500123 of May"),
        ("TDP-43 in cells", "Of TDP-43"),
        ("Is v2.4.1 out?", "v2.4.1 is"),
        ("Where is KRN 8359?", "KRN-8359"),
        ("pack BX3617", "BX-36-17"),
        ("order 4500123", "Order 4 500 123"),
        ("Насос КЦ-1204", "насос кц 1204"),
        ("7704", "Seal KRN-7704"),
        (" #415? ", "Hall 415"),
    ],
)
def test_a_passage_with_the_identifier_comes_first(question: str, text: str) -> None:
    """However its parts are joined, and whatever script stands beside it."""
    assert first(question, "Seal KRN-8358", "Seal KRN-83590 and XKRN-8359", text) == text


@pytest.mark.parametrize(
    "question",
    [
        "In 2024?",
        "room 415",
        "42",
        "the 15th rule",
        "since the 1950s",
        "a 4-letter word",
        "cobalt-60",
        "mid-2016",
        "400mg",
        "5mmol/L",
        "PIN1",
        "MEK 1/2",
    ],
)
def test_words_with_figures_and_amounts_move_nothing_up(question: str) -> None:
    """They are searched for as words are."""
    assert first(question, "another", question) == "another"


def test_what_many_passages_have_tells_none_of_them_apart() -> None:
    """Then the order stays."""
    texts = ["Of ISO9001", *(f"ISO9001 part {number}" for number in range(RARE_MAX))]
    assert first("What does ISO9001 say?", "near", *texts) == "near"
    assert first("What does ISO9001 say?", "near", *texts[1:]) == "ISO9001 part 0"


def test_the_name_of_a_part_counts() -> None:
    """An identifier may stand in the heading alone."""
    found = [passage("near", score=1.0), passage("text", score=0.1, heading="Attachment: RFQ-2217.pdf")]
    assert named_first("What does RFQ-2217 ask for?", found)[0].text == "text"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fault code m31 or D-07", ["m31", "D-07"]),
        ("What does KRN 8359 cost, and krn-8359?", ["KRN 8359"]),
        ("儲物櫃M-01442的押金", ["M-01442"]),
        ("by the 15th, since the 1950s, a 4-letter word, 24-hour", []),
        ("A 2024 report of 5 pages", []),
        ("order 4500123 of 2024", ["4500123"]),
    ],
)
def test_identifiers_are_found_as_they_are_written(text: str, found: list[str]) -> None:
    """Each once, however often and in whatever spelling it comes; figures in words are none."""
    assert [one.text for one in identifiers(text)] == found


def test_a_pattern_is_quickly_made() -> None:
    """One is for each identifier of a question: a class of a million characters takes 10 ms to compile."""
    assert all(ord(sign) < 0x1000 for one in identifiers("KRN-8359, TDP-43") for sign in one.pattern.pattern)
