"""Where the values of settings come from. The environment is read here and nowhere else.

A value comes from, strongest first: the command line, ``REFDESK_<NAME>`` in the environment, ``refdesk.toml`` (in the
working directory, or the file named by ``REFDESK_CONFIG``), the default.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from refdesk.contracts.errors import ConfigurationError
from refdesk.settings.misspelt import misspelt, nearest
from refdesk.settings.places import DEFAULT_DATA_DIR
from refdesk.settings.redaction import shown
from refdesk.settings.tree import PREFIX, Settings, settings_by_name

CONFIG_FILE = "refdesk.toml"


class Loaded(msgspec.Struct, frozen=True):
    """Settings and, per name, where each came from: `command line`, `environment`, the file's name, or `default`.

    ``mistaken``: one sentence for each variable of the environment that begins as a setting does and is none.
    """

    settings: Settings
    origins: dict[str, str]
    mistaken: list[str] = []


def load(overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None) -> Loaded:
    """Raises ConfigurationError naming the setting, its value and what is expected."""
    environ = os.environ if environ is None else environ
    names = set(settings_by_name())
    values: dict[str, Any] = {}
    origins = dict.fromkeys(names, "default")
    for origin, layer in (
        _file_layer(environ),
        ("environment", _environment_layer(environ, names)),
        ("command line", {k: v for k, v in (overrides or {}).items() if v is not None}),
    ):
        for name, value in layer.items():
            if name not in names:
                raise ConfigurationError(
                    f"{origin} sets {name!r}, which is not a setting.{nearest(name, names)} "
                    "`refdesk doctor --settings` lists them all."
                )
            values[name], origins[name] = value, origin
    mistaken = misspelt(environ, names | {"config"}, prefix=PREFIX)
    return Loaded(settings=_convert(values, origins), origins=origins, mistaken=mistaken)


def _convert(values: dict[str, Any], origins: dict[str, str]) -> Settings:
    converted: dict[str, Any] = {}
    for name, value in values.items():
        try:
            converted[name] = msgspec.convert(value, settings_by_name()[name].kind, strict=False, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}={shown(name, value)!r} ({origins[name]}) is not valid: {error}."
            ) from error
    converted["data_dir"] = _absolute(converted.get("data_dir", DEFAULT_DATA_DIR))
    return Settings.of(**converted)


def _absolute(data_dir: Path) -> Path:
    try:
        return data_dir.expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no home; a working directory that was removed
        raise ConfigurationError(
            f"Where the data directory {data_dir} is cannot be found out: {error}. Set {PREFIX}DATA_DIR to a whole path."
        ) from error


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError


def _file_layer(environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    named = environ.get(f"{PREFIX}CONFIG")
    path = Path(named or CONFIG_FILE)
    if not named and not path.is_file():
        return CONFIG_FILE, {}
    try:
        return str(path), tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error}.") from error


def _environment_layer(environ: Mapping[str, str], names: set[str]) -> dict[str, str]:
    layer = {}
    for key, value in environ.items():
        name = key.removeprefix(PREFIX).lower()
        if key.startswith(PREFIX) and value != "" and name in names:
            layer[name] = value
    return layer


def with_origins(loaded: Loaded) -> Settings:
    """The settings with word of where they come from, for whom they are handed on to; unless they have it already."""
    if loaded.settings.services.setting_origins is not None:
        return loaded.settings
    told = {name: origin for name, origin in loaded.origins.items() if origin != "default"}
    return loaded.settings.having(setting_origins=msgspec.json.encode(told).decode())


def origins_of(given: Settings) -> dict[str, str]:
    """By name, as `with_origins` has told it; what has been set without a word of it, `refdesk up` has set."""
    try:
        told = msgspec.json.decode(given.services.setting_origins or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        told = {}
    return {
        name: told.get(name, "default" if given.value(name) == setting.default else "refdesk up")
        for name, setting in settings_by_name().items()
    }


def to_environment(given: Settings) -> dict[str, str]:
    """The settings as ``REFDESK_*`` variables: how `refdesk up` hands them to its services."""
    values = {name: given.value(name) for name in settings_by_name()}
    return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}
