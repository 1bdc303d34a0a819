"""The syntax tree of a source file, parsed once a run."""

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def tree_of(file: Path) -> ast.Module:
    """No garbage is collected meanwhile: a finalizer that logs a traceback parses, too, and in Python 3.11 one parsing inside
    another fails (cpython gh-113035)."""
    text, collects = file.read_text(encoding="utf-8"), gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if collects:
            gc.enable()
