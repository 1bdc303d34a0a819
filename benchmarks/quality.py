"""The project's own report, docs/quality.md: every set through a `refdesk up` of its own, asked by `refdesk eval`.

    python benchmarks/quality.py --data ../shared/data [--only sample kinds …] [--kept-back] [--write docs/quality.md]

Without a language model and with the settings as they come. ``--kept-back`` also asks the half of the questions by kind that
is not looked at while answers are worked on. It takes about half an hour on two cores.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measuring
from refdesk.app.embedded.nats import free_port

ROOT = Path(__file__).parents[1]
REFDESK = (sys.executable, "-m", "refdesk")
READY_S_MAX = 300
RETRIEVAL = {"scifact": "retrieval/scifact", "hotpotqa100": "retrieval/hotpotqa100", "clapnq_dev": "qa/clapnq_dev"}
LARGEST = "scifact"
HANDBOOKS = ("18f/v2_2025-02-27", "datasette/docs", "warehouse/docs")
SEARCHED = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
ANSWERED = ("right", "fact recall", "first sentence", "padding", "citation precision", "citation recall")
STATES = ("answered", "closest", "not_found")

Figures = dict[str, Any]


@dataclass
class Desk:
    """A `refdesk up` in a directory of its own."""

    home: Path
    port: int

    def run(self, *arguments: str, ends: tuple[int, ...] = (0,)) -> str:
        command = [*REFDESK, *arguments, "--url", f"http://127.0.0.1:{self.port}"]
        ended = subprocess.run(command, env=environment(self.home), capture_output=True, text=True, check=False)
        if ended.returncode not in ends:
            raise SystemExit(f"{' '.join(arguments)}: {ended.stderr}")
        return ended.stdout

    def evaluate(self, dataset: Path, *options: str) -> Figures:
        print(f"  {dataset.name}", flush=True)
        found: Figures = json.loads(self.run("eval", str(dataset), *options, "--json").splitlines()[-1])
        return found

    def sync(self, folder: Path, name: str) -> None:
        self.run("sync", str(folder), "--name", name, ends=(0, 1))
        while json.loads(self.run("status", "--json").splitlines()[-1])["documents_pending"]:
            time.sleep(1)


@dataclass
class Results:
    """What was measured, by the section of the page."""

    searched: dict[str, Figures] = field(default_factory=dict)
    answered: dict[str, Figures] = field(default_factory=dict)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFDESK_")}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "NO_COLOR": "1"}


@contextlib.contextmanager
def running(models: Path, *options: str) -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        (home / "data").mkdir()
        (home / "data" / "models").symlink_to(models)
        command = [*REFDESK, "up", "--data-dir", str(home / "data"), "--port", str(port), *options]
        with (home / "up.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
        try:
            _wait_until_ready(process, home / "up.log")
            yield Desk(home, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while b"Refdesk is ready" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(log.read_text())
        time.sleep(0.2)


def sample(results: Results, arguments: argparse.Namespace) -> None:
    """The sample handbook: what it answers, what it cannot, and what it nearly could."""
    with running(arguments.models) as desk:
        while json.loads(desk.run("status", "--json").splitlines()[-1])["documents_pending"]:
            time.sleep(1)
        for name in ("sample_questions", "sample_unanswerable", "sample_near_misses"):
            results.answered[name] = desk.evaluate(_asked(desk, ROOT / "tests/data" / f"{name}.jsonl"))


def _asked(desk: Desk, file: Path) -> Path:
    """The set; of questions that are named unanswerable by their file's name, with that said in every line."""
    if file.stem != "sample_unanswerable":
        return file
    rows = [json.loads(line) | {"unanswerable": True} for line in file.read_text("utf-8").splitlines()]
    return _written(desk, file.stem, rows)


def _written(desk: Desk, name: str, rows: list[dict[str, Any]]) -> Path:
    copy = desk.home / f"{name}.jsonl"
    copy.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return copy


def kinds(results: Results, arguments: argparse.Namespace) -> None:
    """Questions by kind, over documents of their own."""
    folder = ROOT / "tests/data/kinds"
    with running(arguments.models, "--no-samples") as desk:
        desk.sync(folder / "documents", "kinds")
        results.answered["kinds, to look at"] = desk.evaluate(folder / "look.jsonl")
        if arguments.kept_back:
            results.answered["kinds, kept back"] = desk.evaluate(folder / "kept_back.jsonl")


def alone(results: Results, arguments: argparse.Namespace) -> None:
    """The small sets, each in an index of its own; the questions of clapnq_dev are answered, too."""
    for name, place in RETRIEVAL.items():
        if name == LARGEST:
            continue
        with running(arguments.models, "--no-samples") as desk:
            results.searched[f"{name}, alone"] = desk.evaluate(arguments.data / place, "--load")
            if name == "clapnq_dev":
                results.answered[name] = desk.evaluate(_clapnq(desk, arguments.data / place))


