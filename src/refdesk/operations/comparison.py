"""What changes for those who ask when another generation is searched: the same questions to both.

Two measures. *Overlap*: of the ``k`` best passages of one, how many the other has among its own. *Found*: where something
is expected, whether it is among the ``k`` best. Generations may cut documents differently, so two passages are the same when
one has the middle of the other in it.
"""

import re

import msgspec

from refdesk.contracts.access import Scope
from refdesk.contracts.texts import Text
from refdesk.index.chunks import Passage
from refdesk.index.open_generations import Opened
from refdesk.index.port import ChunkIndex
from refdesk.outside.embedding.packaged import Embedder

EVERYTHING = Scope(readers=(), everything=True)
QUESTION_CHARS_MAX = 200

_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question; and, where that is known, a text its passages should have or a document (id or title) they should be of."""

    question: Text
    text: Text | None = None
    document: Text | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``overlap`` is a mean, from 0 to 1; of ``expected`` questions each found what it should so many times."""

    questions: int
    k: int
    overlap: float
    expected: int
    found_active: int
    found_beside: int


async def draw(opened: Opened, *, count: int) -> list[Expectation]:
    """Questions out of the index itself: a sentence each, which its own document should be found with."""
    drawn = await opened.index.sample(count)
    return [Expectation(question=_first_sentence(text), document=document_id) for document_id, text in drawn]


async def compare(active: Opened, beside: Opened, questions: list[Expectation], *, k: int) -> Comparison:
    """Both search for everybody's documents: for administrators."""
    overlap, expected, found = 0.0, 0, [0, 0]
    for question in questions:
        lists = [
            await _search(active.index, active.embedder, question.question, k=k),
            await _search(beside.beside, beside.embedder, question.question, k=k),
        ]
        overlap += _overlap(*lists)
        if question.text is not None or question.document is not None:
            expected += 1
            found = [count + _has(passages, question) for count, passages in zip(found, lists, strict=True)]
    return Comparison(
        questions=len(questions),
        k=k,
        overlap=overlap / max(1, len(questions)),
        expected=expected,
        found_active=found[0],
        found_beside=found[1],
    )


async def _search(index: ChunkIndex, embedder: Embedder, question: str, *, k: int) -> list[Passage]:
    vector = (await embedder.embed_questions([question]))[0]
    return await index.search(question, vector, scope=EVERYTHING, limit=k)


def _overlap(one: list[Passage], other: list[Passage]) -> float:
    shared = sum(any(_same(passage, theirs) for theirs in other) for passage in one)
    return shared / max(len(one), len(other)) if one or other else 1.0


def _same(one: Passage, other: Passage) -> bool:
    return one.document_id == other.document_id and (_middle(one) in other.text or _middle(other) in one.text)


def _middle(passage: Passage) -> str:
    quarter = len(passage.text) // 4
    return passage.text[quarter : len(passage.text) - quarter]


def _has(passages: list[Passage], wanted: Expectation) -> bool:
    return any(_fits(passage, wanted) for passage in passages)


def _fits(passage: Passage, wanted: Expectation) -> bool:
    if wanted.document is not None and wanted.document not in (passage.document_id, passage.title):
        return False
    return wanted.text is None or _plain(wanted.text) in _plain(passage.text)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _first_sentence(text: str) -> str:
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0][:QUESTION_CHARS_MAX]
