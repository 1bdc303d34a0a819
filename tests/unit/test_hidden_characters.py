"""Hidden characters do not get past the doors where text comes in and goes out."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import CleanStream, clean
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
            "\u200c",
            "\U0001f468",
            "\U0001f469\u200d\U0001f467",
            "\u0627",
            "\u0915\u094d",
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
            "\r",
            "\x07",
            "\x1b\\",
            "\x9d",
            "\x90q",
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
    """Nothing invisible is left but line feeds, tabs and what joins; the text is NFC; cleaning twice changes nothing."""
    check(text)


@examples(500)
@given(texts, st.lists(st.integers(1, 4)))
def test_a_stream_is_cleaned_as_a_whole_is(text: str, cuts: list[int]) -> None:
    """However it is cut, in the middle of a sequence too; and what has been given back is clean by itself."""
    stream, pieces, start = CleanStream(), [], 0
    for length in [*cuts, len(text)]:
        pieces.append(stream.feed(text[start : start + length]))
        assert not hidden_in("".join(pieces)) - {"\n", "\t"}
        start += length
    pieces.append(stream.flush())
    assert unicodedata.normalize("NFC", "".join(pieces)) == clean(text)


def test_a_stream_does_not_wait_without_need() -> None:
    """Words come through at once; only the beginning of a sequence waits, and never for more than it may be long."""
    stream = CleanStream()
    assert [stream.feed(text) for text in ("Thirty", " days", ". [1]\n", "\u00e9")] == [
        "Thirty",
        " days",
        ". [1]\n",
        "\u00e9",
    ]
    assert [stream.feed(text) for text in ("a\x1b", "]8;;", "http://x", "\x1b", "\\b")] == ["a", "", "", "", "b"]
    assert stream.feed("\x1b]" + "x" * 1000) == ""
    assert stream.feed("y" * 2000) == "x" * 1000 + "y" * 2000
    assert stream.flush() == ""


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, "I want"
        "\u0915\u094d\u200d\u0937 \u0d28\u0d4d\u200d\u0d05",  # Devanagari, Malayalam
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala, "Sri"
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2764\ufe0f \U0001f441\ufe0f\u200d\U0001f5e8\ufe0f",  # a heart, an eye in a speech bubble
    ],
)
def test_what_joins_is_kept_where_languages_need_it(text: str) -> None:
    """Persian, Indic scripts and emoji, whole and character by character."""
    assert clean(text) == text
    stream = CleanStream()
    assert "".join([*map(stream.feed, text), stream.flush()]) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\u200db a\ufe0f", "ab a"),  # Latin needs none
        ("\u0645\u200c\u200c\u0645", "\u0645\u0645"),  # one, not a run that may carry bits
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4"),  # a flag by tags: the black one stays
        ("\u2764\ufe0f\ufe0f\ufe0e", "\u2764\ufe0f"),
        ("\U0001f600\u200d", "\U0001f600"),
        ("\u8fbb\U000e0100", "\u8fbb"),
    ],
)
def test_what_joins_goes_everywhere_else(text: str, left: str) -> None:
    """Runs and strange places are how instructions are smuggled."""
    assert clean(text) == left


def test_marks_are_normalised_in_linear_time() -> None:
    """A character under many marks out of order costs quadratic time to sort: only as many stay as a language may have."""
    heap = clean("a" + "\u0300\u0316" * 100_000 + "b")
    assert len(heap) <= 32 and heap.endswith("b")
    assert clean(heap) == heap


def test_a_title_is_measured_before_it_is_normalised() -> None:
    """And lists before anything is done for each entry."""
    for change in (
        Change(title="a" + "\u0300\u0316" * 1_000_000),
        Change(tags=("a",) * 1_000_000),
        Change(readers=("a",) * 1_000_000),
    ):
        with pytest.raises(InvalidRequest, match="the limit is"):
            change.checked(LIMITS)


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
    return {
        one
        for place, one in enumerate(text)
        if unicodedata.category(one) in {"Cc", "Cs"} or (is_invisible(ord(one)) and not joins(text, place))
    }


def joins(text: str, place: int) -> bool:
    """Whether a joiner or a variation selector stands where a script or an emoji needs it."""
    before, after = text[max(0, place - 2) : place].rstrip("\ufe0e\ufe0f")[-1:], text[place + 1 : place + 2]
    if text[place] in "\ufe0e\ufe0f":
        return unicodedata.category(before or "a").startswith("S") or before in "\u203c\u2049\u3030\u303d"
    scripts = all(one and 0x600 <= ord(one) <= 0x18AF for one in (before, after))
    pictures = all(one and unicodedata.category(one) in {"So", "Sk"} for one in (before, after))
    return text[place] in "\u200c\u200d" and (scripts or (pictures and text[place] == "\u200d"))


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
