"""``refdesk doctor``: whether everything that the settings name is there and answers, and the running Refdesk, too."""

from pathlib import Path

import click

from refdesk.app.commands.checks import examine
from refdesk.app.commands.client import print_json, run
from refdesk.settings import loading
from refdesk.settings.loading import Loaded
from refdesk.settings.redaction import shown
from refdesk.settings.tree import PREFIX, Settings, settings_by_name


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Look at this data directory.")
@click.option("--settings", "with_settings", is_flag=True, help="First show every setting, and where it came from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def command(data_dir: Path | None, with_settings: bool, as_json: bool) -> None:
    """Check every part, and say how to mend what is wrong."""
    loaded = loading.load({"data_dir": data_dir})
    if with_settings and not as_json:
        _show_settings(loaded)
    findings = run(examine(loaded, on_finding=None if as_json else click.echo))
    healthy = all(finding.level != "FAIL" for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "settings": _settings_as_json(loaded), "checks": findings})
    if not healthy:
        raise click.exceptions.Exit(1)


def _show_settings(loaded: Loaded) -> None:
    for name, value in _values(loaded.settings).items():
        click.echo(f"{PREFIX}{name.upper()} = {value or '(unset)'}  [{loaded.origins[name]}]")
    click.echo()


def _settings_as_json(loaded: Loaded) -> dict[str, dict[str, str | None]]:
    values = _values(loaded.settings)
    return {name: {"value": value or None, "origin": loaded.origins[name]} for name, value in values.items()}


def _values(settings: Settings) -> dict[str, str]:
    return {name: shown(name, settings.value(name)) for name in settings_by_name()}
