"""The command line: help, one sentence for what was to be expected, exit codes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from refdesk import __version__
from refdesk.app import cli as app_cli
from refdesk.app.cli import COMMANDS, cli, main
from refdesk.app.commands.browser import open_page
from refdesk.contracts.errors import ConfigurationError, Unavailable

NOTHING_THERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def nobodys_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, and a home of its own."""
    for name in [name for name in os.environ if name.startswith("REFDESK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refdesk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `refdesk …` in this process: its exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refdesk", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), said.out, said.err

    return call


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_explains_itself(refdesk: Any, path: tuple[str, ...]) -> None:
    """--help and -h say how to use it and what it is for."""
    code, said, _ = refdesk(*path, "--help")
    assert code == 0
    assert said.startswith(f"Usage: {' '.join(('refdesk', *path))}")
    assert refdesk(*path, "-h") == (0, said, "")


def test_every_option_explains_itself() -> None:
    """A help text on each."""
    for path in commands(cli):
        command: click.Command = cli
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        assert [option.name for option in options if not option.help] == [], path


def test_the_version_is_told(refdesk: Any) -> None:
    """On one line."""
    assert refdesk("--version") == (0, f"refdesk, version {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "missing.pdf", "--url", NOTHING_THERE),
        ("ask", "Why?", "--url", NOTHING_THERE),
        ("ask", "Why?", "--json", "--url", NOTHING_THERE),
        ("search", "why", "--url", NOTHING_THERE),
        ("status", "--url", NOTHING_THERE),
        ("status", "--url", "http://127.0.0.1:port"),
        ("status", "--url", "nowhere"),
        ("keys", "create", "ada", "--url", NOTHING_THERE),
        ("keys", "list", "--url", NOTHING_THERE),
        ("keys", "revoke", "ada", "--url", NOTHING_THERE),
        ("sync", "missing", "--url", NOTHING_THERE),
        ("sync", "memory://", "--url", NOTHING_THERE),
        ("reconcile", "--url", NOTHING_THERE),
        ("dead-letters", "list", "--url", NOTHING_THERE),
        ("dead-letters", "retry", "7", "--url", NOTHING_THERE),
        ("documents",),
        ("assistant",),
        ("desk",),
        ("indexer",),
        ("up", "--host", "no.such.host.invalid"),
    ],
    ids=" ".join,
)
def test_an_expected_error_is_one_sentence_and_exit_code_1(refdesk: Any, arguments: tuple[str, ...]) -> None:
    """No traceback, nothing on standard output."""
    code, said, complained = refdesk(*arguments)
    assert (code, said) == (1, "")
    assert complained.startswith("refdesk: ")
    assert complained.count("\n") == 1
    assert complained.endswith(".\n")


