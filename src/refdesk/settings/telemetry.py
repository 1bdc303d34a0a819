"""What is told of the work."""

from typing import Literal

import msgspec

from refdesk.settings.kinds import Count, Whole


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Logs and spans."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What a service logs. `debug` has every request; `info` those that failed or took longer than a second."""
    log_form: Literal["auto", "text", "json"] = "auto"
    """How: `text` for people, `json` for programs; `auto` is text on a terminal, JSON elsewhere."""
    otlp_url: str | None = None
    """An OpenTelemetry collector for spans, such as http://collector:4318; needs the `tracing` extra."""


class LogFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The logs of what `refdesk up` has started."""

    bytes_max: Count = msgspec.field(default=8 * 1024 * 1024, name="log_file_bytes_max")
    """How large a log in `<data_dir>/logs` grows under `refdesk up` before it is put aside as `<name>.log.1`."""
    kept: Whole = msgspec.field(default=3, name="log_files_kept")
    """How many of those are kept of each server and service, the oldest as `<name>.log.3`. 0: none."""
