"""A process inside a parser's fences that tries what it should not: run by `test_fences.py`, with its attempts as JSON.

Prints one JSON object: each attempt's name with "refused", "done" or what it read; and `missing`, the fences there are none of.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from refdesk.indexing.fences import fence

PTRACE_ATTACH = 16  # linux/ptrace.h


def connect(port: int) -> None:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", port))


def datagram(port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as connection:
        connection.sendto(b"all of it", ("127.0.0.1", port))


def unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


def read(path: str) -> str:
    return Path(path).read_text()


def write(path: str) -> None:
    Path(path).write_text("mine")


def make(path: str) -> None:
    Path(path).mkdir()


def send_signal(pid: int) -> None:
    os.kill(pid, signal.SIGURG)  # which is ignored, should it arrive


def trace(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def look(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def run(program: str) -> None:
    os.execv(program, [program])


def end_oneself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGURG)


def status(_: int) -> str:
    return Path("/proc/self/status").read_text()


def become_root(_: int) -> None:
    os.setresuid(0, 0, 0)


ATTEMPTS: dict[str, Callable[..., str | None]] = {
    "connect": connect,
    "datagram": datagram,
    "unix": unix,
    "read": read,
    "write": write,
    "make": make,
    "signal": send_signal,
    "trace": trace,
    "look": look,
    "run": run,
    "raise": end_oneself,
    "status": status,
    "root": become_root,
}


def outcome(name: str, argument: object) -> str:
    try:
        return ATTEMPTS[name](argument) or "done"
    except OSError:
        return "refused"


def main() -> None:
    attempts = json.loads(sys.argv[1])
    missing = fence(own=Path.cwd(), parent=os.getppid())
    found = {name: outcome(name, argument) for name, argument in attempts}
    sys.stdout.write(json.dumps({**found, "missing": missing}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
