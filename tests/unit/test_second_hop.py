"""The order of passages: standing out, and being named by others."""

import msgspec
import numpy as np
import pytest

from refdesk.index.chunks import Passage
from refdesk.index.ranking import NAMING, Candidate, distinct, fuse, is_crowded, names, second_hop, standing_out


def passage(document_id: str, title: str, text: str, score: float) -> Passage:
    return Passage(
        document_id=document_id, version=1, content_sha256="", title=title, url=None, ordinal=0, text=text,
        heading=None, page=None, score=score, similarity=0.0,
    )  # fmt: skip


PASSAGES = [
    passage("film", "The Long Voyage", "It was directed by Ada Miller (born 1950) in Lisbon.", 2.0),
    passage("ship", "Voyages", "Ships sail.", 1.5),
    passage("film", "The Long Voyage", "The Long Voyage was shown at night.", 1.2),
    passage("port", "Ports", "Ports are busy.", 1.0),
    passage("ada", "Ada Miller (director)", "She was born in Porto.", 0.5),
    passage("film", "The Long Voyage", "Its music is old.", 0.4),
]


def test_a_document_that_the_first_passages_name_moves_up() -> None:
    """By one standard deviation; passages of documents that are among the first do not."""
    assert [one.document_id for one in second_hop(PASSAGES)] == ["film", "ship", "ada", "film", "port", "film"]


def test_what_is_named_stays_behind_what_names_it() -> None:
    """The passage that answers may name others, too: the bonus leads from it to them, not past it."""
    passages = [
        passage("stage", "Cell cycle", "Interphase varies.", 3.5),
        passage("all", "Interphase", "It is long.", 3.2),
    ]
    others = [passage(f"{n}", "Cells", f"Of {n}.", 3.3) for n in range(NAMING - 1)]
    found = second_hop([passages[0], *others, passages[1]])
    assert [one.document_id for one in found] == ["stage", "all", *(one.document_id for one in others)]


@pytest.mark.parametrize(("count", "found"), [(2, ["ship", "port"]), (4, ["ship", "port", "ada", "copy"])])
def test_copies_come_last(count: int, found: list[str]) -> None:
    """Word for word, whatever the spaces; in their order, and only where nothing else is left."""
    copy = msgspec.structs.replace(PASSAGES[1], document_id="copy", text="ships  SAIL.")
    passages = [PASSAGES[1], copy, *PASSAGES[3:5]]
    assert [one.document_id for one in distinct(passages, count=count)] == found


@pytest.mark.parametrize(
    ("text", "title", "is_named"),
    [
        ("by ada miller, in", "Ada Miller", True),
        ("by ada millers in", "Ada Miller", False),
        ("canada miller", "Ada Miller", False),
        ("canada miller and ada miller", "Ada Miller", True),
        ("the law of it", "Law", False),
        ("mercury is hot", "Mercury (planet)", True),
        ("straße 7", "Straße", False),  # both are folded: the text by the caller
        ("strasse 7", "Straße", True),
        ("", "Ada Miller", False),
    ],
)
def test_a_title_is_named_as_words_of_its_own(text: str, title: str, is_named: bool) -> None:
    """Not within other words, and not by accident."""
    assert names(text, title) is is_named


def test_one_word_that_only_one_has_decides_nothing_alone() -> None:
    """Beyond the bounds, standing out more does not count."""
    field = [0.0] * 99 + [1000.0]
    assert standing_out(field, among=field).max() == 4.0
    assert np.allclose(standing_out([3.0, 3.0], among=[3.0, 3.0]), 0.0)
    assert len(standing_out([], among=[])) == 0


def test_the_order_of_the_best_does_not_depend_on_how_many_are_asked_for() -> None:
    """Whoever asks for more gets more behind the same."""
    random = np.random.default_rng(5)
    chunks = [Candidate(key, 0, *values) for key, values in enumerate(random.random((400, 2)).tolist())]
    near, worded = sorted(chunks, key=lambda one: -one.similarity), sorted(chunks, key=lambda one: -one.words)
    short, long = (fuse([near[:depth], worded[:depth]]) for depth in (60, 200))
    assert long[: len(short)] == short
    assert len(long) > len(short) > 60
    assert [score for _, score in long] == sorted((score for _, score in long), reverse=True)


def test_what_is_best_in_both_comes_first() -> None:
    """Whichever arm found it; a candidate of both is there once."""
    both, near, worded = Candidate(1, 0, 0.8, 9.0), Candidate(2, 0, 0.9, 0.0), Candidate(3, 0, 0.1, 9.5)
    ranked = fuse([[near, both], [worded, both]])
    assert [candidate for candidate, _ in ranked] == [both, near, worded]


@pytest.mark.parametrize(
    ("texts", "crowded"), [("abc", False), ("aab", True), ("abcaaaaa", False), ("abcaaaaaaa", True), ("ab", False)]
)
def test_copies_crowd_others_out(texts: str, crowded: bool) -> None:
    """Of three asked for: fewer that differ, or two thirds of all; where there are no more, nobody is crowded out."""
    passages = [passage("one", "One", text, 1.0) for text in texts]
    assert is_crowded(passages, count=3) is crowded
