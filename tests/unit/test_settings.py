"""Where a setting's value comes from, what is refused, and what is never shown."""

from pathlib import Path
from typing import Any

import pytest

from refdesk.contracts.errors import ConfigurationError
from refdesk.settings.loading import Loaded, load, to_environment
from refdesk.settings.redaction import DOTS, SECRETS, shown
from refdesk.settings.tree import Settings, settings_by_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "refdesk.toml"


def load_with(file: Path, text: str, *, overrides: dict[str, Any] | None = None, **environ: str) -> Loaded:
    file.write_text(text, encoding="utf-8")
    return load(overrides, environ={"REFDESK_CONFIG": str(file), **environ})


def test_without_anything_every_setting_is_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    monkeypatch.chdir(tmp_path)
    loaded = load(environ={})
    assert set(loaded.origins) == set(settings_by_name())
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.settings.having(data_dir=Settings().places.data_dir) == Settings()


def test_the_data_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether by default, from the home directory, or relative to where one stands: children stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).settings.places.data_dir.is_absolute()
    assert load(environ={"REFDESK_DATA_DIR": "~/desk"}).settings.places.data_dir == Path.home() / "desk"
    assert load(environ={"REFDESK_DATA_DIR": "desk"}).settings.places.data_dir == tmp_path / "desk"


def test_the_file_beats_the_default_the_environment_the_file_the_command_line_all(file: Path) -> None:
    """Strongest first: command line, environment, file, default."""
    loaded = load_with(
        file,
        "port = 1\nhost = 'file'\nwaiting_max = 3",
        overrides={"port": 3, "host": None},
        REFDESK_PORT="2",
        REFDESK_HOST="env",
    )
    assert (loaded.settings.address.port, loaded.origins["port"]) == (3, "command line")
    assert (loaded.settings.address.host, loaded.origins["host"]) == ("env", "environment")
    assert (loaded.settings.admission.waiting_max, loaded.origins["waiting_max"]) == (3, str(file))
    assert (loaded.settings.answers.passages_max, loaded.origins["passages_max"]) == (8, "default")


def test_a_misspelt_variable_is_named_with_the_nearest_setting() -> None:
    """What Kubernetes sets for a Service named refdesk is none."""
    environ = {
        "REFDESK_NATS_ULR": "nats://a",
        "REFDESK_WHATEVER_THIS_IS": "1",
        "REFDESK_CONFIG_": "",
        "REFDESK_SERVICE_HOST": "10.0.0.1",
        "REFDESK_VALKEY_PORT_6379_TCP_ADDR": "10.0.0.2",
        "REFDESK_PORT": "8080",
        "PATH": "/bin",
    }
    assert load(environ=environ).mistaken == [
        "REFDESK_CONFIG_ is not a setting. Did you mean REFDESK_CONFIG?",
        "REFDESK_NATS_ULR is not a setting. Did you mean REFDESK_NATS_URL?",
        "REFDESK_WHATEVER_THIS_IS is not a setting.",
    ]


def test_a_wrong_name_in_the_file_is_refused_with_the_nearest_one(file: Path) -> None:
    """A file is written for Refdesk alone."""
    with pytest.raises(ConfigurationError, match=r"'prot', which is not a setting. Did you mean port\?"):
        load_with(file, "prot = 1")


def test_the_file_of_the_working_directory_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """refdesk.toml needs no naming."""
    file.write_text("port = 4\n", encoding="utf-8")
    monkeypatch.chdir(file.parent)
    loaded = load(environ={})
    assert (loaded.settings.address.port, loaded.origins["port"]) == (4, "refdesk.toml")


def test_an_empty_variable_counts_as_unset(file: Path) -> None:
    """Compose files and charts like to set variables to nothing."""
    loaded = load_with(file, "nats_url = 'nats://a'", REFDESK_NATS_URL="")
    assert (loaded.settings.nats.url, loaded.origins["nats_url"]) == ("nats://a", str(file))


