"""Everything that reads what strangers send takes linear time: each reader is run on texts that are hard to read.

`READERS` is the table. A function that is named like a reader and is in no line of it fails the first test: add a line, or say
in `ELSEWHERE` why it needs none.
"""

import ast
import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from tests.house.trees import tree_of
from tests.support import growth
from tests.support.pumps import PUMPS

from refdesk.answering.conversations.turns import Turn
from refdesk.answering.follow_ups import FollowUp, leaning, leans
from refdesk.answering.grounding import facts
from refdesk.answering.quoting.wanted import Wanted
from refdesk.answering.reuse.similar import same_matter
from refdesk.answering.text import sentences
from refdesk.answering.text.blocks import Blocks, is_claim
from refdesk.answering.text.citations import CitationReader
from refdesk.answering.text.quotations import as_quotation
from refdesk.contracts import hidden_characters
from refdesk.contracts.answers import Question, Source
from refdesk.contracts.documents import FreshnessToken, title_of
from refdesk.contracts.errors import RefdeskError
from refdesk.documents import changes, uploads
from refdesk.documents.changes import Change, Limits
from refdesk.doors.citations import without_list
from refdesk.doors.openai.chat_requests import ChatLimits, DeskFields, asked_in
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsed import DocumentWriter, ParsingLimits
from refdesk.outside import tokens
from refdesk.outside.detection import detect_media_type
from refdesk.outside.llm.clocks import Deadline
from refdesk.outside.llm.stream import Stream, Told
from refdesk.outside.llm.thinking import Thinking
from refdesk.outside.text_encoding import text_encoding
from refdesk.settings.models import Clocks
from refdesk.web.bodies import decode_json

LIMITS = Limits()
READS = re.compile(
    r"_*(?:parse|decode|detect|split|clean|read_(?:markdown|html|change|json|pages)|extract|chunk|mend)(?:_|$)|feed$"
)


class Nothing:
    """Takes what it is given and keeps nothing."""

    @staticmethod
    def take(_: object) -> bool:
        return True


def chunks(text: str) -> None:
    writer = DocumentWriter(name="the document", limits=ParsingLimits())
    writer.add("code", text)
    chunk(writer.finish(), token_spans=spans, chunks_max=1 << 30)


def spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w{1,6}|[^\w\s]", text)]


def refused(work: Callable[[str], Any]) -> Callable[[str], Any]:
    def tried(text: str) -> None:
        with suppress(RefdeskError):
            work(text)

    return tried


def model_stream(text: str) -> None:
    async def read() -> None:
        data = text.encode("utf-8", "replace")
        stream = Stream(Nothing.take, Told(), Deadline(Clocks()))
        for start in range(0, len(data), 7):
            stream.on_bytes(data[start : start + 7])

    asyncio.run(read())


def form(text: str) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        data = text.encode("utf-8", "replace")
        for start in range(0, len(data), 1 << 16):
            yield data[start : start + (1 << 16)]
        yield b"\r\n--b--\r\n"

    async def read() -> None:
        headers = Headers({"content-type": "multipart/form-data; boundary=b"})
        with suppress(uploads.MultiPartException):
            parsed = await uploads._FormParser(headers, pieces(), max_files=1, max_fields=128).parse()
            await parsed.close()

    asyncio.run(read())


def stream_of_sentences(text: str) -> None:
    splitter, blocks = sentences.SentenceSplitter(), Blocks()
    for start in range(0, len(text), 3):
        for cut in splitter.feed(text[start : start + 3]):
            is_claim(cut.text, blocks.next(cut))
    splitter.flush()


def passage(text: str) -> Source:
    return Source(n=1, document_id="d", version=1, title="T", passage=text, ordinal=0, stale=False)


def clean_stream(text: str) -> None:
    stream = hidden_characters.CleanStream()
    for start in range(0, len(text), 5):
        stream.feed(text[start : start + 5])
    stream.flush()


def citation_stream(text: str) -> None:
    reader = CitationReader([1])
    for start in range(0, len(text), 5):
        reader.read(text[start : start + 5])
    reader.rest()


def thinking_stream(text: str) -> None:
    for opened in (False, True):
        thinking = Thinking(opened=opened)
        for start in range(0, len(text), 5):
            thinking.read(text[start : start + 5])
        thinking.rest()


def chat(text: str) -> None:
    limits = ChatLimits(turns_max=6, characters_max=2000, style_characters_max=1 << 30, output_tokens_max=1)
    spoken = [("user", text), ("assistant", text), ("user", f"{text}?")]
    asked_in(spoken, style=text, wanted_tokens=None, fields=DeskFields(), limits=limits, field="messages")


def every_fact(text: str) -> None:
    checked = facts.Facts(text)
    for name in (name for name, value in vars(facts.Facts).items() if isinstance(value, cached_property)):
        getattr(checked, name)


