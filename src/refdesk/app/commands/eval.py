"""``refdesk eval DATASET``: how good the running desk is on a set of questions."""

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import (
    connect,
    json_option,
    print_json,
    progress_console,
    run,
    say,
    url_option,
)
from refdesk.app.evaluating import ask_all, load_corpus, rated_questions
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import clean
from refdesk.evaluation.datasets import Dataset, Fault, open_dataset
from refdesk.evaluation.reports import Report, compare, markdown, read_report

AT_ONCE = 4

path_type = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--split", help="Which qrels of a BEIR folder (default: test, else dev).")
@click.option("--load", is_flag=True, help="First put the BEIR folder's corpus into the desk.")
@click.option("--prefix", help="What stands before a corpus id in its external id (default: the folder's name and /).")
@click.option("--at-once", default=AT_ONCE, show_default=True, type=click.IntRange(1, 64), help="Questions at a time.")
@click.option("--report", "reports", multiple=True, type=path_type, help="Write it here: Markdown, or JSON for *.json.")
@click.option(
    "--compare", "earlier", type=path_type, help="An earlier report (JSON): what has changed, with intervals."
)
@click.option(
    "--from-feedback", is_flag=True, help="Write DATASET out of the questions that askers have rated, and end."
)
@url_option
@json_option
def command(
    dataset: Path,
    split: str | None,
    load: bool,
    prefix: str | None,
    at_once: int,
    reports: tuple[Path, ...],
    earlier: Path | None,
    from_feedback: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Measure the running desk on a set of questions.

    DATASET is a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/*.tsv), whose questions are searched for; or a file
    of JSON lines or CSV, whose questions are answered. Its fields are question, facts, documents, unanswerable, in_order,
    wrong, kind and id. What is wrong with a line is said, and the rest is measured. Ends with 1 if a question was left out.
    """
    if from_feedback:
        run(_from_feedback(dataset, url=url))
        return
    before = None if earlier is None else read_report(earlier)
    opened = open_dataset(dataset, split=split)
    if load and opened.corpus is None:
        raise click.UsageError(f"--load takes a folder with a corpus; {dataset} is a file of questions.")
    prefix = prefix if prefix is not None else f"{opened.name}/" if opened.corpus else ""
    report = run(_measure(opened, load=load, prefix=prefix, at_once=at_once, url=url))
    _tell(report, before, reports, as_json=as_json)
    if report.unasked:
        raise click.exceptions.Exit(1)


async def _measure(dataset: Dataset, *, load: bool, prefix: str, at_once: int, url: str | None) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    loading: list[Fault] = []
    async with connect(url=url) as client:
        with Progress(*columns, console=progress_console, disable=not progress_console.is_terminal) as progress:
            for fault in dataset.faults:
                _say(fault)
            if load and dataset.corpus is not None:
                task = progress.add_task("searchable", total=None)
                loading = await load_corpus(
                    client,
                    dataset.corpus,
                    prefix=prefix,
                    at_once=at_once,
                    on_progress=lambda count, _: progress.update(task, completed=count),
                )
                for fault in loading:
                    _say(fault)
            asking = progress.add_task("asked", total=len(dataset.items))
            report = await ask_all(
                client,
                dataset,
                prefix=prefix,
                at_once=at_once,
                on_done=lambda: progress.advance(asking),
                on_fault=_say,
            )
    return msgspec.structs.replace(report, faults=[*loading, *report.faults])


def _say(fault: Fault) -> None:
    progress_console.print(str(fault), markup=False, soft_wrap=True)


def _tell(report: Report, before: Report | None, files: tuple[Path, ...], *, as_json: bool) -> None:
    changes = [] if before is None else compare(before, report)
    text = markdown(report, changes)
    for file in files:
        if file.suffix.lower() == ".json":
            file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
        else:
            file.write_text(clean(text), encoding="utf-8")
    say(text, end="")
    if as_json:
        figures: dict[str, Any] = report.figures()
        print_json(figures | {"changes": [msgspec.structs.asdict(one) | {"verdict": one.verdict} for one in changes]})


async def _from_feedback(file: Path, *, url: str | None) -> None:
    if file.exists():
        raise InvalidRequest(f"{file} is there already. Name a file that is not, or remove it.")
    async with connect(url=url) as client:
        rows = await rated_questions(client)
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    helped = sum(row["kind"] == "rated up" for row in rows)
    say(f"{len(rows)} rated questions in {file}: {helped} helped. Add what the others should have found, then measure.")