def test_a_wrong_setting_is_an_expected_error(refdesk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever command meets it."""
    monkeypatch.setenv("REFDESK_PORT", "http")
    for command in ("status", "doctor", "documents", "up"):
        code, _, complained = refdesk(command)
        assert code == 1, command
        assert "REFDESK_PORT='http' (environment)" in complained


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("search",), ("up", "--port", "x"), ("keys", "create")], ids=" ".join
)
def test_a_command_that_is_not_understood_ends_with_2(refdesk: Any, arguments: tuple[str, ...]) -> None:
    """And shows how it is used."""
    code, _, complained = refdesk(*arguments)
    assert code == 2
    assert "Usage: refdesk" in complained


def test_a_commands_own_exit_code_is_the_exit_code(refdesk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`add` and `doctor` end with 1 when something failed, though they have said so already."""

    @click.command()
    def failing() -> None:
        raise click.exceptions.Exit(1)

    monkeypatch.setattr(app_cli._LazyGroup, "get_command", lambda *_: failing)
    assert refdesk("add") == (1, "", "")


def test_expected_errors_out_of_a_task_group_are_told_one_by_one(refdesk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's background work ends in a group."""

    @click.command()
    def failing() -> None:
        nested = ExceptionGroup("inner", [ConfigurationError("Stream DOCUMENTS differs.")])
        raise ExceptionGroup("outer", [nested, Unavailable("NATS is away.")])

    monkeypatch.setattr(app_cli._LazyGroup, "get_command", lambda *_: failing)
    assert refdesk("documents") == (1, "", "refdesk: Stream DOCUMENTS differs.\nrefdesk: NATS is away.\n")


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must not look like a refusal, alone or in a group."""

    @click.command()
    def broken() -> None:
        raise ExceptionGroup("mixed", [ConfigurationError(), ZeroDivisionError()])

    monkeypatch.setattr(app_cli._LazyGroup, "get_command", lambda *_: broken)
    monkeypatch.setattr(sys, "argv", ["refdesk", "documents"])
    with pytest.raises(ExceptionGroup):
        main()


@contextmanager
def answering(status: int, body: bytes, *, media_type: str = "application/json") -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            thread.join()


def test_a_refusal_is_told_in_its_own_words(refdesk: Any) -> None:
    """The problem's detail, and nothing around it."""
    problem = {"type": "forbidden", "detail": "Only administrators may do this."}
    with answering(403, msgspec.json.encode(problem)) as url:
        assert refdesk("keys", "list", "--url", url) == (1, "", "refdesk: Only administrators may do this.\n")


def test_something_else_than_refdesk_is_told_from_it(refdesk: Any) -> None:
    """A page of somebody else's server is not JSON."""
    with answering(200, b"<html>", media_type="text/html") as url:
        code, _, complained = refdesk("keys", "list", "--url", url)
    assert (code, complained) == (1, f"refdesk: What answers at {url} is not Refdesk. Name another with --url.\n")


def test_json_is_one_object_on_the_last_line(refdesk: Any) -> None:
    """For programs."""
    with answering(200, b'{"keys":[]}') as url:
        code, said, _ = refdesk("keys", "list", "--json", "--url", url)
    assert (code, msgspec.json.decode(said.splitlines()[-1])) == (0, {"keys": []})


def test_the_list_of_commands_names_each_that_is_not_hidden() -> None:
    """Its lines are written by hand, so that it imports none of them."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in COMMANDS}
    assert set(app_cli.SUMMARIES) == {name for name, command in found.items() if command and not command.hidden}


@pytest.mark.parametrize("arguments", [(), ("sync",), ("ask",), ("add",), ("search",), ("status",)])
def test_help_loads_nothing_that_is_slow(arguments: tuple[str, ...]) -> None:
    """Neither servers' libraries nor clients': it is there at once."""
    script = (
        "import sys; from refdesk.app.cli import cli\n"
        f"cli([*{arguments!r}, '--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    slow = {"aiohttp", "fsspec", "psycopg", "starlette", "nats", "redis", "numpy", "onnxruntime", "prometheus_client"}
    assert not slow & set(ended.stderr.split())


def test_commands_are_imported_only_when_called() -> None:
    """`refdesk --version` loads none of them."""
    script = "import sys; from refdesk.app.cli import cli; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert not {module.partition(":")[0] for module in COMMANDS.values()} & set(ended.stdout.split())


def test_doctor_ends_with_1_when_something_is_wrong_and_shows_no_secret(
    refdesk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For people line by line, for programs as one object; the settings with their origins."""
    monkeypatch.setenv("REFDESK_OPERATOR_KEY", "geheim")
    monkeypatch.setenv("REFDESK_PORT", "0")
    monkeypatch.setenv("REFDESK_VALKEY_URL", "redis://:geheim@127.0.0.1:1")
    code, said, _ = refdesk("doctor", "--settings", "--data-dir", "data")
    assert code == 1
    assert "REFDESK_OPERATOR_KEY = ••••••  [environment]" in said
    assert "REFDESK_DATA_DIR = " in said and "/data  [command line]" in said
    assert "\nFAIL Valkey: " in said and "\nok   Python: " in said
    code, as_json, _ = refdesk("doctor", "--json")
    report = msgspec.json.decode(as_json.splitlines()[-1])
    assert (code, report["healthy"]) == (1, False)
    assert report["settings"]["operator_key"] == {"value": "••••••", "origin": "environment"}
    assert "geheim" not in said + as_json


def test_the_shell_completes_commands_without_importing_them() -> None:
    """With what each does."""
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "refdesk"],
        env={
            "PATH": os.environ["PATH"],
            "_REFDESK_COMPLETE": "zsh_complete",
            "COMP_WORDS": "refdesk re",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split("\n")[0::3][:2] == ["plain", "plain"]
    assert {"reconcile", "reindex"} <= set(said.stdout.split("\n"))
    assert "refdesk.app.commands" not in said.stderr


def test_a_corpus_asked_of_a_file_is_misuse(refdesk: Any, tmp_path: Path) -> None:
    """Exit code 2, as for any misuse."""
    (tmp_path / "set.jsonl").write_text('{"question": "Why?", "facts": ["so"]}\n')
    code, _, said = refdesk("eval", "set.jsonl", "--load")
    assert code == 2
    assert "--load takes a folder" in said


def test_doctor_shows_settings_only_when_asked(refdesk: Any) -> None:
    """What is wrong stands first."""
    assert "REFDESK_PORT" not in refdesk("doctor")[1]
    assert "REFDESK_PORT = 8080  [default]" in refdesk("doctor", "--settings")[1]


@pytest.mark.parametrize(
    ("environ", "platform", "is_opened"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "10.0.0.1 22"}, "darwin", False),
    ],
)
def test_the_page_is_opened_on_a_desktop_alone(
    environ: dict[str, str], platform: str, is_opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on a server, nor for whoever came from elsewhere."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    opened: list[str] = []
    open_page("http://127.0.0.1:8080", environ=environ, platform=platform, opens=opened.append)
    assert bool(opened) == is_opened
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    open_page("http://127.0.0.1:8080", environ=environ, platform=platform, opens=opened.append)
    assert len(opened) == is_opened
