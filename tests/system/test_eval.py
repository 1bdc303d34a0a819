"""`refdesk eval` of a running desk, from the command line."""

import json
from pathlib import Path

import pytest
from tests.support.running import Refdesk

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.timeout(600)
async def test_a_set_of_questions_is_measured_and_compared(desk: Refdesk, tmp_path: Path) -> None:
    """A report for people and one for machines; a run beside itself has not changed."""
    lines = (DATA / "sample_questions.jsonl").read_text("utf-8").splitlines()[:12]
    file, report = tmp_path / "some.jsonl", tmp_path / "report.json"
    file.write_text("\n".join(lines), "utf-8")
    first = await desk.command("eval", str(file), "--report", str(report), "--report", str(tmp_path / "r.md"))
    assert first.code == 0, first.err
    assert "| fact recall |" in (tmp_path / "r.md").read_text("utf-8")
    again = await desk.command("eval", str(file), "--compare", str(report), "--at-once", "1", "--json")
    assert again.code == 0, again.err
    found = again.last
    assert (found["questions"], found["missing"], found["unasked"]) == (12, 0, 0)
    assert found["measures"]["fact recall"] >= 0.75
    assert {change["verdict"] for change in found["changes"]} == {"no clear change"}


async def test_a_corpus_is_loaded_and_searched(desk: Refdesk, tmp_path: Path) -> None:
    """In BEIR's layout; a judged document that is not there is said, and makes no failure."""
    folder = tmp_path / "lights"
    (folder / "qrels").mkdir(parents=True)
    texts = {
        "1": "The lighthouse of Quern Point flashes twice every fifteen seconds.",
        "2": "Cormorants nest on the southern cliffs from April to July.",
        "3": "The tide mill grinds barley on Thursdays.",
    }
    rows = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(rows), "utf-8")
    asked = {"q1": "how often does the lighthouse flash", "q2": "where do cormorants nest", "q3": "tide mill barley"}
    rows = [json.dumps({"_id": name, "text": text}) for name, text in asked.items()]
    (folder / "queries.jsonl").write_text("\n".join(rows), "utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\nq2\t2\t1\nq3\t9\t1\n", "utf-8")
    try:
        ended = await desk.command("eval", str(folder), "--load", "--json")
        assert ended.code == 0, ended.err
        assert ended.last["measures"]["ndcg@10"] == pytest.approx(2 / 3)
        assert ended.last["missing"] == 1
        assert "the document '9' is not in the desk" in ended.err
    finally:
        page = await desk.call("GET", "/api/documents/by-external-id", params={"prefix": "lights/"})
        for document in page["documents"]:
            await desk.delete(document)


async def test_rated_questions_become_a_set(desk: Refdesk, tmp_path: Path) -> None:
    """What helped expects the documents that it cited; what did not is for people to complete."""
    for question, rating in (("How many vacation days do I get?", "up"), ("Who cleans the windows?", "down")):
        answer = await desk.ask(question, cache="bypass")
        rated = {"rating": rating, "comment": f"rated {rating}"}
        await desk.call("POST", f"/api/answers/{answer['answer_id']}/feedback", json=rated, expect=(204,))
    file = tmp_path / "rated.jsonl"
    ended = await desk.command("eval", str(file), "--from-feedback")
    assert ended.code == 0, ended.err
    up, down = [json.loads(line) for line in file.read_text("utf-8").splitlines()][-2:]
    assert (up["kind"], down["kind"], "documents" in up, "documents" in down) == ("rated up", "rated down", True, False)
    measured = await desk.command("eval", str(file), "--json")
    assert measured.code == 0, measured.err
    assert measured.last["measures"]["citation recall"] == 1.0
    assert (await desk.command("eval", str(file), "--from-feedback")).code == 1


async def test_a_set_with_a_bad_line_is_measured_and_fails(desk: Refdesk, tmp_path: Path) -> None:
    """The line is named; what can be asked is."""
    file = tmp_path / "set.csv"
    file.write_text("question;facts\nHow many vacation days do I get?;27 days\n;x\n", "utf-8")
    ended = await desk.command("eval", str(file), "--json")
    assert ended.code == 1
    assert 'set.csv, line 3: it has no "question".' in ended.err
    assert (ended.last["questions"], ended.last["unasked"]) == (1, 1)
