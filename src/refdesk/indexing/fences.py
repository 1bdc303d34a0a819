"""The fences of a parser process: what the kernel refuses it, whatever a hostile document makes of its code.

    root ──▶ a user of its own, no capabilities, no new privileges ──▶ no network ──▶ Landlock ──▶ seccomp

* **The user** is one that nobody has and that no line of `/etc/passwd` names, not PostgreSQL's `nobody`: processes of one user
  may signal and trace each other. Who is not root stays who they are.
* **Landlock** leaves it the Python that runs, its libraries and the data it needs to read, its own directory to write, and nobody
  to signal but itself.
* **seccomp** refuses sockets, other programs, tracing, and what else a reader of documents never calls.

Each is best effort: what a kernel lacks, or a container forbids, is reported and done without. The numbers are the kernel's, and
frozen; a library for them would be larger than this. It must be called while there is one thread: Landlock binds
only the thread that asks for it, and those it starts.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

UNLANDLOCKED = "it reads whatever its user may (no Landlock)"
PARSER_ID = 65_533
"""User and group: reserved by Debian's policy, outside what systemd and containers give out, inside a container's 65,536."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22  # linux/prctl.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_CAPABILITY_VERSION_3, _CAPABILITIES, _CAP_KILL = 0x20080522, 64, 5  # linux/capability.h
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_LANDLOCK_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3  # linux/landlock.h
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ABI_MAX, _ABI_NETWORK, _ABI_SCOPES = 5, 4, 6
_BIND_AND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS = 3, 3

_SECCOMP_MODE_FILTER = 2  # linux/seccomp.h
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_OR_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # struct seccomp_data, little-endian
_X32 = 0x40000000

_COMMON_REFUSED = (*range(425, 435), 438, 440, 442)
"""io_uring (three), the new mount calls (six), pidfd_open, pidfd_getfd, process_madvise, mount_setattr."""
_REFUSED = {
    "x86_64": (
        *(41, 42, 43, 49, 50, 288),  # socket, connect, accept, bind, listen, accept4
        *(59, 322),  # execve, execveat
        *(101, 310, 311, 312, 298, 323, 321),  # ptrace, process_vm_*, kcmp, perf_event_open, userfaultfd, bpf
        *(165, 166, 155, 161, 272, 308, 248, 249, 250),  # mount, umount2, pivot_root, chroot, unshare, setns, keys
        *(175, 313, 246, 169, 170, 304),  # modules, kexec_load, reboot, sethostname, open_by_handle_at
    ),
    "aarch64": (
        *(198, 203, 202, 200, 201, 242),
        *(221, 281),
        *(117, 270, 271, 272, 241, 282, 280),
        *(40, 39, 41, 51, 97, 268, 217, 218, 219),
        *(105, 273, 104, 142, 161, 265),
    ),
}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_SIGNALLING = {
    "x86_64": (62, 234, 129, 297),
    "aarch64": (129, 131, 138, 240),
}  # kill, tgkill, rt_sigqueueinfo, and its tgid form
_TKILL = {"x86_64": 200, "aarch64": 130}


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("instructions", ctypes.c_ushort), ("first", ctypes.c_void_p))


def fence(*, own: Path, readable: Sequence[Path] = (), parent: int) -> tuple[str, ...]:
    """Put up every fence that this kernel has; return what is missing, in words. Linux only; elsewhere all is missing.

    ``own`` is the directory it may write; ``readable`` is read beside Python and its libraries. Exits when ``parent``, which it
    must not outlive, is gone already.
    """
    if sys.platform != "linux":
        return (f"{sys.platform} has none of Linux's fences",)
    rules = _Rules(own=own, readable=readable)
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        (UNLANDLOCKED, rules.draw_up),  # while we still get to all that may be read
        ("it keeps capabilities", _drop_bounding_set),
        ("it has a network", _leave_network),
        ("it runs as root", lambda: _leave_root(own)),
        ("it may gain privileges", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1)),
        ("it can be traced by its own user", lambda: _prctl(_PR_SET_DUMPABLE, 0)),
        ("it keeps capabilities", _drop_capabilities),
        (UNLANDLOCKED, rules.enforce),
        ("it may call whatever the kernel has (no seccomp)", _seccomp),
    )
    _die_with(parent)
    missing = [what for what, step in steps if not _done(step)]
    _die_with(parent)  # Linux forgets it when the user changes
    return tuple(dict.fromkeys(missing))


def _done(step: Callable[[], None]) -> bool:
    try:
        step()
    except OSError:
        return False
    return True


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the signal was ordered
        sys.exit(1)


