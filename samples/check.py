"""Check the sample questions against the sample handbook.

Every expected string of a question must stand in one sentence, or one table row, of the document that the question
names, and for a PDF on the page that it names. The words of the unanswerable questions must stand nowhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kreuzberg

ROOT = Path(__file__).resolve().parent.parent
HANDBOOK = ROOT / "src" / "refdesk" / "samples" / "handbook"
QUESTIONS = ROOT / "tests" / "data" / "sample_questions.jsonl"
UNANSWERABLE = ROOT / "tests" / "data" / "sample_unanswerable.jsonl"
SENTENCE_WORDS_MAX = 60  # a longer "sentence" is a table or list run together by the extraction
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+")
# One telling word for each unanswerable question, in their order.
ABSENT_WORDS = (
    "ethanol, chess, egg, treaty, moon, Mongolia, flute, bees, dog, stock option, dress, party, gym, Kubernetes, "
    "brand, union, patent, donate, relocation, choir"
).split(", ")


@cache
def pages(document: str) -> list[str]:
    """Return the text of each page; a document without pages counts as one."""
    config = kreuzberg.ExtractionConfig(pages=kreuzberg.PageConfig(extract_pages=True))
    extracted = kreuzberg.extract_file_sync(HANDBOOK / document, config=config)
    return [page["content"] for page in extracted.pages] if document.endswith(".pdf") else [extracted.content]


def statements(text: str) -> Iterator[str]:
    """Yield every line (a table row is one) and every sentence, lower-case and with single spaces."""
    for block in re.split(r"\n\s*\n", text):
        for statement in [*block.splitlines(), *SENTENCE_END.split(block)]:
            words = statement.lower().split()
            if len(words) <= SENTENCE_WORDS_MAX:
                yield " ".join(words)


def fault(question: dict[str, Any]) -> str | None:
    """Say what is wrong with a question, if anything."""
    document, page = question["document"], question.get("page")
    if not (HANDBOOK / document).is_file():
        return f"there is no document {document}"
    if (page is not None) != document.endswith(".pdf"):
        return "a page is named for PDF documents, and only for them"
    text = pages(document)[(page or 1) - 1]
    expected = [" ".join(string.lower().split()) for string in question["expected"]]
    if any(all(string in statement for string in expected) for statement in statements(text)):
        return None
    return f"no sentence of {document}{f' page {page}' if page else ''} holds {question['expected']}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def faults() -> Iterator[str]:
    questions, unanswerable = read_lines(QUESTIONS), read_lines(UNANSWERABLE)
    if len({question["id"] for question in questions + unanswerable}) < len(questions + unanswerable):
        yield "an id is used twice"
    for question in questions:
        if found := fault(question):
            yield f"{question['id']}: {found}"
    documents = sorted(path.relative_to(HANDBOOK).as_posix() for path in HANDBOOK.rglob("*.*"))
    for question, word in zip(unanswerable, ABSENT_WORDS, strict=True):
        if word.lower() not in question["question"].lower():
            yield f"{question['id']}: the question does not hold its own word {word!r}"
        for document in documents:
            if re.search(rf"\b{word}", "\n".join(pages(document)), re.IGNORECASE):
                yield f"{question['id']}: {document} mentions {word!r}"


def main() -> int:
    found = list(faults())
    print("\n".join(found) or "Every question is answerable where it says, and every unanswerable one is not.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
