"""Hidden characters do not get past the doors where text comes in."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hygiene import clean
from refdesk.documents.changes import Change, Limits, filename

LIMITS = Limits()

_HIDDEN = st.sampled_from(
    [
        *(
            "\u200b",
            "\u200d",
            "\u2060",
            "\ufeff",
            "\u202e",
            "\u2066",
            "\u200f",
            "\u061c",
            "\ufe0f",
            "\U000e0041",
            "\U000e007f",
        ),
        *(
            "\x00",
            "\x07",
            "\x1b",
            "\x1b[31m",
            "\x1b]0;title\x07",
            "\x1b]8;;http://x\x1b\\",
            "\x9b",
            "\x9b1m",
            "\x85",
            "\ud800",
        ),
    ]
)


texts = st.lists(st.one_of(st.text(max_size=10), _HIDDEN), max_size=30).map("".join)


def examples(count: int) -> Any:
    return settings(max_examples=count, deadline=None)


@examples(500)
@given(texts)
def test_no_hidden_character_survives(text: str) -> None:
    """Nothing invisible is left but line feeds and tabs; the text is NFC; cleaning twice changes nothing."""
    check(text)


@pytest.mark.long
@examples(10_000)
@given(texts)
def test_no_hidden_character_survives_in_10000_strings(text: str) -> None:
    """The promise's count."""
    check(text)


def check(text: str) -> None:
    cleaned = clean(text)
    assert hidden_in(cleaned) <= {"\n", "\t"}
    assert unicodedata.is_normalized("NFC", cleaned)
    assert clean(cleaned) == cleaned
    name = filename(text, LIMITS)
    assert name is None or not hidden_in(name)
    try:
        title = Change(title=text[: LIMITS.title_chars_max]).checked(LIMITS).title
    except InvalidRequest:  # nothing is left, or it has several lines
        return
    assert title is not None and not hidden_in(title)


def hidden_in(text: str) -> set[str]:
    """Controls, and what no reader sees but a model does."""
    return {one for one in text if unicodedata.category(one) in {"Cc", "Cs"} or is_invisible(ord(one))}


def is_invisible(code: int) -> bool:
    return any(
        first <= code <= last
        for first, last in (
            (0x200B, 0x200F),
            (0x202A, 0x202E),
            (0x2060, 0x206F),
            (0xFE00, 0xFE0F),
            (0xFEFF, 0xFEFF),
            (0xE0000, 0xE0FFF),
        )
    )


def test_visible_text_is_kept_by_cleaning() -> None:
    """Escape sequences go as a whole, what they wrapped stays; a stray introducer swallows nothing."""
    assert clean("\x1b[1;31mStop\x1b[0m at\u200b 5\r\no'clock") == "Stop at 5\no'clock"
    assert clean("before \x1b]unterminated after") == "before unterminated after"


def test_a_title_of_nothing_but_hidden_characters_is_none() -> None:
    """It is refused as an empty one is."""
    with pytest.raises(InvalidRequest, match="empty"):
        Change(title="\u200b\u2060").checked(LIMITS)
    assert Change(title="Hol\u200biday\u202e \U000e0041plan").checked(LIMITS).title == "Holiday plan"
