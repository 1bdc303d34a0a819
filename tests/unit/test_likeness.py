"""How a unit reads beside a question, word by word."""

import numpy as np
import pytest

from refdesk.answering.quoting.likeness import Likeness, Reading
from refdesk.outside.embedding.vectors import Encoded, unit

AXES = {"leave": 0, "days": 1, "paid": 2, "toilets": 3, "how": 4}


def encoded(text: str, *, with_tokens: bool = True) -> Encoded:
    """Each word is an axis of its own."""
    words = text.split(" ")
    starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
    tokens = np.eye(5, dtype=np.float32)[[AXES[word] for word in words]]
    spans = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
    return Encoded(unit(tokens.mean(axis=0)), tokens if with_tokens else tokens[:0], spans if with_tokens else [])


def test_a_word_that_is_like_nothing_is_told() -> None:
    """The mean hides it, the harmonic mean does not."""
    question = "how days leave toilets"
    likeness = Reading(question, encoded(question)).likeness(encoded("leave days paid"), own_from=0)
    assert likeness.each == (1.0, 1.0, 0.0)
    assert likeness.words == pytest.approx(2 / 3)
    assert likeness.alike < 0.15


def test_what_the_unit_says_beside_the_question_is_told() -> None:
    """Of its own, not of the place it stands in."""
    reading = Reading("days leave", encoded("days leave"))
    assert reading.likeness(encoded("paid days leave"), own_from=5).back == 1.0
    assert reading.likeness(encoded("paid days leave"), own_from=0).back == pytest.approx(2 / 3)


def test_two_that_answer_together_need_not_say_the_same() -> None:
    """Word by word, the better of the two."""
    assert Likeness(0.5, (1.0, 0.2), 0.3).joined(Likeness(0.6, (0.1, 0.9), 0.2)) == Likeness(0.6, (1.0, 0.9), 0.3)


def test_without_tokens_only_the_whole_is_known() -> None:
    """Of a model on a server."""
    reading = Reading("days leave", encoded("days leave", with_tokens=False))
    likeness = reading.likeness(encoded("days leave", with_tokens=False), own_from=0)
    assert (likeness.whole, likeness.each) == (pytest.approx(1.0), ())
