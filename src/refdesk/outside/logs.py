"""What is logged, one record a line: for people on a terminal, as JSON for programs. No question and no document's text at INFO.

A record that belongs to a request says so: its id, its principal's id and its route stand in the context of the request's task.
"""

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Form = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

SLOW_S = 1.0
"""A request that takes longer is logged at INFO although it went well."""
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("refdesk.requests")


class InRequest:
    """What is known of the request under way."""

    def __init__(self, request_id: str, route: str) -> None:
        self.request_id = request_id
        self.route = route
        self.principal_id: str | None = None
        self.outcome = ""
        self.started = time.monotonic()

    def facts(self) -> dict[str, str]:
        known = {"request_id": self.request_id, "principal_id": self.principal_id, "route": self.route}
        return {name: value for name, value in known.items() if value is not None}


_current: ContextVar[InRequest | None] = ContextVar("request", default=None)


def request_id(given: str | None) -> str:
    """The caller's own where it is a plain word; else a new one."""
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)


@contextmanager
def in_request(request: InRequest) -> Iterator[InRequest]:
    """Records inside are the request's. Its end is logged: at INFO where it failed or was slow, else at DEBUG."""
    token = _current.set(request)
    try:
        yield request
    finally:
        duration_s = time.monotonic() - request.started
        is_plain = request.outcome.startswith(("2", "3")) and duration_s < SLOW_S
        level = logging.DEBUG if is_plain else logging.INFO
        if logger.isEnabledFor(level):
            facts = {"outcome": request.outcome, "duration_s": round(duration_s, 4)}
            logger.log(level, "%s %s in %.3f s", request.route, request.outcome, duration_s, extra={"facts": facts})
        _current.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        request = _current.get()
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(request.facts() if request is not None else {}),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def configure(*, form: Form = "auto", level: Level = "info", stream: TextIO | None = None) -> None:
    """To standard error. ``auto``: lines for people where that is a terminal, JSON elsewhere."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    is_json = form == "json" or (form == "auto" and not stream.isatty())
    handler.setFormatter(JsonFormatter() if is_json else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in ("nats", "mcp"):
        logging.getLogger(library).setLevel(logging.WARNING)