def _clapnq(desk: Desk, folder: Path) -> Path:
    """Its questions with the document that answers them, or that only seems to."""
    rows = []
    for line in (folder / "queries.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        told = row["metadata"]
        unanswerable = not told["answerable"]
        documents = [] if unanswerable else [told["passage_id"]]
        rows.append({"id": row["_id"], "question": row["text"], "documents": documents, "unanswerable": unanswerable})
    return _written(desk, "clapnq_dev", rows)


def mixed(results: Results, arguments: argparse.Namespace) -> None:
    """All three sets and the handbooks in one index; the largest set, whose loading takes longest, first alone."""
    with running(arguments.models, "--no-samples") as desk:
        results.searched[f"{LARGEST}, alone"] = desk.evaluate(arguments.data / RETRIEVAL[LARGEST], "--load")
        for place in HANDBOOKS:
            desk.sync(arguments.data / "handbook" / place, place)
        for name, place in RETRIEVAL.items():
            if name != LARGEST:
                desk.evaluate(arguments.data / place, "--load")
        for name, place in RETRIEVAL.items():
            results.searched[f"{name}, among all"] = desk.evaluate(arguments.data / place)


WORDS = {"identifiers": ("spellings", "one", "other"), "identifiers, the other way": ("spellings", "other", "one")}
WORDS |= {name: (name, None, None) for name in ("mistakes", "notes", "languages")}


def words(results: Results, arguments: argparse.Namespace) -> None:
    """Spellings, mistakes, words inside sentences without spaces, other forms in other languages: each set alone in an index."""
    for name, (file, stands, asked) in WORDS.items():
        rows = [json.loads(line) for line in (ROOT / f"tests/data/words/{file}.jsonl").read_text("utf-8").splitlines()]
        with running(arguments.models, "--no-samples") as desk:
            folder = desk.home / file
            _lay_out(folder, [{**row, "stands": row.get(stands), "asked": row.get(asked)} for row in rows])
            results.searched[f"{name}, to look at"] = desk.evaluate(folder, "--load", "--split", "look")
            if arguments.kept_back:
                results.searched[f"{name}, kept back"] = desk.evaluate(folder, "--split", "kept_back")


def _lay_out(folder: Path, rows: list[dict[str, Any]]) -> None:
    """As BEIR does: each sentence is a document, and what is asked of it a question; the halves are splits."""
    (folder / "qrels").mkdir(parents=True)
    texts = {"corpus": ("sentence", "stands"), "queries": ("question", "asked")}
    for file, (column, name) in texts.items():
        lines = [{"_id": str(n), "title": "Note", "text": row[column].format(row[name])} for n, row in enumerate(rows)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    for half in ("look", "kept_back"):
        judged = [f"{n}\t{n}\t1\n" for n, row in enumerate(rows) if row["half"] == half]
        (folder / "qrels" / f"{half}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")


SECTIONS: dict[str, Callable[[Results, argparse.Namespace], None]] = {
    "sample": sample,
    "kinds": kinds,
    "words": words,
    "alone": alone,
    "mixed": mixed,
}


def page(results: Results) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    parts = [
        "# Quality",
        "How good Refdesk's replies are, without a language model and with the settings as they come, through the HTTP API "
        "of a running desk. [Measure answers](howto/measure.md) says what the figures mean, and how to measure your own.",
        f"Measured by `python benchmarks/quality.py {' '.join(sys.argv[1:])}` at {commit.stdout.strip()}: "
        f"{measuring.machine()}. "
        "Latencies are not told here: other work ran on the machine ([benchmarks](benchmarks.md) has them).",
    ]
    if results.searched:
        rows = [
            (name, str(found["questions"]), *(_figure(found["measures"].get(one)) for one in SEARCHED))
            for name, found in results.searched.items()
        ]
        parts += ["## Search", SEARCH_SAYS, measuring.table(("set", "questions", *SEARCHED), rows)]
    if results.answered:
        rows = [
            (name, str(found["questions"]), *(_figure(_told(found).get(one)) for one in ANSWERED))
            for name, found in results.answered.items()
        ]
        parts += ["## Answers", ANSWER_SAYS, measuring.table(("set", "questions", *ANSWERED), rows)]
        rows = [
            (name, side, *(str(counts[state]) for state in STATES))
            for name, found in results.answered.items()
            for side, counts in found["states"].items()
        ]
        parts += ["## Not found", STATE_SAYS, measuring.table(("set", "questions that are", *STATES), rows)]
    for name, found in results.answered.items():
        if len(found["kinds"]) > 1:
            rows = [
                (kind, *(_figure(measures.get(one)) for one in ANSWERED[:4]))
                for kind, measures in sorted(found["kinds"].items())
            ]
            parts += [f"## {name[0].upper()}{name[1:]}", measuring.table(("kind", *ANSWERED[:4]), rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


SEARCH_SAYS = (
    "Each set alone in an index, and all three with three handbooks in one. scifact (Wadden et al. 2020), hotpotqa100 (Yang et "
    "al. 2018) and clapnq_dev (Rosenthal et al. 2024) are developers' sets: answers were worked on with them in sight. "
    "Identifiers are 60 pairs of spellings, asked in both directions, mistakes 30 misspelt words, notes 80 Chinese, Japanese, "
    "Thai and Korean sentences of which a word is asked, languages 78 sentences in nine languages, asked in other forms of their "
    "words (`tests/data/words`; one half of each was looked at before the other)."
)
ANSWER_SAYS = (
    "The sample questions and the near misses are asked of the sample handbook, the questions by kind of ten documents of an "
    "invented cooperative (`tests/data/kinds`)."
)
STATE_SAYS = (
    "How questions ended. `closest` shows the nearest passages and says that they may be no answer. The near misses are as close "
    "to the sample handbook as questions get that it does not answer."
)


def _told(found: Figures) -> dict[str, float]:
    """Without what is right of a set whose answerable questions expect no facts: it would be of the others alone."""
    measures: dict[str, float] = found["measures"]
    if "answerable" in found["states"] and "fact recall" not in measures:
        return {name: value for name, value in measures.items() if name != "right"}
    return measures


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "refdesk-quality-models")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], default=[*SECTIONS])
    parser.add_argument("--kept-back", action="store_true")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    results = Results()
    for name in arguments.only:
        print(name, flush=True)
        SECTIONS[name](results, arguments)
        if arguments.write is not None:
            arguments.write.write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
