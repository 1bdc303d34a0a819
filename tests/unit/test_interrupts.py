"""The tests send Ctrl-C to what they start; that must reach it also where they were started with Ctrl-C ignored."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHILD = "import signal, sys; sys.exit(0 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 1)"
TESTS = (
    f"import tests.conftest, subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {CHILD!r}]).returncode)"
)


def test_what_tests_start_takes_ctrl_c_also_in_a_background_job() -> None:
    """`nohup make test`, or `make test &` in a script: the shell has SIGINT ignored, and children inherit that."""
    run = (sys.executable, "-c", TESTS)
    ignoring = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv({run[0]!r}, {run!r})"
    done = subprocess.run([sys.executable, "-c", ignoring], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