READERS: dict[str, Callable[[str], Any]] = {
    "detection:detect_media_type": refused(lambda text: detect_media_type(text.encode("utf-8", "replace"), None, None)),
    "containers:zip": refused(
        lambda text: detect_media_type(b"PK\x03\x04" + text.encode("utf-8", "replace"), "a.docx", None)
    ),
    "text_encoding:text_encoding": lambda text: text_encoding(text.encode("utf-16-le", "replace")),
    "hidden_characters:clean": hidden_characters.clean,
    "hidden_characters:escaped": hidden_characters.escaped,
    "hidden_characters:CleanStream": clean_stream,
    "sentences:SentenceSplitter.feed": stream_of_sentences,
    "sentences:split_sentences": sentences.split_sentences,
    "sentences:Words": sentences.Words.of,
    "sentences:without_citations": sentences.without_citations,
    "facts:Facts": every_fact,
    "facts:ground": lambda text: facts.ground("Leave", text),
    "citations:CitationReader": citation_stream,
    "quotations:as_quotation": as_quotation.__wrapped__,
    "similar:same_matter": lambda text: same_matter(text, text),
    "citations:without_list": without_list,
    "chat_requests:asked_in": chat,
    "wanted:Wanted": lambda text: Wanted.of(text).names_missing_in(text),
    "follow_ups:leaning": lambda text: leaning(text, [Turn(text, text)]),
    "follow_ups:leans": lambda text: leans(FollowUp(text, text), alone=[passage(text)], together=[passage(text)]),
    "tokens:input_tokens": tokens.input_tokens,
    "tokens:output_tokens": tokens.output_tokens,
    "tokens:cut": lambda text: tokens.cut(text, 1 << 30),
    "bodies:decode_json": refused(lambda text: decode_json(text, Question)),
    "uploads:_decoded": refused(lambda text: uploads._decoded(text.encode("utf-8", "replace"))),
    "uploads:_FormParser": form,
    "stream:Stream.on_bytes": refused(model_stream),
    "thinking:Thinking": thinking_stream,
    "documents:FreshnessToken.parse": refused(FreshnessToken.parse),
    "documents:title_of": title_of,
    "changes:filename": lambda text: changes.filename(text, LIMITS),
    "changes:title": refused(lambda text: Change(title=text).checked(LIMITS)),
    "changes:url": refused(lambda text: Change(url="https://" + text).checked(LIMITS)),
    "changes:tags": refused(lambda text: Change(tags=tuple(text)).checked(LIMITS)),
    "changes:readers": refused(lambda text: Change(readers=tuple(text)).checked(LIMITS)),
}

ELSEWHERE = {
    **dict.fromkeys(("prices:parse", "caps:parse_caps", "peers:parse_peers"), "settings: the operator's own words"),
    "sentences:feed": "with its class, above",
    "hidden_characters:feed": "with its class, above",
    "hidden_characters:_clean": "with its class, above",
    **dict.fromkeys(
        (
            *(
                "extraction:extract",
                "encodings:decode",
                "encodings:decode_as",
                "structured:read_json",
                "markup:read_markdown",
                "html:read_html",
            ),
            *("paragraphs:split_paragraphs", "pdf_pages:read_pages", "pdf_pages:mend_hyphens", "pdf_pages:mend"),
        ),
        "in a process of its own, which is killed in time: libraries read there that have no such promise",
    ),
    "bodies:read_json": "with bodies:decode_json",
    "chat_replies:_chunk": "our own events, by msgspec",
    "uploads:read_change": "chooses between a form and JSON, both above",
    "routes:_read_change": "calls uploads:read_change",
    "forms:_split": "the operator's own address",
    "uploads:parse": "with uploads:_FormParser",
    "documents:parse": "with its class, above",
    "parsing:parse": "in a process that is killed in time",
    "pipeline:_parse": "calls parsing:parse",
    "sandbox:_decode": "msgspec, off the event loop where it is long",
    "events:decode": "our own events, by msgspec",
    "server:_parse": "the reply of an embedding server, bounded, by msgspec",
    "http_client:feed": "llhttp reads",
    "loading:_decode_path": "the operator's own settings",
    "index:_chunk": "a row of our own",
    "ranking:split_by_rarity": "terms of the index, at most QUESTION_TERMS_MAX",
    "streams:mend": "mends a stream, reads nothing",
    "lineage:_mend": "mends an index, reads nothing",
}


def test_every_reader_is_in_the_table(sources: list[Path]) -> None:
    """By its name: what parses, decodes, detects, splits, cleans or reads a format."""
    found = {
        f"{file.stem}:{node.name}"
        for file in sources
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and READS.match(node.name)
    }
    assert found - READERS.keys() - ELSEWHERE.keys() == {"chunking:chunk"}
    assert ELSEWHERE.keys() - found == set()


CHUNKED = ("a", " ", "\n \n", ". ", "中", "a|")
CHUNKED_BEGIN = 1 << 14
"""A chunk's own size and its window are far behind then."""


def try_all(*, size_max: int) -> list[str]:
    frozen = []
    for name, work in READERS.items():
        for pump in PUMPS:
            for tail in ("", "\0x"):
                try:
                    growth.check(work, growth.pumped(pump, tail=tail), size_max=size_max)
                except growth.Frozen as error:
                    frozen.append(f"{name}: {error}")
    for pump in CHUNKED:
        try:
            growth.check(chunks, growth.pumped(pump, prefix="a", tail="a"), begin=CHUNKED_BEGIN, size_max=16 * size_max)
        except growth.Frozen as error:
            frozen.append(f"chunking:chunk: {error}")
    return frozen


@pytest.mark.timeout(600)
def test_no_reader_freezes() -> None:
    """Twice the text, about twice the time."""
    assert try_all(size_max=growth.SHORT) == []


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_reader_freezes_on_a_mebibyte() -> None:
    """The same up to the size that the promise names."""
    assert try_all(size_max=growth.LONG) == []
