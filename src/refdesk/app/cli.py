"""``refdesk``: one command, its sub-commands loaded when they are called."""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from refdesk import __version__
from refdesk.contracts.errors import RefdeskError

COMMANDS: Mapping[str, str] = {
    "up": "refdesk.app.commands.up:command",
    "documents": "refdesk.app.commands.services:documents",
    "indexer": "refdesk.app.commands.services:indexer",
    "assistant": "refdesk.app.commands.services:assistant",
    "desk": "refdesk.app.commands.services:desk",
    "add": "refdesk.app.commands.add:command",
    "sync": "refdesk.app.commands.sync:command",
    "ask": "refdesk.app.commands.ask:command",
    "search": "refdesk.app.commands.search:command",
    "status": "refdesk.app.commands.status:command",
    "reconcile": "refdesk.app.commands.reconcile:command",
    "reindex": "refdesk.app.commands.reindex:command",
    "dead-letters": "refdesk.app.commands.dead_letters:command",
    "keys": "refdesk.app.commands.keys:command",
    "doctor": "refdesk.app.commands.doctor:command",
}
"""Where each sub-command is."""


class _LazyGroup(click.Group):
    """Imports a sub-command's module when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refdesk")
def cli() -> None:
    """The answer desk for an organisation's own documents."""


def main() -> None:
    """Runs a command; an expected error becomes one sentence on standard error and exit code 1."""
    try:
        sys.exit(
            cli(prog_name="refdesk", standalone_mode=False)
        )  # click returns the code of an Exit; commands return nothing
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RefdeskError as error:
        _tell(error)
        sys.exit(1)
    except BaseExceptionGroup as group:  # out of a task group: the service's background work
        expected, unexpected = group.split(RefdeskError)
        if expected is None or unexpected is not None:
            raise
        for leaf in _leaves(expected):
            _tell(leaf)
        sys.exit(1)


def _tell(error: BaseException) -> None:
    click.echo(f"refdesk: {error}", err=True)


def _leaves(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
