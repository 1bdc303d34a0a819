"""Sets of questions: what is read, and what is said of lines that cannot be."""

from pathlib import Path

import pytest

from refdesk.contracts.errors import InvalidRequest
from refdesk.evaluation.datasets import Dataset, Fault, corpus_entries, open_dataset


def said(dataset: Dataset) -> list[str]:
    return [str(fault) for fault in dataset.faults]


def beir(folder: Path, *, queries: str, qrels: str, split: str = "test") -> Path:
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "queries.jsonl").write_text(queries, "utf-8")
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, "utf-8")
    return folder


def test_a_beir_folder_gives_the_judged_queries(tmp_path: Path) -> None:
    """With their grades; a grade of 0 is no relevance, and a query without judgements is not asked."""
    folder = beir(
        tmp_path,
        queries='{"_id": "q1", "text": "Tides?"}\n\n{"_id": "q2", "text": "Winds?"}\n{"_id": 3, "text": "Fog?"}\n',
        qrels="q1\td1\t2\nq1\td2\t0\n3\td4\t1\n",
    )
    dataset = open_dataset(folder)
    assert [(item.id, item.question, item.grades) for item in dataset.items] == [
        ("q1", "Tides?", {"d1": 2.0}),
        ("3", "Fog?", {"d4": 1.0}),
    ]
    assert (dataset.answers, dataset.faults, dataset.corpus) == (False, [], folder / "corpus.jsonl")


def test_what_is_wrong_in_a_beir_folder_is_said_by_line(tmp_path: Path) -> None:
    """And the rest is used."""
    folder = beir(
        tmp_path,
        queries='{"_id": "q1", "text": "Tides?"}\nno json\n{"text": "Winds?"}\n{"_id": "q4"}\n',
        qrels="q1\td1\t1\nq1 d2 1\nq4\td4\t1\nq5\td5\t1\n",
    )
    dataset = open_dataset(folder)
    assert [item.id for item in dataset.items] == ["q1"]
    assert said(dataset) == [
        "test.tsv, line 3: it is not question, document and grade, between tabs.",
        "queries.jsonl, line 2: it is not a JSON object.",
        'queries.jsonl, line 3: it has no "_id".',
        'queries.jsonl, line 4: it has no "text".',
        "queries.jsonl: question q5 is judged and is not there.",
    ]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """The one that is taken without a name is test, else dev, else any."""
    folder = beir(tmp_path, queries='{"_id": "q", "text": "Tides?"}\n', qrels="q\td\t1\n", split="train")
    assert open_dataset(folder).items[0].grades == {"d": 1.0}
    with pytest.raises(InvalidRequest, match=r"no qrels/test\.tsv \(there: train\)"):
        open_dataset(folder, split="test")


def test_a_corpus_is_read_row_by_row(tmp_path: Path) -> None:
    """A row without a text to find is left out, with its line."""
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"_id": "d1", "title": "Tides", "text": ""}\n{"_id": "d2"}\n{"title": "x"}\n', "utf-8")
    faults: list[Fault] = []
    assert [entry.title for entry in corpus_entries(file, faults)] == ["Tides"]
    assert [fault.place for fault in faults] == ["corpus.jsonl, line 2", "corpus.jsonl, line 3"]


