"""Passages: complete, ordered, within the budget, and cut where the text has its joints."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesk.contracts.errors import DocumentRejected
from refdesk.index.chunks import Chunk
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsed import DocumentWriter, ParsedDocument, ParsingLimits

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")


def token_spans(text: str) -> list[tuple[int, int]]:
    """A stand-in for a subword tokenizer: pieces of up to six letters."""
    return [match.span() for match in _TOKEN.finditer(text)]


def document(*blocks: tuple[str, str] | tuple[str, str, int], page: int | None = None) -> ParsedDocument:
    """A parsed document of (kind, text) or (kind, text, level); a kind ``page`` moves on to the page named by its text."""
    writer = DocumentWriter(name="test", limits=ParsingLimits())
    writer.page = page
    for kind, text, *level in blocks:
        if kind == "page":
            writer.page = int(text)
        else:
            writer.add(kind, text, level=level[0] if level else 0)  # type: ignore[arg-type]
    return writer.finish()


def words(count: int, *, word: str = "word") -> str:
    return " ".join([word] * count)


_TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(["alpha", "beta.", "gamma!", "δέλτα", "x" * 40, "第一。", "\n", "\n\n"]), max_size=60).map(
        " ".join
    ),
    st.integers(1, 400).map(lambda n: "y" * n),
)
_BLOCKS = st.lists(
    st.one_of(
        st.tuples(st.just("heading"), _TEXTS, st.integers(1, 4)),
        st.tuples(st.sampled_from(["paragraph", "item", "head", "row", "code"]), _TEXTS),
        st.tuples(st.just("page"), st.integers(1, 9).map(str)),
    ),
    max_size=25,
)


def _visible(text: str) -> str:
    return "".join(text.split())


def _own_text(chunk: Chunk, parsed: ParsedDocument) -> str:
    """The slice of the document that a chunk is; what stands before it is a repeated table header."""
    own = parsed.text[chunk.start : chunk.end]
    header = chunk.text.removesuffix(own)
    assert chunk.text.endswith(own)
    assert not header or header.rstrip("\n") in {
        parsed.text[block.start : block.end] for block in parsed.blocks if block.kind == "head"
    }
    return own


@settings(max_examples=300, deadline=None)
@given(blocks=_BLOCKS, tokens_max=st.integers(8, 60))
def test_every_visible_character_is_in_exactly_one_chunk_and_every_chunk_fits(
    blocks: list[tuple[str, str]], tokens_max: int
) -> None:
    """Chunks partition the document in order, within the token budget, numbered from zero."""
    parsed = document(*blocks)
    chunks = chunk(parsed, token_spans=token_spans, tokens_max=tokens_max)
    assert _visible("".join(_own_text(each, parsed) for each in chunks)) == _visible(parsed.text)
    assert [each.ordinal for each in chunks] == list(range(len(chunks)))
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    assert all(each.start < each.end and each.text.strip() for each in chunks)
    assert all(len(token_spans(each.text)) <= tokens_max for each in chunks)


@settings(max_examples=50, deadline=None)
@given(blocks=_BLOCKS)
def test_chunking_is_deterministic(blocks: list[tuple[str, str]]) -> None:
    """The same document gives the same chunks: unchanged passages keep their vectors."""
    assert chunk(document(*blocks), token_spans=token_spans) == chunk(document(*blocks), token_spans=token_spans)


@settings(max_examples=50, deadline=None)
@given(blocks=_BLOCKS)
def test_counting_many_texts_at_once_changes_no_chunk(blocks: list[tuple[str, str]]) -> None:
    """A tokenizer that counts quickly is asked for many blocks together, and never for one that fits into no chunk."""
    counted: list[list[str]] = []

    def count_tokens(texts: list[str]) -> list[int]:
        counted.append(texts)
        return [len(token_spans(text)) for text in texts]

    parsed = document(*blocks)
    chunks = chunk(parsed, token_spans=token_spans, count_tokens=count_tokens, tokens_max=20)
    assert chunks == chunk(parsed, token_spans=token_spans, tokens_max=20)
    whole = [parsed.text[block.start : block.end] for block in parsed.blocks]
    assert counted[:1] == ([[text for text in whole if len(text) <= 200]] if whole else [])


def test_a_section_stays_together_under_its_heading() -> None:
    """Two sections that fill half a chunk each make two chunks with the path of their headings."""
    parsed = document(
        ("heading", "Travel", 1),
        ("heading", "Flights", 2),
        ("paragraph", words(50)),
        ("heading", "Hotels", 2),
        ("paragraph", words(50)),
    )
    chunks = chunk(parsed, token_spans=token_spans, tokens_max=80)
    assert [each.heading for each in chunks] == ["Travel › Flights", "Travel › Hotels"]
    assert chunks[0].text.startswith("Travel\n\nFlights\n\nword")


def test_small_sections_beside_each_other_share_a_chunk_under_their_common_heading() -> None:
    """Three short answers of a list of questions make one passage, headed by what they have in common."""
    parsed = document(
        ("heading", "Questions", 1),
        ("heading", "When?", 2),
        ("paragraph", "At noon."),
        ("heading", "Where?", 2),
        ("paragraph", "In the hall."),
    )
    (only,) = chunk(parsed, token_spans=token_spans)
    assert only.heading == "Questions"
    assert only.text == "Questions\n\nWhen?\n\nAt noon.\n\nWhere?\n\nIn the hall."


def test_a_long_section_is_cut_into_equal_parts() -> None:
    """A section a little over the budget leaves no crumb."""
    parsed = document(*(("paragraph", words(10)) for _ in range(21)))
    sizes = [len(token_spans(each.text)) for each in chunk(parsed, token_spans=token_spans, tokens_max=200)]
    assert sizes == [110, 100]


def test_a_split_table_repeats_its_header_and_keeps_its_rows_whole() -> None:
    """Each chunk of a long table starts with the header row; no row is cut in two."""
    rows = [f"item {n} | {n} pieces | shelf {n}" for n in range(60)]
    parsed = document(("head", "Name | Stock | Place"), *(("row", row) for row in rows))
    chunks = chunk(parsed, token_spans=token_spans, tokens_max=100)
    assert len(chunks) > 3
    assert all(each.text.startswith("Name | Stock | Place\n") for each in chunks)
    assert [line for each in chunks for line in each.text.split("\n")[1:]] == rows


def test_a_chunk_belongs_to_one_page() -> None:
    """A page border ends a chunk, however little stands before it: a citation names the page."""
    parsed = document(
        ("page", "1"),
        ("paragraph", words(60)),
        ("page", "2"),
        ("paragraph", "Crumb."),
        ("page", "3"),
        ("paragraph", "End."),
    )
    assert [each.page for each in chunk(parsed, token_spans=token_spans)] == [1, 2, 3]


def test_headings_lead_on_to_the_next_page_only_where_it_has_none_first() -> None:
    """A title at the end of a page goes with its text; a slide that has only a title stays by itself."""
    led = document(("page", "1"), ("heading", words(9), 1), ("page", "2"), ("paragraph", "Text."))
    assert [each.page for each in chunk(led, token_spans=token_spans)] == [2]
    slides = document(
        ("page", "1"), ("heading", "Welcome", 2), ("page", "2"), ("heading", "Goals", 2), ("paragraph", "Text.")
    )
    assert [(each.page, each.text) for each in chunk(slides, token_spans=token_spans)] == [
        *((1, "Welcome"), (2, "Goals\n\nText."))
    ]


def test_long_text_is_cut_at_sentences_then_words_then_anywhere() -> None:
    """The best joint that fits is taken."""
    sentences = " ".join(f"{words(9)} end." for _ in range(10))
    for each in chunk(document(("paragraph", sentences)), token_spans=token_spans, tokens_max=40):
        assert each.text.endswith("end.")
    for each in chunk(document(("paragraph", words(100, word="abc"))), token_spans=token_spans, tokens_max=40):
        assert set(each.text.split()) == {"abc"}
    assert len(chunk(document(("paragraph", "z" * 1000)), token_spans=token_spans, tokens_max=40)) >= 5


def test_an_unknown_giant_word_does_not_fill_a_chunk_alone() -> None:
    """Where a tokenizer makes one token of a word of any length, its characters count instead."""
    parsed = document(("paragraph", "q" * 10_000))
    chunks = chunk(parsed, token_spans=lambda text: [(0, len(text))] if text.strip() else [], tokens_max=100)
    assert max(len(each.text) for each in chunks) <= 1_000


def test_a_giant_single_line_is_cut_in_linear_time() -> None:
    """Eight megabytes without a line end take less than five seconds."""
    line = "lorem ipsum dolor sit amet consetetur " * 210_000
    parsed = document(("paragraph", line))
    started = time.process_time()
    chunks = chunk(parsed, token_spans=lambda text: [m.span() for m in re.finditer(r"\S+", text)], tokens_max=200)
    assert time.process_time() - started < 5
    assert len(chunks) > 5_000


def test_too_many_passages_are_refused_with_the_name_of_the_setting() -> None:
    """The ceiling on chunks per document names itself."""
    parsed = document(*(("paragraph", words(20)) for _ in range(50)))
    with pytest.raises(DocumentRejected, match=r"more than 10 passages.*REFDESK_CHUNKS_MAX"):
        chunk(parsed, token_spans=token_spans, tokens_max=20, chunks_max=10)


def test_an_endless_heading_path_leaves_the_window_to_the_text() -> None:
    """Headings are shortened, and the outer ones go first."""
    parsed = document(*(("heading", f"{level} {'h' * 150}", level) for level in range(1, 7)), ("paragraph", "Text."))
    (only,) = chunk(parsed, token_spans=token_spans, tokens_max=400)
    assert only.heading is not None
    assert len(only.heading) <= 240
    assert "6 hhh" in only.heading
