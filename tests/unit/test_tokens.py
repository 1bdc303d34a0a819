"""Counting tokens: upwards for what goes in, downwards for what comes out, without a network."""

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refdesk.outside.tokens import CHARACTERS_REMEMBERED_MAX, count_once, cut, input_tokens, output_tokens

# Counted by SmolLM2's own tokenizer (49,152 entries), through llama.cpp's /tokenize.
MEASURED = {
    "Every employee has thirty days of paid leave a year, and unused days expire at the end of March.": 21,
    "Die Beschäftigten haben Anspruch auf dreißig Arbeitstage Erholungsurlaub je Kalenderjahr.": 35,
    "Les salariés ont droit à trente jours ouvrables de congés payés par an.": 25,
    "Pracownikom przysługuje trzydzieści dni urlopu wypoczynkowego rocznie.": 36,
    "Wafanyakazi wote wana haki ya siku thelathini za likizo yenye malipo kila mwaka.": 34,
    "従業員は年に三十日の有給休暇を取得できます。": 41,
    "😀👩‍👩‍👧🇩🇪🚀": 25,
    "def input_tokens(text: str) -> int:\n    return sum(len(p) for p in pieces(text) if p.kind != BLANK)\n": 36,
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4": 38,
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08": 59,
    "1290384756 5647382910 1029384756": 32,
    "THE NOTICE PERIOD IS THREE MONTHS TO THE END OF A QUARTER": 20,
    "https://example.org/handbook/leave?version=12&lang=en#carry-over": 24,
}


@pytest.mark.parametrize("text", MEASURED)
def test_no_text_is_counted_below_its_true_tokens(text: str) -> None:
    """In any script or notation: a prompt packed by our count is never refused as too long."""
    assert input_tokens(text) >= MEASURED[text]


@pytest.mark.parametrize("text", MEASURED)
def test_no_output_is_counted_above_its_true_tokens(text: str) -> None:
    """A model that keeps its own limit is not cut by ours."""
    assert output_tokens(text) <= MEASURED[text]


def test_english_prose_is_counted_closely() -> None:
    """Not so far upwards that half of the window stays empty."""
    text = "Every employee has thirty days of paid leave a year, and unused days expire at the end of March."
    assert input_tokens(text) <= 1.5 * MEASURED[text]


@given(st.text(max_size=300))
def test_every_character_outside_ascii_costs_its_bytes(text: str) -> None:
    """No byte-level vocabulary does worse."""
    assert input_tokens(text) >= sum(len(c.encode(errors="replace")) for c in text if ord(c) > 127 and not c.isspace())


@given(st.text(alphabet=st.sampled_from("ab Z9.,!-_'’\n(é漢😀"), max_size=80), st.integers(0, 40))
def test_a_cut_text_is_a_beginning_within_the_count(text: str, tokens: int) -> None:
    """And the whole text where it fits."""
    beginning = cut(text, tokens)
    assert text.startswith(beginning)
    assert output_tokens(beginning) <= tokens
    assert beginning == text or output_tokens(text) > tokens


@given(st.lists(st.text(alphabet=st.sampled_from("ab Z9.,!-_'’\n(é漢"), min_size=1, max_size=8), max_size=20))
@example(["don't", "_"])
def test_a_text_counts_no_more_than_its_pieces(pieces: list[str]) -> None:
    """Each chunk of a provider is a token at least, so counting chunk by chunk never falls below the whole."""
    assert output_tokens("".join(pieces)) <= sum(max(1, output_tokens(piece)) for piece in pieces)


@pytest.mark.parametrize(
    "token", [" the", "don't", ' ("', "...", "----------------", ".com", "(self", "'re", "\n\n", "**", "_name"]
)
def test_what_a_vocabulary_may_merge_counts_as_one(token: str) -> None:
    """Such tokens exist in o200k or in SmolLM2's vocabulary."""
    assert max(1, output_tokens(token)) == 1


def test_what_was_counted_is_remembered_unless_it_is_long() -> None:
    """The memory is bounded in texts and in their length: a long one is counted again each time."""
    counted = []

    def count(text: str) -> int:
        counted.append(len(text))
        return len(text)

    short, long = "x" * CHARACTERS_REMEMBERED_MAX, "x" * (CHARACTERS_REMEMBERED_MAX + 1)
    assert [count_once(text, count) for text in (short, short, long, long)] == [
        len(t) for t in (short, short, long, long)
    ]
    assert counted == [len(short), len(long), len(long)]


def test_counting_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on first use."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert input_tokens("Thirty days.") > 0
    assert output_tokens("Thirty days.") > 0
