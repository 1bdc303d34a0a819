"""``refdesk reindex``: give the index another embedding model or engine, without a gap for those who ask."""

import asyncio
import time
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from refdesk.app.commands.client import (
    CallFailed,
    Client,
    connect,
    console,
    json_option,
    patiently,
    print_json,
    progress_console,
    run,
    url_option,
)
from refdesk.contracts.errors import ConfigurationError
from refdesk.index.ledger.generations import Engine

LOOK_S = 1.0
TELL_S = 10.0
"""How often progress is told."""
QUESTIONS_PER_CALL = 25
OVERLAP_MIN = 0.5

_ROOT = "/api/index/generations"

Generation = dict[str, Any]


@click.command()
@click.option(
    "--model",
    help="A packaged model, one at REFDESK_EMBEDDING_URL, a folder with one in ONNX, or fastembed:NAME (default: as the "
    "settings say).",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(Engine)),
    help="Where vectors and text are kept (default: as the settings say).",
)
@click.option(
    "--questions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Compare on these, JSON lines: {"question": …, "text"?: …, "document"?: …} (default: drawn from the documents).',
)
@click.option("--yes", is_flag=True, help="Swap when it is built, unless the comparison says no.")
@click.option(
    "--overlap-min",
    default=OVERLAP_MIN,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="The least overlap of old and new passages with --yes.",
)
@click.option("--swap", "action", flag_value="swap", help="Search the newer one from now on.")
@click.option("--rollback", "action", flag_value="rollback", help="Search the older one again.")
@click.option("--drop", "action", flag_value="drop", help="Discard the one that is not searched.")
@click.option("--cancel", "action", flag_value="cancel", help="Discard the one being built.")
@click.option("--force", is_flag=True, help="Swap without the documents that it cannot hold.")
@url_option
@json_option
def command(
    model: str | None,
    engine: Engine | None,
    questions: Path | None,
    yes: bool,
    overlap_min: float,
    action: str | None,
    force: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Give the index another embedding model or engine, without a gap for those who ask.

    Builds a second index beside the one that is searched, from the documents, and compares the two. --swap then makes it the
    one that is searched; the old one is kept up to date, for --rollback, until --drop. Interrupted, the building goes on;
    run it again to watch.
    """
    if action is None:
        swap_from = overlap_min if yes else None
        wanted = {"model": _named(model), "engine": engine}
        report = run(_build(wanted, questions=questions, swap_from=swap_from, force=force, url=url))
    else:
        report = run(_act(action, force=force, url=url))
    if as_json:
        print_json(report)


async def _build(
    wanted: dict[str, str | None], *, questions: Path | None, swap_from: float | None, force: bool, url: str | None
) -> dict[str, Any]:
    """``wanted``: model and engine. ``swap_from``: the overlap from which on to swap; None: do not."""
    asked = None if questions is None else _read(questions)
    async with connect(url=url) as client:
        begun = await client.call("POST", _ROOT, json=wanted)
        console.print(
            f"Building generation {begun['id']} with {begun['model']} in {begun['engine']}; searches go on with the old one."
        )
        built = await _watch(client, begun["id"])
        comparison = await _compare(client, built["id"], asked)
        swapped = False
        if swap_from is not None and comparison["overlap"] < swap_from:
            console.print(
                f"Not swapped: the overlap is below {swap_from:g}. Look at it, then `refdesk reindex --swap`."
            )
        elif swap_from is not None:
            built = await _activate(client, built, force=force)
            swapped = True
        else:
            console.print("Search it from now on: `refdesk reindex --swap`. Discard it: `refdesk reindex --cancel`.")
        return {"generation": built, "comparison": comparison, "swapped": swapped}


def _named(model: str | None) -> str | None:
    """A folder by its whole path, as the service will look for it: this directory is not the service's."""
    folder = Path(model).expanduser() if model else None
    return str(folder.resolve()) if folder and folder.is_dir() else model


async def _act(action: str, *, force: bool, url: str | None) -> dict[str, Any]:
    async with connect(url=url) as client:
        active, other = await _generations(client)
        if other is None:
            raise CallFailed("There is only the one index that is searched. `refdesk reindex` builds another.")
        newer = other["id"] > active["id"]
        if action == "cancel" and not newer:
            raise CallFailed(f"Generation {other['id']} is the previous one, kept for --rollback. Discard it: --drop.")
        if action in ("drop", "cancel"):
            await client.call("DELETE", f"{_ROOT}/{other['id']}")
            console.print(f"Discarded generation {other['id']} ({other['model']}).")
            return {"generation": active, "dropped": other["id"]}
        if newer != (action == "swap"):
            back = "--rollback" if action == "swap" else "--swap"
            raise CallFailed(
                f"Generation {active['id']} ({active['model']}) is searched already. To generation {other['id']}: {back}."
            )
        return {"generation": await _activate(client, other, force=force), "swapped": True}


async def _generations(client: Client) -> tuple[Generation, Generation | None]:
    """The active one, and the one beside it."""
    active, *others = (await client.call("GET", _ROOT))["generations"]
    return active, others[0] if others else None


async def _watch(client: Client, generation_id: int) -> Generation:
    """Until nothing is behind."""
    pace, told_at, problem = _Pace(), 0.0, None
    while True:
        active, built = await patiently(lambda: _generations(client))
        if built is None or built["id"] != generation_id:
            raise CallFailed(f"Generation {generation_id} is not there any more: somebody discarded or activated it.")
        if not built["documents_behind"]:
            _tell_built(built)
            return built
        if built["problem"] != problem:
            problem = built["problem"]
            progress_console.print(f"waiting: {problem}" if problem else "going on", markup=False, soft_wrap=True)
        if time.monotonic() - told_at > TELL_S:
            told_at = time.monotonic()
            progress_console.print(pace.describe(active, built), markup=False)
        await asyncio.sleep(LOOK_S)


class _Pace:
    """How fast chunks are written, since this was made."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None

    def describe(self, active: Generation, built: Generation) -> str:
        total = active["documents"]
        done = max(0, total - built["documents_behind"])
        said = f"{done:,} of {total:,} documents, {built['chunks']:,} chunks"
        now = (time.monotonic(), built["chunks"])
        self._begun = self._begun or now
        chunks_per_s = (now[1] - self._begun[1]) / max(now[0] - self._begun[0], 1e-6)
        if chunks_per_s <= 0 or not done:
            return said
        left_s = built["chunks"] * (total - done) / done / chunks_per_s
        return f"{said}, {chunks_per_s:.1f} chunks/s, about {_duration(left_s)} left"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _tell_built(built: Generation) -> None:
    console.print(f"Built: {built['documents']:,} documents, {built['chunks']:,} chunks.")
    for gap in built["gaps"]:
        console.print(f"not in it: {gap['document_id']}: {gap['reason']}", markup=False, soft_wrap=True)
    if built["gaps_count"]:
        console.print(f"{built['gaps_count']} documents are not in it; --swap refuses without --force.")


async def _compare(client: Client, generation_id: int, questions: list[Any] | None) -> dict[str, Any]:
    parts = (
        [[]]
        if questions is None
        else [questions[start : start + QUESTIONS_PER_CALL] for start in range(0, len(questions), QUESTIONS_PER_CALL)]
    )
    path = f"{_ROOT}/{generation_id}/compare"
    compared = [await client.call("POST", path, json={"questions": part}) for part in parts]
    asked = sum(part["questions"] for part in compared)
    report = {name: sum(part[name] for part in compared) for name in ("expected", "found_active", "found_beside")}
    overlap = sum(part["overlap"] * part["questions"] for part in compared) / max(1, asked)
    k = compared[0]["k"] if compared else 0
    console.print(f"Compared on {asked} questions: {overlap:.0%} of the {k} best passages are the same.")
    if report["expected"]:
        console.print(
            f"Found what was expected: {report['found_active']} of {report['expected']} before, "
            f"{report['found_beside']} of {report['expected']} now."
        )
    return {"questions": asked, "k": k, "overlap": overlap, **report}


async def _activate(client: Client, generation: Generation, *, force: bool) -> Generation:
    path = f"{_ROOT}/{generation['id']}/activate"
    active: Generation = await client.call("POST", path, json={"with_gaps": force})
    console.print(f"Generation {active['id']} ({active['model']}) is searched from now on; the other one is kept.")
    return active


def _read(file: Path) -> list[Any]:
    """Raises ConfigurationError naming the first line that is no question."""
    questions = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            if line.strip():
                questions.append({"question": msgspec.json.decode(line)["question"], **_expected(line)})
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ConfigurationError(f'{file}, line {number}, is not an object with a "question".') from error
    if not questions:
        raise ConfigurationError(f"{file} has no questions.")
    return questions


def _expected(line: bytes) -> dict[str, Any]:
    fields = msgspec.json.decode(line)
    return {name: fields[name] for name in ("text", "document") if fields.get(name) is not None}
