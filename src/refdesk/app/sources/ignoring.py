"""What of a folder is left out: a default list, then `.gitignore` and `.refdeskignore` of each folder, with git's semantics.

The nearest folder decides; in one folder `.refdeskignore` goes before `.gitignore`; the default list comes last, so that
either can take something back in (`!.github/`). As in git, nothing comes back below a folder that is left out.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from pathspec import GitIgnoreSpec

IGNORE_FILES = (".refdeskignore", ".gitignore")
"""The stronger one first."""

DEFAULT_PATTERNS = (
    ".*",  # hidden: .git, .DS_Store, .svn, editors' swap files, LibreOffice's locks
    "~$*",  # Microsoft Office, while a document is open
    "~WRL*.tmp",
    "*~",  # editors' backups
    r"\#*#",
    "*.bak",
    "*.swp",
    "*.swo",
    "*.tmp",
    "*.temp",
    "*.part",  # downloads under way
    "*.crdownload",
    "*.download",
    "Thumbs.db",  # Windows
    "ehthumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN/",
    "System Volume Information/",
    "__MACOSX/",  # macOS, in unpacked archives
    "@eaDir/",  # Synology
    "lost+found/",
    "node_modules/",
    "__pycache__/",
)
"""In the syntax of `.gitignore`; documented in docs/howto/sync.md."""


class Ignored(msgspec.Struct, frozen=True):
    """Which rule leaves something out: its pattern, and the file that it stands in ("" for the default list)."""

    pattern: str
    file: str

    def __str__(self) -> str:
        return f"ignored by {self.file or 'the default list'}: {self.pattern}"


class _RuleFile(msgspec.Struct, frozen=True):
    """One file of patterns, for what is below its folder ("" for the source itself, else with a slash at the end)."""

    folder: str
    file: str
    patterns: Sequence[str]
    spec: GitIgnoreSpec

    def decides(self, path: str) -> Ignored | bool:
        """Whether it leaves the path out (Ignored), takes it in (True), or says nothing of it (False)."""
        verdict = self.spec.check_file(path.removeprefix(self.folder))
        if verdict.include is None or verdict.index is None:
            return False
        return Ignored(self.patterns[verdict.index], self.file) if verdict.include else True


class Rules:
    """The rules that hold in one folder."""

    def __init__(self, files: tuple[_RuleFile, ...]) -> None:
        self._files = files  # the strongest first

    def within(self, folder: str, texts: Mapping[str, bytes]) -> "Rules":
        """These and the folder's own; ``texts``: its ignore files."""
        own = [_rule_file(folder, name, texts[name]) for name in IGNORE_FILES if name in texts]
        return Rules((*own, *self._files)) if own else self

    def ignored(self, path: str, *, folder: bool = False) -> Ignored | None:
        """The rule that leaves a path out, None when it is taken."""
        named = f"{path}/" if folder else path
        for file in self._files:
            decision = file.decides(named)
            if decision:
                return decision if isinstance(decision, Ignored) else None
        return None


def default_rules() -> Rules:
    return Rules((_RuleFile("", "", DEFAULT_PATTERNS, GitIgnoreSpec.from_lines(DEFAULT_PATTERNS)),))


def _rule_file(folder: str, name: str, text: bytes) -> _RuleFile:
    below = f"{folder}/" if folder else ""
    patterns = list(_valid(text.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").split("\n")))
    return _RuleFile(below, f"{below}{name}", patterns, GitIgnoreSpec.from_lines(patterns))


def _valid(lines: Sequence[str]) -> Iterator[str]:
    """Without the lines that are no pattern, which git passes over, too."""
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        yield line
