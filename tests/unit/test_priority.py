"""Work that nobody waits for stands back."""

import os
import subprocess
import sys

from refdesk.indexing.priority import stand_back

SHOW = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"


def test_a_process_stands_back_with_all_it_starts() -> None:
    """By so much more than it did, and no further than the system goes."""
    script = (
        "import subprocess, sys; from refdesk.indexing.priority import stand_back\n"
        f"for more in (3, 4, 40):\n    stand_back(more)\n    subprocess.run([sys.executable, '-c', {SHOW!r}], check=True)"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert [int(line) for line in shown.stdout.split()] == [min(19, own + more) for more in (3, 7, 47)]


def test_another_process_stands_back() -> None:
    """One that has ended does not matter."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stand_back(2, process_id=other.pid)
        assert os.getpriority(os.PRIO_PROCESS, other.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 2)
        other.communicate(b"\n")
        stand_back(2, process_id=other.pid)
