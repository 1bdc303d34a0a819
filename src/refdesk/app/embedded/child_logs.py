"""The logs of child processes: one file each, bounded while they run.

    desk.log ── beyond `bytes_max` ──▶ copied into desk.log.1, then emptied      (.1 becomes .2, and so on; the oldest goes)

A child keeps the file it was given, whatever its name is, and not every server opens its log again when it is told to. So a log
is copied and emptied, not moved; children append, and so go on at its new beginning. What a child writes in the microseconds
between the last byte copied and the emptying is lost.
"""

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path

from refdesk.settings.telemetry import LogFiles

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often logs are measured: a child that writes 50 MB/s has a log that much larger for a moment."""
TAIL_LINES = 6
TAIL_BYTES = 4096
LAST_WORDS = "refdesk: "
"""What the sentence begins with that `refdesk` ends with when a service cannot start (`cli.main`)."""


def open_log(path: Path) -> int:
    """A file descriptor that appends. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path) -> str:
    """The last lines of a log on one line, or an empty string; of a service that says why it ends, only that."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    if lines and lines[-1].startswith(LAST_WORDS):
        return lines[-1].removeprefix(LAST_WORDS)
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip())


async def keep_bounded(folder: Path, *, limits: LogFiles) -> None:
    """Put aside what is too large in a folder of logs, until cancelled."""
    while True:
        await asyncio.to_thread(bound, folder, limits=limits)
        await asyncio.sleep(LOOK_S)


def bound(folder: Path, *, limits: LogFiles) -> None:
    """One look. A log that cannot be put aside (a full disk) goes on as it is, and is tried again at the next."""
    for log in folder.glob("*.log"):
        try:
            if log.stat().st_size > limits.bytes_max:
                _put_aside(log, count=limits.kept)
        except OSError as error:
            logger.debug("%s cannot be put aside now: %s", log, error)


def _put_aside(log: Path, *, count: int) -> None:
    if not count:
        os.truncate(log, 0)
        return
    aside = [log.with_name(f"{log.name}.{number}") for number in range(1, count + 1)]
    aside[-1].unlink(missing_ok=True)  # before the copy: that needs room
    copy = log.with_name(f"{log.name}.copy")
    try:
        with log.open("rb", buffering=0) as source, open(copy, "wb", buffering=0, opener=_private) as target:
            shutil.copyfileobj(source, target)
            for older, newer in zip(reversed(aside[1:]), reversed(aside[:-1]), strict=True):
                with contextlib.suppress(FileNotFoundError):
                    newer.replace(older)
            copy.replace(aside[0])
            shutil.copyfileobj(source, target)  # what came meanwhile
            os.truncate(log, 0)
    finally:
        copy.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
