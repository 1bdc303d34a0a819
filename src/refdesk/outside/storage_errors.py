"""What the file system's refusals mean to us: an errno as an error of the one tree."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from refdesk.contracts.errors import InsufficientStorage, ReadOnly, Unavailable

_MEANINGS: Mapping[int, tuple[type[Unavailable], str]] = {
    errno.ENOSPC: (InsufficientStorage, "is full"),
    errno.EDQUOT: (InsufficientStorage, "has used up its quota"),
    errno.EFBIG: (InsufficientStorage, "takes no file of this size"),
    errno.EROFS: (ReadOnly, "is mounted read-only"),
    errno.EACCES: (ReadOnly, "may not be read or written by this user"),
    errno.EPERM: (ReadOnly, "may not be read or written by this user"),
    errno.EMFILE: (Unavailable, "cannot be opened: this process has too many files open"),
    errno.ENFILE: (Unavailable, "cannot be opened: this machine has too many files open"),
}


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise the kind of `Unavailable` that the system's error is, naming the place. An error of the one tree passes."""
    try:
        yield
    except OSError as error:
        raise meaning_of(error, place=place) from error


def meaning_of(error: OSError, *, place: str) -> Unavailable:
    kind, does = _MEANINGS.get(error.errno or 0, (Unavailable, f"cannot be used ({error.strerror or error})"))
    return kind(f"{place} {does}. It is tried again by itself; `refdesk doctor` says what to do.")