def test_a_line_of_json_says_what_is_expected(tmp_path: Path) -> None:
    """A fact may have several spellings; one text counts as one fact, and the older names of fields are known."""
    file = tmp_path / "set.jsonl"
    file.write_text(
        '{"id": "a", "question": "When?", "facts": [["9:00", "nine"], "Monday"], "in_order": true, "kind": "when"}\n'
        '{"question": "Where?", "expected": "Hallin", "document": "ports.md", "wrong": ["Carrow"]}\n'
        '{"question": "Why?", "unanswerable": true}\n',
        "utf-8",
    )
    when, where, why = open_dataset(file).items
    assert (when.id, when.facts, when.in_order, when.kind) == ("a", (("9:00", "nine"), ("Monday",)), True, "when")
    assert (where.id, where.facts, where.grades, where.wrong) == (
        "Where?",
        (("Hallin",),),
        {"ports.md": 1.0},
        ("Carrow",),
    )
    assert why.unanswerable and why.place == "set.jsonl, line 3"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"facts": ["x"]}', 'it has no "question".'),
        ('{"question": "x", "facts": 3}', '"facts" is neither a text nor a list.'),
        ('{"question": "x", "facts": [3]}', '"facts" holds 3; a text is wanted.'),
        ('{"question": "x", "unanswerable": "perhaps"}', "\"unanswerable\" is 'perhaps'; true or false is wanted."),
        ('{"question": "x", "unanswerable": true, "facts": ["x"]}', "it is unanswerable and yet expects facts."),
        ('["x"]', "it is not a JSON object."),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: str, fault: str, tmp_path: Path) -> None:
    """With what is wrong with it."""
    file = tmp_path / "set.jsonl"
    file.write_text(f'{{"question": "When?"}}\n{line}\n', "utf-8")
    dataset = open_dataset(file)
    assert ([item.question for item in dataset.items], said(dataset)) == (["When?"], [f"set.jsonl, line 2: {fault}"])


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_the_columns_of_a_table_are_named_by_its_header(between: str, tmp_path: Path) -> None:
    """In any order, with any of the usual separators, with a byte order mark; a bar stands between facts."""
    rows = [["Kind", "Expected documents", "Question", "facts"], ["when", "a.md", '"When, and where?"', "9:00|Hallin"]]
    rows[0][1] = "documents"
    file = tmp_path / "set.csv"
    file.write_text("﻿" + "\r\n".join(between.join(row) for row in rows), "utf-8")
    (item,) = open_dataset(file).items
    assert (item.question, item.facts, item.grades, item.kind) == (
        "When, and where?",
        (("9:00",), ("Hallin",)),
        {"a.md": 1.0},
        "when",
    )


def test_lines_of_a_table_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """By the line of the file, which is not the row where a cell has several lines."""
    file = tmp_path / "set.csv"
    file.write_text('question,facts\n"Two\nlines?",x\nWhen?,x,too many\n,x\n', "utf-8")
    dataset = open_dataset(file)
    assert [item.question for item in dataset.items] == ["Two\nlines?"]
    assert said(dataset) == [
        "set.csv, line 4: it has 3 cells; the header names 2.",
        'set.csv, line 5: it has no "question".',
    ]


def test_a_table_without_a_column_of_questions_is_refused(tmp_path: Path) -> None:
    """With the columns that it has."""
    file = tmp_path / "set.csv"
    file.write_text("frage,antwort\nWann?,9:00\n", "utf-8")
    with pytest.raises(InvalidRequest, match='line 1, names no column "question"; it names frage, antwort'):
        open_dataset(file)


def test_two_questions_of_one_id_are_both_left_out(tmp_path: Path) -> None:
    """A comparison with another run could not tell them apart."""
    file = tmp_path / "set.jsonl"
    file.write_text('{"id": 1, "question": "a"}\n{"id": 1, "question": "b"}\n{"id": 2, "question": "c"}\n', "utf-8")
    dataset = open_dataset(file)
    assert [item.question for item in dataset.items] == ["c"]
    assert said(dataset) == [f"set.jsonl, line {n}: another question has the id 1, too." for n in (1, 2)]


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"facts": "x"}', "question\nWo fährt".encode("latin-1")])
def test_a_file_without_a_question_is_refused(content: bytes, tmp_path: Path) -> None:
    """There would be nothing to measure."""
    for name in ("set.jsonl", "set.csv"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidRequest):
            open_dataset(tmp_path / name)
    with pytest.raises(InvalidRequest, match="no file or folder"):
        open_dataset(tmp_path / "absent")
