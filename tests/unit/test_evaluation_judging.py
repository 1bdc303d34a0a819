"""What replies give to the measures, and what a report makes of it."""

from typing import Any

import msgspec
import pytest

from refdesk.contracts.errors import InvalidRequest
from refdesk.evaluation.datasets import Fault, Item
from refdesk.evaluation.judging import is_right, judge_answer, judge_ranking, plain
from refdesk.evaluation.metrics import Share
from refdesk.evaluation.reports import Record, Report, compare, markdown, measures

NAMES = {"id-a": "a.md", "id-b": "b.md"}


def item(**fields: Any) -> Item:
    return Item(**{"id": "q", "place": "line 1", "question": "?", **fields})


def answer(*sentences: str | tuple[str, list[int], str], finish: str = "stop") -> dict[str, Any]:
    """Each sentence cites source 1 unless it says otherwise; source 2 is of another document, 3 of a third."""
    said = [one if isinstance(one, tuple) else (one, [1], "paragraph") for one in sentences]
    return {
        "text": " ".join(text for text, _, _ in said),
        "sentences": [
            {"text": text, "citations": cited, "support": "supported", "block": block} for text, cited, block in said
        ],
        "sources": [{"n": n, "document_id": one} for n, one in ((1, "id-a"), (2, "id-b"), (3, "id-c"))],
        "finish_reason": finish,
        "degraded": False,
    }


def judged(wanted: Item, given: dict[str, Any]) -> dict[str, Share]:
    return judge_answer(wanted, given, names=NAMES)


def test_facts_are_counted_in_what_was_said() -> None:
    """Recall of all of them; padding is quotes without any; headings are neither an answer nor padding."""
    wanted = item(facts=(("27 days",), ("31 March", "March 31")))
    found = judged(wanted, answer(("Leave", [1], "heading"), "You get 27 days.", "Ask early.", "By March 31."))
    assert found["fact recall"] == (2, 2)
    assert found["first sentence"] == (1, 1)
    assert found["padding"] == (1, 3)
    assert found["right"] == (1, 1)


def test_an_answer_that_begins_beside_the_point_has_no_first_sentence() -> None:
    """And one that says nothing has neither that nor any padding."""
    found = judged(item(facts=(("27 days",),)), answer("Ask early.", "You get 27 days."))
    assert (found["first sentence"], found["padding"]) == ((0, 1), (1, 2))
    found = judged(item(facts=(("27 days",),)), answer(finish="not_found"))
    assert (found["first sentence"], found["padding"], found["right"]) == ((0, 1), (0, 0), (0, 1))


@pytest.mark.parametrize(
    ("fact", "text", "stands"),
    [
        ("27 days", "**27** Days", True),
        ("7 days", "27 days", False),
        ("7 days", "27 days, then 7 days", True),
        ("room 1", "Room 12", False),
        ("room 1", "Room 1.", True),
        ("E-31", "E‑31", True),
        ("Price: EUR 5", "| Price: EUR 5 |", True),
        ("run `up`", "Run up now", True),
    ],
)
def test_a_fact_stands_however_it_is_set(fact: str, text: str, stands: bool) -> None:
    """But a number is a whole number."""
    assert is_right(item(facts=((fact,),)), answer(text)) is stands


def test_steps_count_in_their_order() -> None:
    """And only then, where the question asks for it."""
    given = answer("1. Stop.", "2. Look.", "3. Go.")
    assert is_right(item(facts=(("Stop",), ("Look",), ("Go",)), in_order=True), given)
    assert not is_right(item(facts=(("Look",), ("Stop",)), in_order=True), given)
    assert is_right(item(facts=(("Look",), ("Stop",))), given)
    assert not is_right(item(facts=(("Stop",),), wrong=("Go",)), given)


def test_citations_are_right_when_they_lead_to_an_expected_document() -> None:
    """Precision counts citations, recall documents."""
    wanted = item(grades={"a.md": 1.0, "c.md": 1.0})
    found = judged(
        wanted, answer(("One.", [1, 3], "paragraph"), ("Two.", [1], "paragraph"), ("Three.", [], "paragraph"))
    )
    assert (found["citation precision"], found["citation recall"]) == ((2, 3), (1, 2))


