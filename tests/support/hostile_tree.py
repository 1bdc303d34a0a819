"""A folder with everything that people's disks hold, and what a sync must make of each."""

import contextlib
import hashlib
import os
import socket
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

NFD = unicodedata.normalize("NFD", "Übergabe Café")


@dataclass
class HostileTree:
    """``taken``: the sha256 of each file that must become a document. ``ends``: how many entries come to each other end."""

    root: Path
    taken: dict[bytes, str] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> int:
        return len(self.taken) + self.ends.total()

    def take(self, name: bytes, text: str) -> None:
        """A file, at its path below the root, that must be taken."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.taken[name] = hashlib.sha256(text.encode()).hexdigest()

    def put(self, name: str, content: bytes, end: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.ends[end] += 1

    def path(self, name: bytes) -> Path:
        return self.root / os.fsdecode(name)


def build(root: Path, *, count: int) -> HostileTree:
    """About ``count`` entries: rounds of every kind, each in a folder of its own, until there are so many."""
    tree = HostileTree(root)
    root.mkdir()
    (root / ".gitignore").write_text("*.log\n/build/\n")
    (root / "folder with rules").mkdir()
    (root / "folder with rules/.refdeskignore").write_text("*\n!*.md\n")
    tree.ends["skipped"] += 2  # the files of rules are hidden
    tree.put("folder with rules/a.txt", b"Not this.", "skipped")
    tree.take(b"folder with rules/a.md", "This.")
    tree.put("build/a.md", b"Made, not written.", "skipped")
    tree.put("locked/.gitignore", b"#" * ((1 << 20) + 1), "failed")  # what it leaves out cannot be known
    (root / "locked/a.md").write_text("Unseen.")
    number = 0
    while tree.found < count:
        for kind in KINDS:
            kind(tree, f"{number:04}", f"# Round {number}\n\nText of {kind.__name__}, {number}.")
        number += 1
    return tree


def _ordinary(tree: HostileTree, folder: str, text: str) -> None:
    for name in _ordinary_names():
        tree.take(f"{folder}/".encode() + name, f"{text} {name!r}")


def _ordinary_names() -> Iterator[bytes]:
    yield from (f"plain {n}.md".encode() for n in range(20))
    yield from (f"deep/{'d/' * n}page {n}.txt".encode() for n in range(10))


def _odd_names(tree: HostileTree, folder: str, text: str) -> None:
    names = [
        b"latin1-\xe9t\xe9.md", b"koi8-\xcd\xc9\xd2.md", b"new\nline.md", b"carriage\r.md", b"tab\t.md", b"\x1b[31mred.md",
        b"blank .md ", b"100%.md", b"100%25.md", b'quote".md', b"back\\slash.md", b"a*b?[c].md", b"-dash.md", b"two::colons.md",
        "\u202eright to left.md".encode(), "\u200b.md".encode(), "😀.md".encode(), "漢字.md".encode(), b"x" * 252 + b".md",
        "ü".encode() * 100 + b".md",
    ]  # fmt: skip
    for name in names:
        tree.take(f"{folder}/odd/".encode() + name, f"{text} {name!r}")


def _twins(tree: HostileTree, folder: str, text: str) -> None:
    names = [NFD, f"both {NFD}", unicodedata.normalize("NFC", f"both {NFD}"), "Case", "case", "CASE"]
    for name in names:
        tree.take(f"{folder}/twins/{name}.md".encode(), f"{text} {name.encode()!r}")


def _left_out(tree: HostileTree, folder: str, text: str) -> None:
    names = [
        "~$report.docx",
        "Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "notes.md~",
        "#notes.md#",
        "a.swp",
        "a.bak",
        "a.log",
    ]
    for name in [*names, ".git/config", "node_modules/a.md"]:
        tree.put(f"{folder}/left out/{name}", b"Not a document.", "skipped")
    tree.put(f"{folder}/empty.md", b"", "skipped")
    tree.put(f"{folder}/blank.md", b"\xef\xbb\xbf \n\t\r\n", "skipped")
    tree.put(f"{folder}/program.bin", bytes(range(256)) * 4, "failed")
    tree.put(f"{folder}/{'long name ' * 24}/{'long name ' * 24}/{'long name ' * 24}.md", text.encode(), "failed")


def _special(tree: HostileTree, folder: str, text: str) -> None:
    special = tree.root / folder / "special"
    special.mkdir()
    os.mkfifo(special / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(special):  # a socket's address is short
        listener.bind("socket.md")
    for link, target in {
        "out": "/etc",
        "out.md": "/etc/hosts",
        "nowhere.md": "gone",
        "up": "..",
        "circle": "circle",
    }.items():
        (special / link).symlink_to(target)
    tree.ends["skipped"] += 7
    tree.take(f"{folder}/special/target.md".encode(), text)
    (special / "link.md").symlink_to("target.md")
    tree.taken[f"{folder}/special/link.md".encode()] = tree.taken[f"{folder}/special/target.md".encode()]


KINDS: tuple[Callable[[HostileTree, str, str], None], ...] = (_ordinary, _odd_names, _twins, _left_out, _special)
