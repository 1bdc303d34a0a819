"""Whom a server runs as that refuses to run as root.

It becomes the owner of its data, at first `nobody`. Where that user cannot reach the binary or the data, it keeps one Linux
capability to pass directories, instead of us changing the permissions of directories that are not ours (ADR 0002).
"""

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from refdesk.app.embedded.processes import Account
from refdesk.contracts.errors import ConfigurationError

PASSING_GROUP = 65_532
"""Whose processes may pass through the directories that root makes; no other process is in it (see `fences.PARSER_ID`)."""
CAP_DAC_OVERRIDE = 1  # linux/capability.h
CAP_DAC_READ_SEARCH = 2


def account_for(*, binary: Path, data: Path, reached: Sequence[Path]) -> Account | None:
    """Whom to run `binary` as: ourselves (None), or when we are root the owner of `data`, at first `nobody`.

    `reached` are the places it must get to; what is above them exists. Raises ConfigurationError when there is nobody.
    """
    if os.geteuid() != 0:
        return None
    owner = data.stat().st_uid if data.exists() else 0
    try:
        user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            f"{binary.name} does not run as root, and there is no other user to run it as. "
            "Start Refdesk as an ordinary user, or set REFDESK_DATABASE_URL to a server of your own."
        ) from None
    capability = capability_for(binary=binary, reached=reached, uid=user.pw_uid, gid=PASSING_GROUP)
    return Account(uid=user.pw_uid, gid=PASSING_GROUP, capability=capability)


def capability_for(*, binary: Path, reached: Sequence[Path], uid: int, gid: int) -> int:
    """The least Linux capability with which this user can run the binary and get to the places; -1 for none."""
    may_run = _permits(binary, uid=uid, gid=gid, bits=stat.S_IROTH | stat.S_IXOTH)
    folders = {parent for path in (binary, *reached) for parent in path.resolve().parents}
    if may_run and all(_permits(folder, uid=uid, gid=gid, bits=stat.S_IXOTH) for folder in folders):
        return -1
    if may_run and _we_hold(CAP_DAC_READ_SEARCH):
        return CAP_DAC_READ_SEARCH
    return CAP_DAC_OVERRIDE


def _permits(path: Path, *, uid: int, gid: int, bits: int) -> bool:
    """Whether the permission bits, given for "others", hold for this user."""
    status = path.stat()
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    return (status.st_mode >> shift) & bits == bits


def _we_hold(capability: int) -> bool:
    """Containers often leave root only some capabilities."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    permitted = next((line.split()[1] for line in lines if line.startswith("CapPrm:")), "0")
    return bool(int(permitted, 16) >> capability & 1)
