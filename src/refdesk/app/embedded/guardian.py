"""Ends the children of a supervisor that can no longer do it itself.

Run as a script, never imported. It reads lines from its standard input, which the supervisor holds open:

    + PID STOP_SIGNAL GRACE_S      a child, the leader of a process group of its own, has started
    - PID                          it is gone, with its group

End of input means that the supervisor is gone, however it died. Every group that is still registered is asked to stop,
and killed when its grace is over. On Linux the kernel has already told each child (`launch.py`), but not the child's
own children, and a child may be deaf; elsewhere this is the only help. Standard library only, started with ``-I -S``.
"""

import os
import signal
import sys
import time

POLL_S = 0.02
UNREAPED_S = 5.0
"""A group still there so long after SIGKILL consists of zombies that nobody collects: nothing is left to end."""


def send(group: int, number: int) -> bool:
    """False when nobody is left in the group. Signal 0 only asks."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so for a group of zombies
        return False
    return True


def end(groups: dict[int, tuple[int, float]]) -> None:
    began_s = time.monotonic()
    left = {group: grace_s for group, (number, grace_s) in groups.items() if send(group, number)}
    while left:
        time.sleep(POLL_S)
        elapsed_s = time.monotonic() - began_s
        left = {
            group: grace_s
            for group, grace_s in left.items()
            if elapsed_s < grace_s + UNREAPED_S and send(group, signal.SIGKILL if elapsed_s > grace_s else 0)
        }


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, tuple[int, float]] = {}
    for line in sys.stdin:
        sign, pid, *rest = line.split()
        if sign == "+":
            groups[int(pid)] = (int(rest[0]), float(rest[1]))
        else:
            groups.pop(int(pid), None)
    end(groups)


if __name__ == "__main__":
    main()
