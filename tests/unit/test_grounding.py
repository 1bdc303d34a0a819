"""Whether sentences stand on what they cite."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.grounding.checking import Grounding
from refdesk.answering.text.blocks import is_claim
from refdesk.answering.text.sentences import Cut, SentenceSplitter
from refdesk.contracts.answers import Block, Sentence, Source, Support

DATA = Path(__file__).parents[1] / "data"
CORRECT = ("verbatim", "paraphrase")
VALUES = ("number", "number word", "date", "entity", "negation", "unit")


def source(n: int, passage: str, *, title: str = "Handbook", heading: str | None = None) -> Source:
    return Source(
        n=n, document_id=f"d{n}", version=1, title=title, heading=heading, passage=passage, ordinal=0, stale=False
    )


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def check(sentence: str, *passages: str, question: str = "") -> Sentence:
    return Grounding([source(n, passage) for n, passage in enumerate(passages, 1)], question=question).check(
        Cut(sentence)
    )


LEAVE = "All employees have 30 days of paid leave a year."


@pytest.mark.parametrize(
    ("sentence", "support"),
    [
        ("Employees have 30 days of paid leave. [1]", "supported"),
        ("Employees have 31 days of paid leave. [1]", "contradicted"),
        ("Employees have 30 weeks of paid leave. [1]", "contradicted"),
        ("Employees have no paid leave a year. [1]", "contradicted"),
        ("Employees of Fjordline have 30 days of paid leave. [1]", "contradicted"),
        ("Employees have 30 days of paid leave. [2]", "contradicted"),
        ("Dismissal follows immediately, says the tribunal. [1]", "unchecked"),
        ("Employees have 30 days of paid leave. [1] [9]", "supported"),
        ("Everybody may stay at home for a month. [1]", "unchecked"),
    ],
)
def test_a_cited_sentence_is_held_against_its_passage(sentence: str, support: Support) -> None:
    """A changed value contradicts it; other words say nothing either way."""
    assert check(sentence, LEAVE, "Cats sleep.").support == support


@pytest.mark.parametrize(
    ("passage", "right", "wrong"),
    [
        ("员工每年享有25天带薪年假。病假照发工资。", "员工每年有25天带薪年假[1]。", "员工每年有30天带薪年假[1]。"),
        ("年次有給休暇は1年に25日です。", "年次有給休暇は、1年で25日です。[1]", "年次有給休暇は1年に20日です。[1]"),
        (
            "연차 휴가는 1년에 25일입니다.",
            "연차 휴가는 1년에 25일이며 유급입니다. [1]",
            "연차 휴가는 1년에 20일입니다. [1]",
        ),
        ("พนักงานมีวันลาพักร้อน 25 วันต่อปี", "พนักงานมีวันลาพักร้อน 25 วันต่อปี [1]", "พนักงานมีวันลาพักร้อน 30 วันต่อปี [1]"),
        ("请在 MB-122号 机器上打印。", "请在MB-122机器上打印。[1]", "请在MB-123机器上打印。[1]"),
    ],
)
def test_scripts_without_spaces_are_held_against_their_passage(passage: str, right: str, wrong: str) -> None:
    """A figure between their letters is a number, not a name that nobody knows."""
    assert check(right, passage).support == "supported"
    assert check(wrong, passage).support == "contradicted"


@pytest.mark.parametrize(
    ("sentence", "passage"),
    [
        ("You get two weeks.", "Employees get 14 days."),
        ("It costs 1200 euros.", "The course costs EUR 1,200."),
        ("The form is due on 31 March 2024.", "Send the form by 2024-03-31."),
        ("No more than five visitors may enter.", "At most 5 visitors may enter."),
        ("Branches must not live longer than three days.", "A branch lives no longer than three days."),
        ("Travel is free.", "Travel is free of charge."),
        ("Anna Berg leads the team.", "The team is led by Anna Berg."),
    ],
)
def test_the_same_in_other_words_is_not_contradicted(sentence: str, passage: str) -> None:
    """Units are converted, numbers read in words and digits, and a bound is no negation."""
    assert check(f"{sentence} [1]", passage).support != "contradicted"


def test_what_the_question_names_may_be_repeated() -> None:
    """Who asks about Zeta Corp reads of Zeta Corp, although no passage knows it."""
    sentence, passage = "Employees of Zeta Corp have 30 days of paid leave. [1]", LEAVE
    assert check(sentence, passage).support == "contradicted"
    assert check(sentence, passage, question="How much leave do employees of Zeta Corp get?").support == "supported"


def test_nouns_are_no_names_where_all_are_written_large() -> None:
    """German: a paraphrase with a noun of its own is not a foreign name."""
    passage = (
        "Der Antrag auf Urlaub wird im Portal gestellt. Die Leitung der Abteilung prüft den Antrag innerhalb einer Woche. "
        "Nach der Prüfung erhält die Person eine Nachricht mit dem Ergebnis der Entscheidung."
    )
    assert check("Den Antrag prüft die Leitung, danach kommt eine Mitteilung. [1]", passage).support != "contradicted"


@pytest.mark.parametrize(
    ("sentence", "support"),
    [
        ("Das Ventil wird nicht geöffnet. [1]", "unchecked"),
        ("Das Ventil wird um sieben geöffnet. [1]", "contradicted"),
        ("Der Urlaub der Mitarbeiter beträgt 30 Tage. [1]", "unchecked"),
        ("Der Urlaub der Mitarbeiter beträgt 31 Tage. [1]", "contradicted"),
        ("Das Ventil KRN-8359 wird zuerst geöffnet. [1]", "contradicted"),
        ("Employees read Der Spiegel for 30 days. [1]", "contradicted"),
    ],
)
def test_a_german_sentence_on_an_english_passage_is_held_to_its_figures(sentence: str, support: Support) -> None:
    """Its nouns are no names; numbers and identifiers are what they are in any language."""
    assert check(sentence, LEAVE).support == support


def test_a_passage_in_another_language_may_say_what_a_sentence_says() -> None:
    """Although one in its own language says it in its words; where the cited one is in that language too, it does not."""
    german, english = "Das Ventil wird um sieben Uhr geöffnet.", "The valve is opened at seven."
    assert check(f"{german} [1]", english, german).support == "unchecked"
    assert check(f"{english} [1]", german, english).support == "unchecked"
    assert check(f"{german} [1]", "Die Pumpe steht nicht im Keller.", german).support == "contradicted"


def test_a_citation_of_nothing_is_not_counted() -> None:
    """The model invented a source: the sentence is given the one that supports it, or none."""
    assert check("Employees have 30 days of paid leave. [7]", LEAVE).citations == (1,)
    checked = check("The moon is made of cheese. [7]", LEAVE)
    assert (checked.citations, checked.support) == ((), "unchecked")


STRUCTURE: list[tuple[str, list[tuple[Block, bool]]]] = [
    ("## Steps\n1. Call 5510.\n2. Wait. Then go.", [("heading", False), *[("list_item", True)] * 3]),
    ("You need:\n- a card", [("paragraph", False), ("list_item", True)]),
    ("**Note:**\nCall first.", [("paragraph", False), ("paragraph", True)]),
    ("| Deck | Rate |\n|---|---|\n| 6 | EUR 4 |", [("table_header", False), ("table_row", False), ("table_row", True)]),
    ("```sh\nrm -rf 7\n```\nDone.", [*[("code", False)] * 3, ("paragraph", True)]),
    ("> Quoted.\n\n---\nNext.", [("quote", True), ("rule", False), ("paragraph", True)]),
    ("Is that so?", [("paragraph", False)]),
]


@pytest.mark.parametrize(("text", "expected"), STRUCTURE)
def test_structure_is_not_checked(text: str, expected: list[tuple[Block, bool]]) -> None:
    """Headings, lead-ins, table headers, code, rules and questions claim nothing."""
    splitter, grounding = SentenceSplitter(), Grounding([source(1, LEAVE)])
    sentences = [grounding.check(cut) for cut in (*splitter.feed(text), *splitter.flush())]
    assert [(s.block, is_claim(s.text, s.block)) for s in sentences] == expected
    assert all(s.support == "unchecked" for s in sentences if not is_claim(s.text, s.block))


def test_changed_sentences_are_found_and_correct_ones_left_alone() -> None:
    """Sentences about the sample handbook, changed in twelve ways, and as many correct ones, half of them paraphrases."""
    passages = {row["id"]: row for row in rows("claim_passages.jsonl")}
    counts: dict[str, Counter[str]] = {}
    for row in rows("claims.jsonl"):
        found = [passages[n] for n in row["passages"]]
        sources = [source(n, p["text"], title=p["title"], heading=p["heading"]) for n, p in enumerate(found, 1)]
        support = Grounding(sources).check(Cut(f"{row['sentence']} [{row['cited']}]")).support
        counts.setdefault(row["kind"], Counter())[support] += 1
    changed = sum((count for kind, count in counts.items() if kind not in CORRECT), Counter[str]())
    correct = sum((count for kind, count in counts.items() if kind in CORRECT), Counter[str]())
    assert changed["contradicted"] >= 0.75 * changed.total(), counts
    assert correct["contradicted"] <= 0.03 * correct.total(), counts
    for kind in VALUES:
        assert counts[kind]["contradicted"] >= 0.9 * counts[kind].total(), (kind, counts[kind])


@given(st.text(max_size=200))
def test_any_text_can_be_checked(text: str) -> None:
    """Whatever a model says."""
    assert set(check(text, "All employees have 30 days.").citations) <= {1}


@pytest.mark.parametrize(
    "text",
    [
        "## Step 31 of 44",
        "> ## Step 31 of 44",
        "- ### Step 31 of 44",
        "1. **Step 31:**",
        "There are 44 kinds:",
        '"Is it 44 days?"',
        "| 2024 | 2025 |\n|---|---|",
        "Kind | 2024\n--- | ---",
        "```\nsleep 44\n~~~\nsleep 45\n```",
        "~~~~\nsleep 44\n~~~\nsleep 45\n~~~~",
        "> ```\n> sleep 44\n> ```",
        "$$\nw = 44 * 45\n$$",
        "$$w = 44 * 45$$",
        "\\[\nw = 44 * 45\n\\]",
        '<div id="44">',
        "---\n***\n=====",
    ],
)
def test_structure_is_never_contradicted(text: str) -> None:
    """Whatever numbers stand in it."""
    grounding, splitter = Grounding([source(1, LEAVE)]), SentenceSplitter()
    sentences = [grounding.check(cut) for cut in (*splitter.feed(text), *splitter.flush())]
    assert {sentence.support for sentence in sentences} == {"unchecked"}


@pytest.mark.parametrize(
    "before",
    ["```\nsleep 44\n```\n", "$$\nw = 44\n$$\n", "$$w$$ is the weight.\n", "| a |\n|---|\n| b |\n\n", "> quoted\n\n"],
)
def test_what_follows_structure_is_checked(before: str) -> None:
    """Code, formulas, tables and quotes end where they end."""
    grounding, splitter = Grounding([source(1, LEAVE)]), SentenceSplitter()
    text = f"{before}Employees have 31 days of paid leave. [1]"
    assert [grounding.check(cut) for cut in (*splitter.feed(text), *splitter.flush())][-1].support == "contradicted"
