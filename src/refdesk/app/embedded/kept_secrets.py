"""Secrets that are made at the first start and kept in files that only their owner reads."""

import contextlib
import os
import secrets
from pathlib import Path

SECRET_BYTES = 32


def kept_secret(file: Path) -> str:
    """The secret in this file, made when there is none; a file that is empty, or no text, holds none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if kept := file.read_text(encoding="ascii").strip():
            return kept
    secret = secrets.token_hex(SECRET_BYTES)
    write_private(file, secret)
    return secret


def write_private(file: Path, text: str) -> None:
    """Put a file in its place whole or not at all, readable by its owner alone. Raises OSError."""
    unfinished = file.with_name(f"{file.name}.unfinished-{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        with unfinished.open("w", encoding="utf-8") as content:
            content.write(text)
            content.flush()
            os.fsync(content.fileno())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
