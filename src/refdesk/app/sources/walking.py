"""The walk through a source: every entry is taken, skipped with a reason, or failed with a reason.

    folder ── its ignore files ──▶ rules ── each entry ──▶ ignored     skipped
                                                           file        taken
                                                           folder      walked
                                                           link        followed inside the source, else skipped
                                                           special     skipped
    a folder that cannot be listed                         failed; nothing is known of what it holds

Links are followed where they end inside the source: those to files always, those to folders once for each folder, and never to
one that they stand in. What the walk does *not* do: read any file but those that hold ignore rules.
"""

import io
from collections.abc import Sequence

import msgspec

from refdesk.app.sources.ignoring import IGNORE_FILES, Rules, default_rules
from refdesk.app.sources.trees import Entry, LeadsOut, Tree
from refdesk.contracts.errors import InvalidRequest

DEPTH_MAX = 64
"""Folders within folders."""
IGNORE_BYTES_MAX = 1 << 20
"""Of a file with ignore rules."""


class Passed(msgspec.Struct, frozen=True):
    """Something that is not taken. ``keeps``: whether documents of it, and of what is below it, stay all the same."""

    path: str
    reason: str
    keeps: bool = False


class Listing(msgspec.Struct):
    """What a source holds: each entry that is no walked folder stands in exactly one of the first three."""

    files: dict[str, int | None] = msgspec.field(default_factory=dict)
    """Those to take, with their size where the source says it."""
    skipped: dict[str, Passed] = msgspec.field(default_factory=dict)
    failed: dict[str, Passed] = msgspec.field(default_factory=dict)
    empty: set[str] = msgspec.field(default_factory=set)
    """Folders that hold nothing now, or only what the default list leaves out."""

    @property
    def found(self) -> int:
        return len(self.files) + len(self.skipped) + len(self.failed)


def walk(tree: Tree) -> Listing:
    """What the source holds now. Raises InvalidRequest when its root cannot be listed."""
    tree.require()
    listing = Listing()
    _Walk(tree, listing).folder("", default_rules(), above=("",))
    if "" in listing.failed:
        raise InvalidRequest(f"The source {listing.failed[''].reason}. Nothing was changed.")
    return listing


class _Walk:
    def __init__(self, tree: Tree, listing: Listing) -> None:
        self._tree = tree
        self._listing = listing
        self._defaults = default_rules()
        self._linked: set[str] = set()
        """Folders that were entered by a link."""

    def folder(self, path: str, rules: Rules, above: tuple[str, ...]) -> None:
        """``above``: where this folder and those that it stands in really are."""
        if len(above) > DEPTH_MAX:
            self._fail(path, f"is more than {DEPTH_MAX} folders deep")
            return
        try:
            entries = self._tree.entries(path)
            rules = rules.within(path, self._ignore_files(path, entries))
        except OSError as error:
            self._fail(path, f"cannot be listed: {error.strerror or error}")
            return
        if all(self._defaults.ignored(entry.name, folder=entry.kind == "folder") for entry in entries):
            self._listing.empty.add(path)
        for entry in sorted(entries, key=lambda entry: entry.name):
            self._entry(_joined(path, entry.name), entry, rules, above)

    def _ignore_files(self, folder: str, entries: Sequence[Entry]) -> dict[str, bytes]:
        """Raises OSError: without its rules, nothing of a folder may be taken."""
        texts = {}
        for entry in entries:
            if entry.name in IGNORE_FILES and entry.kind == "file":
                if (entry.size_bytes or 0) > IGNORE_BYTES_MAX:
                    raise OSError(f"{entry.name} has more than {IGNORE_BYTES_MAX:,} bytes")
                text = io.BytesIO()
                self._tree.read(_joined(folder, entry.name), text)
                texts[entry.name] = text.getvalue()
        return texts

    def _entry(self, path: str, entry: Entry, rules: Rules, above: tuple[str, ...]) -> None:
        ignored = rules.ignored(path, folder=entry.kind == "folder")
        if ignored is not None:
            self._skip(path, str(ignored))
        elif entry.kind == "file":
            self._listing.files[path] = entry.size_bytes
        elif entry.kind == "folder":
            self.folder(path, rules, (*above, _joined(above[-1], entry.name)))
        elif entry.kind == "link":
            self._link(path, rules, above)
        else:
            self._skip(path, entry.what)

    def _link(self, path: str, rules: Rules, above: tuple[str, ...]) -> None:
        try:
            link = self._tree.follow(path)
        except LeadsOut:
            self._skip(path, "a link that leads out of the source")
        except (FileNotFoundError, NotADirectoryError):  # perhaps to a disk that is not there at the moment
            self._skip(path, "a link that leads nowhere", keeps=True)
        except OSError as error:
            self._skip(path, f"a link that cannot be followed: {error.strerror or error}", keeps=True)
        else:
            if link.entry.kind != "folder":
                self._entry(path, link.entry, rules, above)
            elif link.target in above:
                self._skip(path, "a link to a folder that it stands in")
            elif link.target in self._linked:
                self._skip(path, f"another link to {link.target}, whose files are taken there")
            elif (ignored := rules.ignored(path, folder=True)) is not None:
                self._skip(path, str(ignored))
            else:
                self._linked.add(link.target)
                self.folder(path, rules, (*above, link.target))

    def _skip(self, path: str, reason: str, *, keeps: bool = False) -> None:
        self._listing.skipped[path] = Passed(path, reason, keeps)

    def _fail(self, path: str, reason: str) -> None:
        self._listing.failed[path] = Passed(path, reason, keeps=True)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
