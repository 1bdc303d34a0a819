"""A source's files as a tree of folders, here or behind a URL. Blocking: called from threads."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import msgspec

from refdesk.contracts.errors import InvalidRequest

PIECE_BYTES = 1 << 18
BLANK = b" \t\r\n\v\f\0\xef\xbb\xbf\xff\xfe"
"""What stands in a file without text: white space in any encoding of Unicode, and its marks."""

Kind = Literal["file", "folder", "link", "special"]

SPECIAL: Mapping[int, str] = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Entry(msgspec.Struct, frozen=True):
    """Something in a folder. ``what``: what a special file is. ``size_bytes``: None where the source does not say."""

    name: str
    kind: Kind
    size_bytes: int | None = None
    what: str = ""


class Copied(msgspec.Struct, frozen=True):
    """A file's content as it was read; ``stamp`` changes when the file does (None: the source has none)."""

    sha256: str
    blank: bool
    stamp: tuple[int, ...] | None


class Link(msgspec.Struct, frozen=True):
    """Where a link leads in the end: its target's own address in the tree, "" for the root, and what is there."""

    target: str
    entry: Entry


class LeadsOut(Exception):
    """A link leads out of the source."""


class Tree(Protocol):
    """Paths are relative to the root, with slashes; "" is the root itself. Every method raises OSError as the system does."""

    def require(self) -> None:
        """Raises InvalidRequest when there is no such folder."""

    def entries(self, folder: str) -> list[Entry]:
        """What a folder holds, in no order."""

    def follow(self, link: str) -> Link:
        """Raises LeadsOut, FileNotFoundError when it leads nowhere, OSError when it leads in a circle."""

    def read(self, path: str, into: IO[bytes]) -> Copied:
        """Copy a file's content. Never waits for a writer."""

    def stamp(self, path: str) -> tuple[int, ...] | None:
        """As `Copied` has it, now."""

    def exists(self, path: str) -> bool:
        """Whether something is there now; True where that cannot be told."""


class LocalTree:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        self._root = root

    def require(self) -> None:
        if not Path(self._root).is_dir():
            raise InvalidRequest(f"There is no folder {self._root}. Nothing was changed.")

    def entries(self, folder: str) -> list[Entry]:
        with os.scandir(self._address(folder)) as found:
            return list(filter(None, map(_listed, found)))

    def follow(self, link: str) -> Link:
        root = os.path.realpath(self._root)
        real = os.path.realpath(self._address(link), strict=True)
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise LeadsOut(real)
        return Link(real[len(root) :].lstrip("/"), _entry(Path(link).name, Path(real).stat()))

    def read(self, path: str, into: IO[bytes]) -> Copied:
        descriptor = os.open(self._address(path), os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):  # it has become a pipe since it was listed
                raise FileNotFoundError
            digest, blank = _copy(file, into)
        return Copied(digest, blank, _stamp(status))

    def stamp(self, path: str) -> tuple[int, ...] | None:
        return _stamp(Path(self._address(path)).stat())

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._address(path))

    def _address(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root


class RemoteTree:
    """A folder behind a URL that fsspec reads. It has no links, and tells of no change while a file is read."""

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root.rstrip("/")

    def require(self) -> None:
        """Also forgets what was listed before: file systems behind URLs remember it, and would show it for ever."""
        try:
            with _translated():
                self._files.invalidate_cache()
                there = self._files.isdir(self._root)
        except OSError as error:
            raise InvalidRequest(f"{self._root} cannot be listed ({error}). Nothing was changed.") from error
        if not there:
            raise InvalidRequest(f"There is no folder {self._root}. Nothing was changed.")

    def entries(self, folder: str) -> list[Entry]:
        address = self._address(folder)
        with _translated():
            listed = self._files.ls(address, detail=True)
        named = ((str(one["name"]).rstrip("/").rpartition("/")[2], one) for one in listed if not _is(one, address))
        return [Entry(name, *_remote_kind(one)) for name, one in named if name]

    def follow(self, link: str) -> Link:
        raise LeadsOut(link)

    def read(self, path: str, into: IO[bytes]) -> Copied:
        with _translated(), self._files.open(self._address(path), "rb") as file:
            digest, blank = _copy(file, into)
        return Copied(digest, blank, None)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        return None

    def exists(self, path: str) -> bool:
        with _translated():
            return bool(self._files.exists(self._address(path)))

    def _address(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


@contextmanager
def _translated() -> Iterator[None]:
    """What the packages behind fsspec raise, each its own, as the one error that says a file cannot be had."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _is(listed: Mapping[str, Any], address: str) -> bool:
    """Object stores list a folder's own marker among what it holds."""
    return str(listed["name"]).strip("/") == address.strip("/")


def _remote_kind(listed: Mapping[str, Any]) -> tuple[Kind, int | None, str]:
    match listed.get("type"):
        case "directory":
            return "folder", None, ""
        case "file":
            return "file", listed.get("size"), ""
        case "link":
            return "link", None, ""
        case _:
            return "special", None, "neither a file nor a folder"


def _listed(found: "os.DirEntry[str]") -> Entry | None:
    """None: it has vanished since."""
    try:
        return _entry(found.name, found.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None


def _entry(name: str, status: os.stat_result) -> Entry:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return Entry(name, "file", status.st_size)
    if kind == stat.S_IFDIR:
        return Entry(name, "folder")
    if kind == stat.S_IFLNK:
        return Entry(name, "link")
    return Entry(name, "special", None, SPECIAL.get(kind, "neither a file nor a folder"))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _copy(file: IO[bytes], into: IO[bytes]) -> tuple[str, bool]:
    """The content's sha256, and whether it is blank."""
    digest, blank = hashlib.sha256(), True
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        blank = blank and not piece.strip(BLANK)
        into.write(piece)
    into.flush()
    return digest.hexdigest(), blank


def open_tree(url: str) -> tuple[Tree, str | None]:
    """The tree behind an address, and its folder where that is one of this machine.

    Raises InvalidRequest when the address is of an unknown kind, or needs a package that is not installed.
    """
    if "://" not in url:
        root = os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111 - as it is, undecodable bytes too
        return LocalTree(root), root
    import fsspec  # where it is needed: it is slow to import
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = fsspec.core.url_to_fs(url)  # type: ignore[no-untyped-call]
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"{url} cannot be read: {error}.".replace("..", ".")) from error
    if isinstance(files, LocalFileSystem):
        return LocalTree(root), root
    return RemoteTree(files, root), None
