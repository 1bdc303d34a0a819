"""Sets of questions, as files have them: BEIR's three, or one question to a line of JSON or CSV.

What a line lacks is said with the line (``Fault``), and the rest is used: half a set is worth measuring, and the report tells
how much was left out. Only a set without a single usable question is refused.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from refdesk.contracts.errors import InvalidRequest

SPLITS = ("test", "dev")
"""Which judgements are taken when the set has several and none is named."""
BETWEEN = "|"
"""Stands between the facts or documents of one cell."""
HEADS = {
    "question": ("question", "query"),
    "facts": ("facts", "expected_facts", "expected", "answer"),
    "documents": ("documents", "expected_documents", "document"),
    "unanswerable": ("unanswerable",),
    "wrong": ("wrong",),
    "in_order": ("in_order",),
    "kind": ("kind",),
    "id": ("id", "_id"),
}
"""The names that a column or field may have, by what it holds."""
YES, NO = ("true", "yes", "1"), ("false", "no", "0", "")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one line of a file, or with one question; the run goes on without it."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class CorpusEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document of a corpus."""

    id: str
    title: str
    text: str


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question, and what its answer must hold.

    Each fact is a tuple of spellings, of which one is enough. ``grades`` are the relevant documents with how relevant each is.
    """

    id: str
    place: str
    question: str
    facts: tuple[tuple[str, ...], ...] = ()
    wrong: tuple[str, ...] = ()
    grades: dict[str, float] = {}
    unanswerable: bool = False
    in_order: bool = False
    kind: str | None = None


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """``answers``: whether its questions are answered, or only searched for. ``corpus`` is the file with its documents."""

    name: str
    items: list[Item]
    faults: list[Fault]
    answers: bool
    corpus: Path | None = None


class _Wrong(ValueError):
    """A line cannot be used; says why."""


def open_dataset(path: Path, *, split: str | None = None) -> Dataset:
    """The set at ``path``: a folder in BEIR's layout, or a file. Raises InvalidRequest when nothing of it can be asked."""
    if path.is_dir():
        dataset = _beir(path, split=split)
    elif path.is_file():
        dataset = _questions(path)
    else:
        raise InvalidRequest(f"There is no file or folder {path}.")
    if not dataset.items:
        said = f" {dataset.faults[0]}" if dataset.faults else ""
        raise InvalidRequest(f"{path} has no question that can be asked.{said}")
    return dataset


def corpus_entries(file: Path, faults: list[Fault]) -> Iterator[CorpusEntry]:
    """The documents of a corpus, one by one; what is wrong is added to ``faults``."""
    for place, row in _json_rows(file, faults):
        try:
            entry = CorpusEntry(_required(row, "_id"), str(row.get("title") or ""), str(row.get("text") or ""))
            if not (entry.title + entry.text).strip():
                raise _Wrong("it has neither title nor text.")
        except _Wrong as error:
            faults.append(Fault(place, str(error)))
        else:
            yield entry


def _beir(folder: Path, *, split: str | None) -> Dataset:
    faults: list[Fault] = []
    grades = _judgements(_judgement_file(folder, split), faults)
    items, known = [], set()
    for place, row in _json_rows(_there(folder / "queries.jsonl"), faults):
        try:
            name = _required(row, "_id")
            known.add(name)
            if name in grades:
                question = _required(row, "text")
                items.append(Item(id=name, place=place, question=question, grades=grades.pop(name)))
        except _Wrong as error:
            faults.append(Fault(place, str(error)))
    missing = [name for name in grades if name not in known]
    faults += [Fault("queries.jsonl", f"question {name} is judged and is not there.") for name in missing]
    return Dataset(
        name=folder.resolve().name, items=items, faults=faults, answers=False, corpus=folder / "corpus.jsonl"
    )


def _judgement_file(folder: Path, split: str | None) -> Path:
    files = {file.stem: file for file in sorted((folder / "qrels").glob("*.tsv"))}
    wanted = [split] if split else [*SPLITS, *files]
    found = next((files[name] for name in wanted if name in files), None)
    if found is None:
        there = ", ".join(files) or "none"
        raise InvalidRequest(f"{folder} has no qrels/{wanted[0] if split else '*'}.tsv (there: {there}).")
    return found


