"""``refdesk adopt-content``: say that a content directory is the right one, though the Document Service refuses it."""

from pathlib import Path

import click

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside import blob_identity
from refdesk.settings import loading


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data directory whose content is meant.")
def command(data_dir: Path | None) -> None:
    """Accept the content directory at the next start of the Document Service.

    For use after a restore, or after the directory was moved by hand. Run it where the service runs, with the same environment.
    Contents that are missing in it are found, and their documents shown as failed.
    """
    directory = loading.load({"data_dir": data_dir}).settings.places.content_path
    try:
        blob_identity.ask_for_adoption(directory)
    except OSError as error:
        raise ConfigurationError(
            f"The content directory {directory} cannot be written: {error.strerror}. Name the right one with "
            "REFDESK_CONTENT_DIR or --data-dir."
        ) from error
    click.echo(f"{directory} is adopted by the Document Service that starts next. Start it now.")
