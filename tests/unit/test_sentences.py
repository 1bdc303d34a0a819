"""Sentences out of a stream, and the words they consist of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.text.sentences import (
    Cut,
    SentenceSplitter,
    Words,
    citations,
    split_sentences,
    without_citations,
)

PIECES = (
    *("Leave", " is", " 3.5", " days", " Next", " next", "é", "e.g.", " No.", "Dr.", "1.", "- "),
    *(
        ".",
        "!",
        "…",
        "？",
        "。",
        "」",
        "天",
        " ",
        "\n",
        "\n\n",
        ".\n",
        " [1]",
        "[2, 3]",
        " [",
        "[1",
        "]",
        "\n[1] B",
        '"',
        ")",
    ),
)


def whole(text: str) -> list[Cut]:
    """The sentences of a text that comes in one piece."""
    splitter = SentenceSplitter()
    return [*splitter.feed(text), *splitter.flush()]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Thirty days. [1] They expire. [2]", ["Thirty days. [1]", "They expire. [2]"]),
        ("Thirty days. [1][2] They expire.", ["Thirty days. [1][2]", "They expire."]),
        ("Thirty days.\n[1] They expire.", ["Thirty days.\n[1]", "They expire."]),
        ("Thirty days [1]. They expire [2, 3].", ["Thirty days [1].", "They expire [2, 3]."]),
        ("Ask Dr. Meyer. She knows.", ["Ask Dr. Meyer.", "She knows."]),
        ("Bring papers, e.g. Form 7. Then wait.", ["Bring papers, e.g. Form 7.", "Then wait."]),
        ("It costs 3.5 euros. Pay No. 7 first.", ["It costs 3.5 euros.", "Pay No. 7 first."]),
        ("Written by J. Smith. Read it.", ["Written by J. Smith.", "Read it."]),
        ("He said “Go.” She went.", ["He said “Go.”", "She went."]),
        ("It ends at 5 p.m. on Fridays. Go.", ["It ends at 5 p.m. on Fridays.", "Go."]),
        ("1. First thing.\n2. Second thing.", ["1. First thing.", "2. Second thing."]),
        ("- First\n- Second\n\nThen.", ["- First", "- Second", "Then."]),
        ("A heading\n[1] A reference", ["A heading", "[1] A reference"]),
        ("年假有25天。病假[1]。「好。」申请！", ["年假有25天。", "病假[1]。", "「好。」", "申请！"]),
        ("休暇は25日です。[1]申請は14日前です。[2] 以上", ["休暇は25日です。[1]", "申請は14日前です。[2]", "以上"]),
        ("छुट्टी 25 दिन है। फिर?", ["छुट्टी 25 दिन है।", "फिर?"]),
        ("الإجازة 25 يوما؟ نعم.", ["الإجازة 25 يوما؟", "نعم."]),
        ("No stop at all", ["No stop at all"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_text_is_cut_into_its_sentences(text: str, sentences: list[str]) -> None:
    """Abbreviations, decimals, initials and list markers do not end one; citations belong to the one before."""
    assert split_sentences(text) == sentences


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.data())
def test_a_text_in_pieces_gives_the_sentences_of_the_whole(text: str, data: st.DataObject) -> None:
    """However the model's chunks cut it."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    splitter = SentenceSplitter()
    found = [
        cut for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) for cut in splitter.feed(text[start:end])
    ]
    assert [*found, *splitter.flush()] == whole(text)


def test_a_sentence_knows_whether_it_begins_its_line() -> None:
    """What kind of block it belongs to is written there."""
    assert [cut.begins_line for cut in whole("One. Two.\n- Three\n\nFour. Five")] == [True, False, True, True, False]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_no_word_of_a_text_is_lost_between_its_sentences(text: str) -> None:
    """Only white space is."""
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("piece", [" costs 3.5", " e.g. this"])
def test_what_has_turned_out_to_be_no_stop_is_not_looked_at_again(piece: str) -> None:
    """A text without an end would take minutes, with every piece a look at all before it."""
    splitter = SentenceSplitter()
    assert not any(splitter.feed(piece) for _ in range(30_000))
    assert len(splitter.flush()) == 1


@pytest.mark.parametrize(
    "text", ["A.\n[1] B", "A.\n [1] [2] B", "A. [1]\n[2] B", "A.\n[1]\nB", "A.\n[1x] B", "A\n[1] B", "A. [ 1"]
)
def test_a_text_letter_by_letter_gives_the_sentences_of_the_whole(text: str) -> None:
    """Also where a line break stands between a sentence and its citation."""
    splitter = SentenceSplitter()
    assert [*(cut for letter in text for cut in splitter.feed(letter)), *splitter.flush()] == whole(text)


def test_a_sentence_is_given_as_soon_as_the_next_one_begins() -> None:
    """Not at the end of the text: the reader sees it checked while the model writes on."""
    splitter = SentenceSplitter()
    fed = [splitter.feed(piece) for piece in ("Thirty", " days.", " [1]", " They", " expire", ".")]
    assert fed == [[], [], [], [Cut("Thirty days. [1]")], [], []]


def test_citations_are_read_in_order_and_once() -> None:
    """Single, listed and repeated ones; a number in brackets of four digits is a year."""
    assert citations("A [2] b [1, 3]. [2] in [2024]") == (2, 1, 3)


def test_citations_are_no_numbers_of_the_sentence() -> None:
    """The figures that must stand in the passage are the sentence's own."""
    assert Words.of("Costs 1,200.50 euros [3].").numbers == {"1200.50"}
    assert without_citations("Costs 7 euros [3] .") == "Costs 7 euros."


def test_words_match_across_their_endings() -> None:
    """Renewed and renewing share a stem; stop words carry nothing."""
    assert Words.of("the renewing").content & Words.of("were renewed").content
    assert not Words.of("which of these are those").content


def test_words_without_spaces_are_pairs_of_letters() -> None:
    """Without the particles and question words between them; numbers and words of other scripts stand for themselves."""
    assert Words.of("年假是多少天？").content == {"年假", "天"}
    assert Words.of("在宅勤務は週に3日までできますか、VPNで").content == {
        "在宅",
        "宅勤",
        "勤務",
        "週",
        "3",
        "日",
        "vpn",
    }
    assert Words.of("연차 휴가").content == {"연차", "휴가"}
