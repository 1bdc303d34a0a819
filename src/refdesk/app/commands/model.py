"""``refdesk model``: the packaged embedding model's file, made ahead of the first start, for images and shared folders."""

from pathlib import Path

import click

from refdesk.app.commands.client import run
from refdesk.outside.embedding.prepared import INT8, PACKAGED, prepare
from refdesk.settings import loading


@click.group()
def command() -> None:
    """Prepare the packaged embedding model."""


@command.command("prepare")
@click.option(
    "--into", type=click.Path(path_type=Path), help="This folder (default: REFDESK_MODEL_DIR or the data directory)."
)
@click.option("--model", type=click.Choice(PACKAGED), default=INT8, help=f"Which of its precisions (default: {INT8}).")
def prepare_(into: Path | None, model: str) -> None:
    """Make the model's file ahead, so that no start has to. Twice does it once."""
    folders = (into,) if into is not None else loading.load().settings.places.model_folders
    file = run(prepare(folders, name=model, say=lambda line: click.echo(line, err=True)))
    click.echo(file)
