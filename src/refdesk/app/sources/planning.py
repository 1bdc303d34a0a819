"""What a sync is to do: which document each file stands for, and what becomes of the documents without a file.

Nothing is deleted because it could not be seen. A document stays when its folder cannot be listed, when that holds nothing all of
a sudden (as the mount point of a disk that is not there), or when a link to it leads nowhere. A sync that would delete more
than a share of all its documents is refused whole.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from refdesk.app.sources.names import keys_of, path_of
from refdesk.app.sources.walking import Listing, Passed
from refdesk.contracts.errors import InvalidRequest

EMPTY = "it is empty"

Documents = Mapping[str, Any]
"""What the Document Service has of a source, by key."""


class DeletionLimits(msgspec.Struct, frozen=True):
    """``share_max``: the share of a source's documents that one sync may delete. ``empty``: whether folders may be empty."""

    share_max: float = 0.5
    empty: bool = False

    def most(self, documents: int) -> int:
        """How many of a source's documents one sync may delete."""
        return int(self.share_max * documents)


class Gone(msgspec.Struct, frozen=True):
    """A document without a file. ``missing``: nothing was at its path, where one looks once more before it is deleted."""

    key: str
    document: Any
    reason: str
    missing: bool = False


class Plan(msgspec.Struct):
    files: dict[str, str]
    """The key of each file to compare."""
    emptied: list[str]
    """Files without content."""
    deleted: list[Gone]
    kept: list[Gone]


def plan(listing: Listing, documents: Documents, *, limits: DeletionLimits, holds: Callable[[str, str], bool]) -> Plan:
    """What is to be done, whatever it deletes: `require_few` says whether that is too much."""
    keys = keys_of(sorted(listing.files), documents.keys(), holds)
    emptied = [path for path in keys if listing.files[path] == 0]
    gone = [Gone(keys[path], documents[keys[path]], EMPTY) for path in emptied if keys[path] in documents]
    kept: list[Gone] = []
    fates = _Fates(listing, empty=limits.empty)
    for key in sorted(documents.keys() - set(keys.values())):
        fate = fates.of(path_of(key))
        passed = Gone(key, documents[key], fate.reason if fate else "its file is gone", missing=fate is None)
        (kept if fate is not None and fate.keeps else gone).append(passed)
    return Plan({path: key for path, key in keys.items() if path not in set(emptied)}, emptied, gone, kept)


def require_few(planned: Plan, listing: Listing, documents: Documents, *, limits: DeletionLimits) -> None:
    """Raises InvalidRequest where the source holds nothing, or more would be deleted than the limits allow."""
    gone, emptied = len(planned.deleted), "" in listing.empty
    if documents and emptied and not limits.empty:
        raise InvalidRequest(
            f"The source is empty and {len(documents)} documents came from it. If they are to be deleted, say --allow-empty."
        )
    if gone > limits.most(len(documents)) and not (limits.empty and emptied):
        raise InvalidRequest(
            f"This sync would delete {gone:,} of the {len(documents):,} documents that came from the source; the limit is a "
            f"share of {limits.share_max:g} (REFDESK_SYNC_DELETED_SHARE_MAX). Nothing was changed. Look with --dry-run; if it is "
            "meant, say --allow-deletions.",
            limit=str(limits.share_max),
            actual=gone,
        )


class _Fates:
    """What the walk says of paths at which it has taken nothing."""

    def __init__(self, listing: Listing, *, empty: bool) -> None:
        self._passed = {_form(path): passed for path, passed in (listing.skipped | listing.failed).items()}
        if not empty:
            reason = "its folder is empty all of a sudden; to delete what it held, say --allow-empty"
            self._passed |= {_form(path): Passed(path, reason, keeps=True) for path in listing.empty}

    def of(self, path: str) -> Passed | None:
        """Of the path, or of the nearest folder above it; None: there is nothing there."""
        return next((self._passed[one] for one in _upwards(_form(path)) if one in self._passed), None)


def _form(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _upwards(path: str) -> Iterator[str]:
    """The path, the folders above it, and the root."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