def _leave_root(own: Path) -> None:
    """Raises OSError where root may not do so, or could not end us afterwards."""
    if os.geteuid() == 0:
        _require(_CAP_KILL)
        os.chown(own, PARSER_ID, PARSER_ID)
        os.setgroups([])
        os.setresgid(PARSER_ID, PARSER_ID, PARSER_ID)
        os.setresuid(PARSER_ID, PARSER_ID, PARSER_ID)


def _require(capability: int) -> None:
    """Containers often leave root only some."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    held = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    if not int(held, 16) >> capability & 1:
        raise PermissionError(_EPERM, f"capability {capability} is missing")


def _drop_bounding_set() -> None:
    """So that not even a program with capabilities of its own would have them; only root can."""
    for number in range(_CAPABILITIES) if os.geteuid() == 0 else ():
        with contextlib.suppress(OSError):  # beyond the last one that this kernel has
            _prctl(_PR_CAPBSET_DROP, number)


def _drop_capabilities() -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    _checked(_libc().capset(header, none))


def _leave_network() -> None:
    """A network namespace of its own, which has no network in it; in a user namespace of its own, where we are not root.

    Where neither may be made, as in many containers, seccomp still refuses every socket.
    """
    alone = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    if _libc().unshare(alone) != 0 and platform.machine() not in _REFUSED:
        raise OSError(ctypes.get_errno(), "unshare")


class _Rules:
    """Landlock's rules for the files one may get to; signals and network end at the process where the kernel knows of them."""

    def __init__(self, *, own: Path, readable: Iterable[Path]) -> None:
        self._own = own
        self._readable = readable
        self._ruleset = -1

    def draw_up(self) -> None:
        abi = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
        everything = _ALL_BY_ABI[min(abi, _ABI_MAX)]
        attributes = _RulesetAttributes(everything, _BIND_AND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS)
        known_bytes = 24 if abi >= _ABI_SCOPES else 16 if abi >= _ABI_NETWORK else 8
        self._ruleset = _syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), known_bytes, 0)
        for path in (*_python(), *self._readable):
            _allow(self._ruleset, path, _EXECUTE | _READ_FILE | _READ_DIR)
        _allow(self._ruleset, self._own, everything & ~_EXECUTE)

    def enforce(self) -> None:
        _syscall(_LANDLOCK_RESTRICT_SELF, self._ruleset, 0)
        os.close(self._ruleset)


def _python() -> set[Path]:
    """What Python reads while it runs: its modules, their libraries, the system's, and what these look at."""
    modules = {Path(path) for path in sys.path if path}
    system = (
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/share",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/etc/fonts",
    )
    devices = ("/dev/null", "/dev/zero", "/dev/urandom", f"/proc/{os.getpid()}")
    return modules | {Path(sys.base_prefix, "lib"), *map(Path, (*system, *devices))}


def _allow(ruleset: int, path: Path, access: int) -> None:
    """A file takes only the rights that files have; what is not there needs none. Two modules' paths may be the same."""
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = access if path.is_dir() else access & (_EXECUTE | _READ_FILE)
        rule = _PathBeneath(allowed, folder)
        _syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(folder)


def _seccomp() -> None:
    """A call on the list is "not permitted"; so is a signal to another process, and a call of another architecture kills."""
    machine = platform.machine()
    if machine not in _REFUSED:
        raise OSError(_ENOSYS, "no list of calls for this machine")
    refused = (*_REFUSED[machine], *_COMMON_REFUSED, _TKILL[machine])
    refuse, allow = _instruction(_RETURN, _REFUSE | _EPERM), _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, _ARCHITECTURES[machine], equal=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_GREATER_OR_EQUAL, _X32, otherwise=1),
        refuse,
    ]
    for number in refused:
        program += [_instruction(_JUMP_EQUAL, number, otherwise=1), refuse]
    for number in _SIGNALLING[machine]:
        program += [
            _instruction(_JUMP_EQUAL, number, otherwise=4),
            _instruction(_LOAD, _FIRST_ARGUMENT_AT),
            _instruction(_JUMP_EQUAL, os.getpid(), equal=1),
            refuse,
            allow,
        ]
    program.append(allow)
    code = b"".join(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filter_))


def _instruction(code: int, value: int, *, equal: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, otherwise, value)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(option, *padded))


def _syscall(number: int, *arguments: object) -> int:
    whole = (ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in (number, *arguments))
    return _checked(_libc().syscall(*whole))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
