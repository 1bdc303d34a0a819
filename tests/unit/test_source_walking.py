"""The walk through a folder: every entry comes to one end, nothing hangs, and what is left out is said with its reason."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from refdesk.app.sources.trees import LocalTree, RemoteTree
from refdesk.app.sources.walking import Listing, walk
from refdesk.contracts.errors import InvalidRequest


def listing(root: Path) -> Listing:
    return walk(LocalTree(str(root)))


def reasons(root: Path) -> dict[str, str]:
    return {path: passed.reason for path, passed in listing(root).skipped.items()}


def write(root: Path, *paths: str, text: str = "Text.") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


LEFT_OUT = [
    ".DS_Store", ".git/config", "~$report.docx", "Thumbs.db", "desktop.ini", "notes.md~", "#notes.md#", ".#notes.md", "a.swp",
    "a.bak", "a.tmp", ".~lock.report.odt#", "~WRL0001.tmp", "a.part", "a.crdownload", "@eaDir/a.md", "__MACOSX/._a.md",
    "node_modules/a/README.md", "$RECYCLE.BIN/a.md",
]  # fmt: skip
TAKEN = [
    "report.docx",
    "a/b/c.md",
    "tmp/notes.md",
    "bak.md",
    "Thumbs.db.md",
    "a~b.md",
    "#1 rule.md",
    "$5.md",
    "backup/a.md",
]


def test_the_default_list_leaves_out_what_programs_leave_behind(tmp_path: Path) -> None:
    """Each is skipped once, a folder as one; names that only look like it are taken."""
    write(tmp_path, *LEFT_OUT, *TAKEN)
    found = listing(tmp_path)
    assert set(found.files) == set(TAKEN)
    assert set(found.skipped) == {path.partition("/")[0] for path in LEFT_OUT}
    assert found.skipped["Thumbs.db"].reason == "ignored by the default list: Thumbs.db"
    assert found.found == len(TAKEN) + len(found.skipped)


def test_ignore_files_hold_below_their_folder_with_gits_semantics(tmp_path: Path) -> None:
    """The nearest decides, the last pattern wins, `.refdeskignore` goes before `.gitignore`, nothing returns below a folder."""
    write(
        tmp_path,
        "a.log",
        "keep.log",
        "sub/a.log",
        "sub/b.log",
        "out/a.md",
        "doc/out/a.md",
        "draft.md",
        ".github/a.md",
        "x y.md",
    )
    (tmp_path / ".gitignore").write_text("# comment\n*.log\n!keep.log\n/out/\nout/keep.md\ndraft.md\n\\\nx\\ y.md\r\n")
    (tmp_path / ".refdeskignore").write_text("!draft.md\n!.github/\n")
    (tmp_path / "sub/.gitignore").write_text("!a.log\n")
    found = listing(tmp_path)
    assert set(found.files) == {"keep.log", "sub/a.log", "doc/out/a.md", "draft.md", ".github/a.md"}
    assert found.skipped["sub/b.log"].reason == "ignored by .gitignore: *.log"
    assert found.skipped["out"].reason == "ignored by .gitignore: /out/"
    assert "out/a.md" not in found.skipped


def test_a_folder_whose_rules_cannot_be_read_is_not_taken(tmp_path: Path) -> None:
    """What was to be left out may be a secret."""
    write(tmp_path, "sub/a.md", "b.md")
    (tmp_path / "sub/.refdeskignore").write_bytes(b"#" * ((1 << 20) + 1))
    found = listing(tmp_path)
    assert set(found.files) == {"b.md"}
    assert found.failed["sub"].reason == "cannot be listed: .refdeskignore has more than 1,048,576 bytes"


@pytest.mark.skipif(sys.platform == "win32", reason="NO SPECIAL FILES: this system has none.")
def test_special_files_are_skipped_by_name_and_hang_nothing(tmp_path: Path) -> None:
    """Pipes, sockets and devices."""
    os.mkfifo(tmp_path / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            listener.bind("socket.md")
        finally:
            os.chdir(here)
        (tmp_path / "device.md").symlink_to("/dev/null")
        found = reasons(tmp_path)
    assert found == {
        "pipe.md": "a named pipe",
        "socket.md": "a socket",
        "device.md": "a link that leads out of the source",
    }


def test_links_are_followed_inside_the_source_only_and_never_in_circles(tmp_path: Path) -> None:
    """To files always, to a folder once."""
    root = tmp_path / "root"
    write(root, "real/a.md", "..data/k8s.md")
    write(tmp_path, "outside/secret.md")
    for link, target in {
        "file.md": "real/a.md",
        "k8s.md": "..data/k8s.md",
        "chain.md": "file.md",
        "latest": "real",
        "once more": "real",
        "real/up": "..",
        "real/itself": ".",
        "out": "../outside",
        "out.md": "../outside/secret.md",
        "nowhere.md": "gone.md",
        "circle": "circle",
        "absolute": str(root / "real"),
    }.items():
        (root / link).symlink_to(target)
    found = listing(root)
    assert set(found.files) == {"real/a.md", "file.md", "k8s.md", "chain.md", "absolute/a.md"}
    assert {path: passed.reason for path, passed in found.skipped.items()} == {
        "..data": "ignored by the default list: .*",
        "absolute/itself": "a link to a folder that it stands in",
        "absolute/up": "a link to a folder that it stands in",
        "latest": "another link to real, whose files are taken there",
        "once more": "another link to real, whose files are taken there",
        "real/up": "a link to a folder that it stands in",
        "real/itself": "a link to a folder that it stands in",
        "out": "a link that leads out of the source",
        "out.md": "a link that leads out of the source",
        "nowhere.md": "a link that leads nowhere",
        "circle": "a link that cannot be followed: Too many levels of symbolic links",
    }
    assert {path for path, passed in found.skipped.items() if passed.keeps} == {"nowhere.md", "circle"}


def test_names_that_are_no_text_are_listed_like_any_other(tmp_path: Path) -> None:
    """Undecodable bytes, line feeds, and ignore patterns beside them."""
    names = [b"latin1-\xe9t\xe9.md", b"new\nline.md", b"Icon\r", b"blank ", b"caf\xe9.log"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("Text.")
    (tmp_path / ".gitignore").write_text("*.log\n")
    found = listing(tmp_path)
    assert {os.fsencode(path) for path in found.files} == set(names[:-1])
    assert {os.fsencode(path) for path in found.skipped} == {b"caf\xe9.log", b".gitignore"}


def test_a_folder_with_nothing_but_what_is_left_out_counts_as_empty(tmp_path: Path) -> None:
    """As the mount point of a disk that is not there does."""
    write(tmp_path, "full/a.md", "left/.DS_Store", "ignored/a.log")
    (tmp_path / "bare").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert listing(tmp_path).empty == {"left", "bare"}


def test_a_folder_beyond_the_depth_is_said(tmp_path: Path) -> None:
    """And ends the walk there."""
    write(tmp_path, "/".join(["d"] * 70 + ["a.md"]))
    found = listing(tmp_path)
    assert not found.files
    assert [passed.reason for passed in found.failed.values()] == ["is more than 64 folders deep"]


def test_a_source_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    """In one sentence."""
    with pytest.raises(InvalidRequest, match="There is no folder"):
        listing(tmp_path / "missing")


class Remembering(MemoryFileSystem):
    """Shows what it has listed once, as those behind a network do."""

    cachable = False
    listed: dict[str, Any]

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path not in self.listed:
            self.listed[path] = super().ls(path, detail, **options)
        return self.listed[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed = {}


def test_a_remote_folder_is_listed_anew_by_each_walk() -> None:
    """A sync that watches it would see nothing new otherwise."""
    files = Remembering()
    files.pipe({"/walked/a.md": b"Text."})
    tree = RemoteTree(files, "/walked")
    assert set(walk(tree).files) == {"a.md"}
    files.pipe({"/walked/b.md": b"Text."})
    assert walk(tree).files == {"a.md": 5, "b.md": 5}
    files.rm("/walked", recursive=True)


def test_a_file_is_read_without_waiting_when_it_has_become_a_pipe(tmp_path: Path) -> None:
    """Between the listing and the reading."""
    os.mkfifo(tmp_path / "a.md")
    with (tmp_path / "copy").open("wb") as copy, pytest.raises(FileNotFoundError):
        LocalTree(str(tmp_path)).read("a.md", copy)
