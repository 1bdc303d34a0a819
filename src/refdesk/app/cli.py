"""``refdesk``: one command, its sub-commands loaded when they are called."""

import errno
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from refdesk import __version__
from refdesk.contracts.errors import RefdeskError
from refdesk.contracts.hidden_characters import clean

COMMANDS: Mapping[str, str] = {
    "up": "refdesk.app.commands.up:command",
    "documents": "refdesk.app.commands.documents:command",
    "indexer": "refdesk.app.commands.services:indexer",
    "assistant": "refdesk.app.commands.services:assistant",
    "desk": "refdesk.app.commands.services:desk",
    "add": "refdesk.app.commands.add:command",
    "sync": "refdesk.app.commands.sync:command",
    "ask": "refdesk.app.commands.ask:command",
    "search": "refdesk.app.commands.search:command",
    "status": "refdesk.app.commands.status:command",
    "feedback": "refdesk.app.commands.feedback:command",
    "reconcile": "refdesk.app.commands.reconcile:command",
    "reindex": "refdesk.app.commands.reindex:command",
    "eval": "refdesk.app.commands.eval:command",
    "dead-letters": "refdesk.app.commands.dead_letters:command",
    "adopt-content": "refdesk.app.commands.adopt_content:command",
    "keys": "refdesk.app.commands.keys:command",
    "audit": "refdesk.app.commands.audit:command",
    "model": "refdesk.app.commands.model:command",
    "doctor": "refdesk.app.commands.doctor:command",
}
"""Where each sub-command is."""

SUMMARIES: Mapping[str, str] = {
    "up": "Start everything on this machine: servers, services and the web page.",
    "documents": "Run the Document Service, or look at documents.",
    "indexer": "Run an indexer: parse, chunk, embed, store.",
    "assistant": "Run the AI Service's api: answers.",
    "add": "Add files, or folders of files.",
    "sync": "Mirror a folder, or any URL that fsspec reads.",
    "ask": "Ask a question; the answer streams.",
    "search": "Show the passages that match a query, best first.",
    "status": "Show how many documents are searchable, waiting and failed.",
    "feedback": "Show what askers have rated, and what the documents do not answer.",
    "reconcile": "Compare the index with the documents, and mend what differs.",
    "reindex": "Give the index another embedding model.",
    "eval": "Measure the running desk on a set of questions.",
    "dead-letters": "List, show, retry and discard what could not be indexed.",
    "adopt-content": "Accept the content directory at the next start.",
    "keys": "Make, list, change and revoke API keys.",
    "audit": "Show who did what, and what came of it.",
    "model": "Prepare the packaged embedding model.",
    "doctor": "Check every part, and say how to mend what is wrong.",
}
"""What the list of commands says of those that it shows: it imports none of them."""

NO_THREAD = "can't start new thread"
"""Python's word for it, in a RuntimeError."""
UNMAPPED = "failed to map segment"
"""The loader's word for a library that does not fit into memory, in an ImportError."""


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

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """Of the commands shown, without importing them, and of the options."""
        found = [CompletionItem(name, help=says) for name, says in SUMMARIES.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


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
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        expected, unexpected = _sorted(error)
        if unexpected is not None:
            raise
        for one in expected:
            click.echo(clean(f"refdesk: {_sentence(one)}"), err=True)
        sys.exit(1)


def _sorted(error: Exception) -> tuple[list[BaseException], BaseException | None]:
    """The expected errors in what was raised, perhaps by a task group, and the rest: a fault of ours, to be seen whole."""
    group = error if isinstance(error, BaseExceptionGroup) else ExceptionGroup("", [error])
    expected, unexpected = group.split(_is_expected)
    return list(_leaves(expected)) if expected is not None else [], unexpected


def _is_expected(error: BaseException) -> bool:
    """Ours, or the machine's: a full disk, no memory, an installation that is not whole."""
    return isinstance(error, RefdeskError | OSError | MemoryError | ImportError) or NO_THREAD in str(error)


def _sentence(error: BaseException) -> str:
    if UNMAPPED in str(error):
        error = MemoryError()
    match error:
        case MemoryError() | OSError(errno=errno.ENOMEM):
            return "There is not enough memory. Free some, or raise the limit that this process has."
        case RuntimeError() | OSError(errno=errno.EAGAIN):
            return "No more processes or threads can be started. End some, or raise the limits on processes and memory."
        case ImportError():
            return f"A package is missing or broken: {error}. Install Refdesk again (`make setup`)."
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            return f"{error.strerror or error}{where}. Mend that, and look with `refdesk doctor`."
        case _:
            return str(error)


def _leaves(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