@pytest.mark.parametrize(
    ("unanswerable", "finish", "shares"),
    [
        (True, "not_found", {"not_found precision": (1, 1), "not_found recall": (1, 1), "not answered recall": (1, 1)}),
        (True, "closest", {"not_found precision": (0, 0), "not_found recall": (0, 1), "not answered recall": (1, 1)}),
        (True, "stop", {"not_found precision": (0, 0), "not_found recall": (0, 1), "not answered precision": (0, 0)}),
        (
            False,
            "not_found",
            {"not_found precision": (0, 1), "not_found recall": (0, 0), "wrongly not answered": (1, 1)},
        ),
        (
            False,
            "closest",
            {"not answered precision": (0, 1), "not_found precision": (0, 0), "wrongly not answered": (1, 1)},
        ),
        (False, "length", {"not answered precision": (0, 0), "wrongly not answered": (0, 1)}),
    ],
)
def test_the_closest_passages_are_a_state_of_their_own(
    unanswerable: bool, finish: str, shares: dict[str, Share]
) -> None:
    """Neither an answer nor a refusal."""
    found = judged(item(unanswerable=unanswerable), answer("Something.", finish=finish))
    assert {name: found[name] for name in shares} == shares


def test_a_search_is_judged_by_its_documents() -> None:
    """In the order of their best passages."""
    found = judge_ranking(item(grades={"a": 1.0, "b": 1.0}), ["x", "a", *map(str, range(20)), "b"])
    assert found["recall@10"] == (0.5, 1)
    assert found["recall@100"] == (1.0, 1)
    assert found["mrr@10"] == (0.5, 1)


def test_plain_text_has_no_marks_and_no_case() -> None:
    """One space between words."""
    assert plain("  **The** | “Crew” — ①\n") == 'the "crew" - 1'


def record(name: str, hit: float, *, quotes: int = 1, kind: str | None = None) -> Record:
    shares = {"first sentence": (hit, 1.0), "padding": (quotes - hit, float(quotes))}
    return Record(id=name, question=name, kind=kind, state="answered", shares=shares, total_s=0.25)


def report(*records: Record, **fields: Any) -> Report:
    return Report(
        **{
            "dataset": "set",
            "version": "1",
            "began_at": "2026-01-01",
            "models": ["extractive"],
            "records": list(records),
            "faults": [],
            "unasked": 0,
            "missing": 0,
            **fields,
        }
    )


def test_measures_are_ratios_over_all_questions() -> None:
    """Not means of each question's ratio."""
    assert measures([record("a", 1.0, quotes=1), record("b", 0.0, quotes=3)]) == {
        "first sentence": 0.5,
        "padding": 0.75,
    }


def test_a_report_is_a_page_with_its_faults() -> None:
    """Kinds, states, latency; what was left out is at its end."""
    page = markdown(
        report(record("a", 1.0, kind="who"), unasked=1, faults=[Fault("set, line 2", "it has no question.")])
    )
    for line in ("| first sentence | 1.000 |", "| answerable | 1 | 0 | 0 |", "| total | 250 ms | 250 ms | 250 ms |"):
        assert line in page
    assert "| who | 1 |  |  | 1.000 | 0.000 |" in page
    assert "Left out or without a reply: 1." in page
    assert "* set, line 2: it has no question." in page


def test_two_runs_are_compared_on_the_questions_of_both() -> None:
    """A clear change is called better or worse, by what the measure is."""
    names = [str(number) for number in range(40)]
    earlier = report(*(record(name, 0.0, quotes=2) for name in names), record("only before", 1.0))
    later = report(*(record(name, float(name != "7"), quotes=2) for name in names), record("only now", 0.0))
    first, padding = compare(earlier, later)
    assert (first.measure, first.earlier, first.later, first.verdict) == ("first sentence", 0.0, 39 / 40, "better")
    assert (padding.verdict, round(padding.later, 4)) == ("better", round(1 - 39 / 80, 4))
    assert [change.verdict for change in compare(later, earlier)] == ["worse", "worse"]
    assert [change.verdict for change in compare(earlier, earlier)] == ["no clear change", "no clear change"]
    assert "| first sentence | 0.000 | 0.975 |" in markdown(later, compare(earlier, later))
    with pytest.raises(InvalidRequest, match="none of these questions"):
        compare(earlier, report(record("other", 1.0)))


def test_a_report_is_read_again_as_it_was_written() -> None:
    """With every record: that is what an earlier run is compared by."""
    one = report(record("a", 1.0), faults=[Fault("set, line 2", "x")])
    assert msgspec.json.decode(msgspec.json.encode(one), type=Report) == one
