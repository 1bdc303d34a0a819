"""Becomes another program after arranging that it dies with its parent, as the right user.

Run as a script, never imported, by `processes.py`: a fresh interpreter prepares itself and then `exec`s, so that no
Python runs between `fork` and `exec` of the supervisor. Standard library only; it is started with ``-I -S``.

    launch.py PARENT_PID DEATH_SIGNAL UID GID CAPABILITY -- PROGRAM [ARGUMENT …]

``DEATH_SIGNAL`` 0 asks for none; ``UID`` -1 keeps the user; ``CAPABILITY`` -1 keeps none when the user changes.
The order matters: Linux forgets the death signal when the user changes, so it is set last, and a parent that died
before that moment is noticed by comparing its id.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # these from linux/prctl.h, linux/securebits.h and linux/capability.h
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAPABILITY_WORDS = 2


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWord(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    checked(ctypes.CDLL(None, use_errno=True).prctl(option, *padded))


def become(*, uid: int, gid: int, capability: int) -> None:
    """Change to another user for good, taking at most one capability along, through `exec` too."""
    if capability >= 0:
        let_access_see_capabilities()
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if capability >= 0:
        hold_only(capability)
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def let_access_see_capabilities() -> None:
    """Without this, access(2), with which initdb looks for its programs, leaves capabilities out of account.

    Root in a container may not be allowed to; then only programs in a place that others cannot enter are out of reach.
    """
    with contextlib.suppress(PermissionError):
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)


def hold_only(capability: int) -> None:
    word, bit = divmod(capability, 32)
    words = (_CapabilityWord * CAPABILITY_WORDS)()
    words[word] = _CapabilityWord(1 << bit, 1 << bit, 1 << bit)
    header = _CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    checked(ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), ctypes.byref(words)))


def die_with_parent(*, parent: int, death_signal: int) -> None:
    if death_signal and sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        raise SystemExit(f"refdesk launch: the parent, process {parent}, has already ended")


def main(arguments: list[str]) -> None:
    parent, death_signal, uid, gid, capability = (int(argument) for argument in arguments[:5])
    command = arguments[6:]
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # ignored signals would stay ignored through exec
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    try:
        if uid >= 0:
            become(uid=uid, gid=gid, capability=capability)
        die_with_parent(parent=parent, death_signal=death_signal)
        os.execv(command[0], command)  # noqa: S606  no shell is the point
    except OSError as error:
        raise SystemExit(f"refdesk launch: cannot run {command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