def test_a_foreign_variable_is_let_be(file: Path) -> None:
    """The environment is not ours alone; only the file is refused for names that are no settings."""
    assert load_with(file, "", REFDESK_SERVICE_HOST="10.0.0.1").settings.address.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PORT", "tcp://10.0.0.1:80", "int"),
        ("PORT", "70000", "65535"),
        ("WAITING_MAX", "-1", ">= 0"),
        ("UPLOAD_BYTES_MAX", "0", ">= 1"),
        ("LLM_TEMPERATURE", "3", "<= 2"),
        ("WAIT_SECONDS_MAX", "soon", "float"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(file: Path, name: str, value: str, complaint: str) -> None:
    """The message names the setting, the value, where it came from and what is expected."""
    with pytest.raises(ConfigurationError) as refused:
        load_with(file, "", **{f"REFDESK_{name}": value})
    message = refused.value.message
    assert f"REFDESK_{name}='{value}'" in message
    assert "(environment)" in message
    assert complaint in message


def test_a_refused_secret_is_not_shown(file: Path) -> None:
    """The message goes to terminals and logs."""
    with pytest.raises(ConfigurationError) as refused:
        load_with(file, "llm_api_key = ['geheim']")
    assert "REFDESK_LLM_API_KEY" in refused.value.message
    assert "geheim" not in refused.value.message


def test_an_unknown_name_in_the_file_is_refused(file: Path) -> None:
    """A misspelt setting must not be a default in disguise."""
    with pytest.raises(ConfigurationError, match="'prot', which is not a setting") as refused:
        load_with(file, "prot = 9000")
    assert str(file) in refused.value.message


@pytest.mark.parametrize("content", [b"port = ", b"port = '\xff'"])
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes) -> None:
    """Not TOML, or not UTF-8."""
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"refdesk\.toml cannot be read"):
        load(environ={"REFDESK_CONFIG": str(file)})


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    """Only the one nobody named may be missing."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(environ={"REFDESK_CONFIG": str(file)})


def test_the_environment_carries_every_setting_to_a_child(file: Path) -> None:
    """What `refdesk up` hands to its services is what they load."""
    settings = load_with(
        file,
        "llm_temperature = 0.25\nllm_model = 'a, b'\ncontent_dir = '/c'\nwaiting_max = 0\nnats_url = 'nats://a,nats://b'",
        REFDESK_DATA_DIR="/d",
        REFDESK_DISCONNECT_GRACE_S="1.5",
    ).settings
    assert load(environ=to_environment(settings)).settings == settings


def test_unset_settings_stay_unset_on_the_way_to_a_child() -> None:
    """Presence selects, so absence must survive."""
    assert "REFDESK_NATS_URL" not in to_environment(Settings())


def test_the_content_directory_follows_the_data_directory() -> None:
    """Unless it is set."""
    assert Settings.of(data_dir=Path("/d")).places.content_path == Path("/d/content")
    assert Settings.of(data_dir=Path("/d"), content_dir=Path("/c")).places.content_path == Path("/c")


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_shown_as_dots(name: str) -> None:
    """Their number tells nothing of its length; an unset one shows nothing."""
    assert shown(name, "geheim") == DOTS
    assert shown(name, None) == ""


def test_every_key_is_a_secret() -> None:
    """A setting that holds one is named so; one that names a file with one holds none."""
    named = {name for name in settings_by_name() if name.endswith(("key", "password", "token", "secret"))}
    assert named - {"tls_key"} == SECRETS


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://refdesk:geheim@db/refdesk",
        "postgresql://refdesk:a@geheim/b?c@db/refdesk",
        "postgresql://db/refdesk?user=refdesk&password=geheim",
        "host=db password='a geheim' dbname=refdesk",
        "redis://:geheim@valkey:6379/0",
        "nats://geheim@nats:4222",
        "nats://refdesk:geheim@one,nats://refdesk:geheim@two",
        "refdesk:geheim@nats:4222",
        "https://models.example/v1?api-key=geheim",
    ],
)
def test_a_password_inside_a_url_is_shown_as_dots(url: str) -> None:
    """Wherever it stands, and however badly it was quoted."""
    assert "geheim" not in shown("database_url", url)
    assert DOTS in shown("database_url", url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "unix:///run/valkey.sock", "nats://one,nats://two"])
def test_a_url_without_a_password_is_shown_whole(url: str) -> None:
    """There is nothing to hide."""
    assert shown("url", url) == url
