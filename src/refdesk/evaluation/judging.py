"""What one reply gives to the measures (`metrics`), judged by what its question expects. No model judges: facts are texts.

A fact is found where its words stand, however they are set: case, space, dashes, quotation marks and Markdown do not count.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from refdesk.evaluation.datasets import Item
from refdesk.evaluation.metrics import Share, ndcg, recall, reciprocal_rank

State = Literal["answered", "closest", "not_found"]

DEPTH = 10
DEEP = 100
FRAME = ("heading", "table_header", "rule")
"""Blocks that lead to an answer and are none."""

_MARKS = str.maketrans(dict.fromkeys("*`~\\") | dict.fromkeys("|>#", " "))
_FOLDED = str.maketrans({"‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'})


def judge_ranking(item: Item, ranked: Sequence[str]) -> dict[str, Share]:
    """Of a search: the documents in the order of their best passages."""
    return {
        f"ndcg@{DEPTH}": (ndcg(ranked, item.grades, depth=DEPTH), 1.0),
        f"recall@{DEPTH}": (recall(ranked, item.grades, depth=DEPTH), 1.0),
        f"recall@{DEEP}": (recall(ranked, item.grades, depth=DEEP), 1.0),
        f"mrr@{DEPTH}": (reciprocal_rank(ranked[:DEPTH], item.grades), 1.0),
    }


def judge_answer(item: Item, answer: Mapping[str, Any], *, names: Mapping[str, str]) -> dict[str, Share]:
    """Of a finished answer. ``names`` are the expected documents' names by their ids in the desk."""
    state = state_of(answer)
    sentences = answer["sentences"]
    shares = {
        "not_found precision": _counted(item.unanswerable, among=state == "not_found"),
        "not answered precision": _counted(item.unanswerable, among=state != "answered"),
        "not_found recall": _counted(state == "not_found", among=item.unanswerable),
        "not answered recall": _counted(state != "answered", among=item.unanswerable),
        "wrongly not answered": _counted(state != "answered", among=not item.unanswerable),
        "degraded": _counted(bool(answer.get("degraded")), among=True),
    }
    for support in ("supported", "unchecked", "contradicted"):
        shares[support] = (float(sum(one["support"] == support for one in sentences)), float(len(sentences)))
    if item.facts or item.unanswerable:
        shares["right"] = (float(is_right(item, answer)), 1.0)
    if item.facts:
        shares |= _judge_facts(item, answer)
    if item.grades and not item.unanswerable:
        shares |= _judge_citations(item, answer, names)
    return shares


def _counted(holds: bool, *, among: bool) -> Share:
    """One question of those that count, and whether it holds of it."""
    return float(holds and among), float(among)


def state_of(answer: Mapping[str, Any]) -> State:
    """``closest`` are the nearest passages and perhaps no answer; anything else that was said counts as an answer."""
    finish = answer.get("finish_reason")
    return finish if finish in ("closest", "not_found") else "answered"


def is_right(item: Item, answer: Mapping[str, Any]) -> bool:
    """All facts, in their order where that is asked for, and nothing wrong; an unanswerable question is not answered.

    An answer is right even where it is shown as the closest passages: ``wrongly not answered`` counts that.
    """
    if item.unanswerable:
        return state_of(answer) != "answered"
    text = plain(answer["text"])
    if _holds(text, item.wrong):
        return False
    return _in_order(item, text) if item.in_order else all(_holds(text, fact) for fact in item.facts)


def _judge_facts(item: Item, answer: Mapping[str, Any]) -> dict[str, Share]:
    text = plain(answer["text"])
    said = [plain(one["text"]) for one in answer["sentences"] if one.get("block") not in FRAME]
    quoted = [plain(one["text"]) for one in answer["sentences"] if one["citations"] and one.get("block") not in FRAME]
    empty = sum(not any(_holds(sentence, fact) for fact in item.facts) for sentence in quoted)
    return {
        "fact recall": (float(sum(_holds(text, fact) for fact in item.facts)), float(len(item.facts))),
        "first sentence": (float(any(_holds(one, fact) for one in said[:1] for fact in item.facts)), 1.0),
        "padding": (float(empty), float(len(quoted))),
    }


def _judge_citations(item: Item, answer: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Share]:
    by_number = {source["n"]: names.get(source["document_id"]) for source in answer["sources"]}
    cited = [by_number.get(n) for sentence in answer["sentences"] for n in sentence["citations"]]
    right = [name for name in cited if name is not None]
    return {
        "citation precision": (float(len(right)), float(len(cited))),
        "citation recall": (float(len(set(right))), float(len(item.grades))),
    }


def _holds(text: str, fact: Iterable[str]) -> bool:
    return any(_find(text, plain(spelling)) >= 0 for spelling in fact)


def _in_order(item: Item, text: str) -> bool:
    """Each fact stands after the one before it."""
    place = 0
    for fact in item.facts:
        ends = [found + len(plain(one)) for one in fact if (found := _find(text, plain(one), place)) >= 0]
        if not ends:
            return False
        place = min(ends)
    return True


def _find(text: str, fact: str, start: int = 0) -> int:
    """Where the fact stands, -1 if nowhere. "7 days" does not stand in "27 days", nor "room 1" in "room 12"."""
    while (found := text.find(fact, start)) >= 0:
        end = found + len(fact)
        cut_before = fact[:1].isdigit() and text[found - 1 : found].isdigit()
        cut_after = fact[-1:].isdigit() and text[end : end + 1].isdigit()
        if not cut_before and not cut_after:
            return found
        start = found + 1
    return -1


def plain(text: str) -> str:
    """The text as facts are looked for in it."""
    folded = unicodedata.normalize("NFKC", text).translate(_FOLDED)
    return " ".join(folded.translate(_MARKS).casefold().split())