def _judgements(file: Path, faults: list[Fault]) -> dict[str, dict[str, float]]:
    """By question, the grades of its relevant documents; a grade of 0 is none. The first line names the columns."""
    grades: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_text(file).splitlines(), 1):
        columns = line.split("\t")
        if number == 1 or not line.strip():
            continue
        try:
            question, document, grade = columns[0], columns[1], float(columns[-1])
        except (IndexError, ValueError):
            faults.append(Fault(f"{file.name}, line {number}", "it is not question, document and grade, between tabs."))
            continue
        if grade > 0:
            grades.setdefault(question, {})[document] = grade
    return grades


def _questions(file: Path) -> Dataset:
    faults: list[Fault] = []
    rows = (
        _json_rows(file, faults) if file.suffix.lower() in (".jsonl", ".json", ".ndjson") else _csv_rows(file, faults)
    )
    items: list[Item] = []
    for place, row in rows:
        try:
            items.append(_item(place, row))
        except _Wrong as error:
            faults.append(Fault(place, str(error)))
    twice = {name for name, count in Counter(item.id for item in items).items() if count > 1}
    faults += [Fault(item.place, f"another question has the id {item.id}, too.") for item in items if item.id in twice]
    items = [item for item in items if item.id not in twice]
    return Dataset(name=file.stem, items=items, faults=faults, answers=True)


def _item(place: str, row: dict[str, Any]) -> Item:
    held = {
        name: next((row[head] for head in heads if row.get(head) is not None), None) for name, heads in HEADS.items()
    }
    if not isinstance(held["question"], str) or not held["question"].strip():
        raise _Wrong('it has no "question".')
    facts = tuple(_spellings(fact) for fact in _many(held["facts"], "facts"))
    documents = [_only_text(name, "documents") for name in _many(held["documents"], "documents")]
    unanswerable = _truth(held["unanswerable"], "unanswerable")
    if unanswerable and facts:
        raise _Wrong("it is unanswerable and yet expects facts.")
    return Item(
        id=str(held["id"] or held["question"]),
        place=place,
        question=held["question"],
        facts=facts,
        wrong=tuple(_only_text(fact, "wrong") for fact in _many(held["wrong"], "wrong")),
        grades=dict.fromkeys(documents, 1.0),
        unanswerable=unanswerable,
        in_order=_truth(held["in_order"], "in_order"),
        kind=None if held["kind"] in (None, "") else str(held["kind"]),
    )


def _many(value: Any, name: str) -> list[Any]:
    """A list as it is; a text as its parts."""
    if isinstance(value, list):
        return value
    if value is None or isinstance(value, str):
        return [part.strip() for part in (value or "").split(BETWEEN) if part.strip()]
    raise _Wrong(f'"{name}" is neither a text nor a list.')


def _spellings(fact: Any) -> tuple[str, ...]:
    return tuple(_only_text(one, "facts") for one in (fact if isinstance(fact, list) else [fact]))


def _only_text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f'"{name}" holds {value!r}; a text is wanted.')
    return value


def _truth(value: Any, name: str) -> bool:
    said = str(value if value is not None else "").strip().lower()
    if said not in YES + NO:
        raise _Wrong(f'"{name}" is {value!r}; true or false is wanted.')
    return said in YES


def _required(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str | int) or not str(value).strip():
        raise _Wrong(f'it has no "{name}".')
    return str(value)


def _json_rows(file: Path, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place."""
    with _there(file).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file.name}, line {number}"
            try:
                if line.strip():
                    yield place, msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                faults.append(Fault(place, "it is not a JSON object."))


def _csv_rows(file: Path, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a table with a header, each with its place. The header tells what stands between the cells."""
    lines = _text(file).splitlines(keepends=True)
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=head.count))
    names = [name.strip().lower() for name in next(reader, [])]
    if not set(names) & set(HEADS["question"]):
        raise InvalidRequest(f'{file.name}, line 1, names no column "question"; it names {", ".join(names) or "none"}.')
    for cells in reader:
        place = f"{file.name}, line {reader.line_num}"
        if len(cells) > len(names):
            faults.append(Fault(place, f"it has {len(cells)} cells; the header names {len(names)}."))
        elif any(cell.strip() for cell in cells):
            yield place, dict(zip(names, cells, strict=False))


def _text(file: Path) -> str:
    """With or without a byte order mark. Raises InvalidRequest for a file that is not UTF-8."""
    try:
        return _there(file).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error


def _there(file: Path) -> Path:
    if not file.is_file():
        raise InvalidRequest(f"There is no file {file}.")
    return file
