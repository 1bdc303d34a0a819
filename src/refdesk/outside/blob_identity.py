"""Whose directory of blobs this is: a file ``identity`` in it, with 32 hexadecimal digits.

Two services on two directories each see half of the documents, and an unmounted volume looks like an empty directory. A
database that knows the identity tells both from the right one. `ask_for_adoption` leaves a mark with which an operator says
that this directory is the right one from now on; the service that starts next finds it.
"""

import os
import re
from pathlib import Path

from refdesk.contracts.errors import Unavailable

FILE = "identity"
MARK = "adopt"

_IDENTITY = re.compile(r"[0-9a-f]{32}")


def read_identity(directory: Path) -> str | None:
    """None where there is no such file, or nothing sensible in it. Raises OSError when it cannot be read."""
    try:
        text = (directory / FILE).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return text if _IDENTITY.fullmatch(text) else None


def write_identity(directory: Path, identity: str) -> None:
    """On return it is on disk. Makes the directory where it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    beside = directory / f"{FILE}.{os.urandom(8).hex()}"
    try:
        with beside.open("x", encoding="ascii") as file:
            file.write(f"{identity}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(directory / FILE)
    finally:
        beside.unlink(missing_ok=True)


def require_identity(directory: Path, identity: str) -> None:
    """Raises Unavailable when the directory is gone, or another one stands in its place."""
    found = read_identity(directory)
    if found != identity:
        what = "is not there, or empty" if found is None else f"is another one ({found[:8]}…, not {identity[:8]}…)"
        raise Unavailable(f"The content directory {what}. Is its volume mounted? It is looked at again by itself.")


def ask_for_adoption(directory: Path) -> None:
    """Raises OSError when the directory is missing or cannot be written."""
    (directory / MARK).touch()


def adoption_is_asked(directory: Path) -> bool:
    return (directory / MARK).exists()


def adoption_is_done(directory: Path) -> None:
    (directory / MARK).unlink(missing_ok=True)
