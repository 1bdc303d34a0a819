"""What a model thinks inside its text is no part of its answer, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.outside.llm.thinking import _SPELLINGS, BLANKS_MAX, Thinking

ANSWER = "The valve is opened at seven. [1]"


def read(text: str, *, step: int = 1000, opened: bool = False) -> tuple[str, Thinking]:
    thinking = Thinking(opened=opened)
    shown = "".join(thinking.read(text[at : at + step]) for at in range(0, len(text), step))
    return shown + thinking.rest(), thinking


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("opener", "closer"), _SPELLINGS)
def test_a_thought_is_hidden(opener: str, closer: str, step: int) -> None:
    """In every spelling, in capitals too; it is counted, and blanks around it are not shown."""
    for begins, ends in ((opener, closer), (opener.upper(), closer.upper())):
        shown, thinking = read(
            f"\n {begins}Passage 2 says eight,\n< but [1] </b> seven.\n{ends}\n\n{ANSWER}", step=step
        )
        assert (shown, thinking.was_aloud, thinking.in_thought) == (ANSWER, False, False)
        assert thinking.tokens >= 8


@pytest.mark.parametrize(
    "text",
    [
        "A mark in the text: <think>is</think> shown.",
        "Use a < b.\n<b>and</b>\n<thin",
        "```\n<think>\n```\nis code\n~~~\n</think>\n~~~\nthis too",
        "First\n  second\n\n\tthird\n",
        f"a\n{' ' * (BLANKS_MAX + 3)}<think> b",
        "`<reasoning>` holds the reasons.",
    ],
)
def test_what_is_no_thought_is_shown(text: str) -> None:
    """Marks in the middle of a line and in code, and what only looks like the beginning of one."""
    for step in (1, 2, 5, 1000):
        assert read(text, step=step)[0] == text


def test_a_thought_without_an_end_is_hidden() -> None:
    """It is known that there is no answer."""
    shown, thinking = read("<think>The user asks", step=3)
    assert (shown, thinking.in_thought, thinking.tokens >= 3) == ("", True, True)


def test_thinking_goes_on_between_lines_of_the_answer() -> None:
    """A thought may come again."""
    assert read(f"<think>a</think>\n{ANSWER}\n<think>b</think>\nMore.")[0] == f"{ANSWER}\n\nMore."


def test_a_closing_mark_alone_tells_that_the_text_before_was_thought() -> None:
    """It has been shown by then; with that known, it is hidden the next time."""
    text = f"The user asks about a valve.\n</think>\n\n{ANSWER}"
    assert read(text, step=4)[1].was_aloud
    shown, thinking = read(text, step=4, opened=True)
    assert (shown, thinking.was_aloud, thinking.tokens >= 6) == (ANSWER, False, True)
    assert not read(f"</think>{ANSWER}")[1].was_aloud


@pytest.mark.parametrize("text", [ANSWER, f"<think>Hm.</think>{ANSWER}"])
def test_an_assumed_thought_that_nothing_closes_was_the_answer(text: str) -> None:
    """No word is lost."""
    assert read(text, step=3, opened=True)[0] == ANSWER


@given(st.lists(st.sampled_from(["<think>", "</think>", "\n", " ", "a", "```", "<", "think>", "[THINK]"]), max_size=20))
def test_the_cuts_do_not_matter(pieces: list[str]) -> None:
    """One text, one answer."""
    text = "".join(pieces)
    assert len({read(text, step=step)[0] for step in (1, 2, 3, 1000)}) == 1
