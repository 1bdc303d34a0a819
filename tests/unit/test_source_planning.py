"""What a sync may delete: only documents whose files were seen to be absent, and never too many at once."""

import unicodedata
from typing import Any

import pytest

from refdesk.app.sources.planning import DeletionLimits, Plan, plan, require_few
from refdesk.app.sources.walking import Listing, Passed
from refdesk.contracts.errors import InvalidRequest

ANY = DeletionLimits(share_max=1.0)


def planned(listing: Listing, *keys: str, limits: DeletionLimits = ANY) -> Plan:
    documents: dict[str, Any] = {key: {"id": key} for key in keys}
    found = plan(listing, documents, limits=limits, holds=lambda path, key: False)
    require_few(found, listing, documents, limits=limits)
    return found


def ends(found: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Reasons by key: of what is deleted, of what is kept."""
    return {gone.key: gone.reason for gone in found.deleted}, {gone.key: gone.reason for gone in found.kept}


def skipped(path: str, reason: str, *, keeps: bool = False) -> dict[str, Passed]:
    return {path: Passed(path, reason, keeps)}


def test_a_document_whose_file_is_absent_is_deleted() -> None:
    """And looked for once more before that."""
    found = planned(Listing(files={"a.md": 1}), "a.md", "b.md")
    assert ends(found) == ({"b.md": "its file is gone"}, {})
    assert found.deleted[0].missing and found.files == {"a.md": "a.md"}


@pytest.mark.parametrize("folder", ["sub", "sub/deep"])
def test_what_a_folder_held_that_cannot_be_listed_is_kept(folder: str) -> None:
    """At any depth below it."""
    failed = {folder: Passed(folder, "cannot be listed", keeps=True)}
    found = planned(Listing(files={"a.md": 1}, failed=failed), "a.md", "sub/deep/b.md", "subs/c.md")
    assert ends(found) == ({"subs/c.md": "its file is gone"}, {"sub/deep/b.md": "cannot be listed"})


def test_what_a_folder_held_that_is_empty_all_of_a_sudden_is_kept_unless_that_is_meant() -> None:
    """A folder that is gone itself is another matter."""
    listing = Listing(files={"a.md": 1}, empty={"mount"})
    deleted, kept = ends(planned(listing, "a.md", "mount/deep/b.md", "removed/c.md"))
    assert set(deleted) == {"removed/c.md"} and "--allow-empty" in kept["mount/deep/b.md"]
    deleted, kept = ends(planned(listing, "a.md", "mount/deep/b.md", limits=DeletionLimits(share_max=1.0, empty=True)))
    assert (set(deleted), kept) == ({"mount/deep/b.md"}, {})


def test_what_is_ignored_from_now_on_is_deleted_with_the_rule_as_reason() -> None:
    """A file, or all below a folder; but not where a link leads nowhere."""
    passed = skipped("a.log", "ignored by .gitignore: *.log") | skipped("out", "ignored by .gitignore: out/")
    listing = Listing(files={"a.md": 1}, skipped=passed | skipped("b.md", "a link that leads nowhere", keeps=True))
    deleted, kept = ends(planned(listing, "a.md", "a.log", "out/deep/x.md", "b.md"))
    assert deleted == {"a.log": "ignored by .gitignore: *.log", "out/deep/x.md": "ignored by .gitignore: out/"}
    assert kept == {"b.md": "a link that leads nowhere"}


def test_an_emptied_file_loses_its_document() -> None:
    """An empty one that never had any is only skipped."""
    found = planned(Listing(files={"a.md": 0, "b.md": 0, "c.md": None}), "a.md", "c.md")
    assert ends(found) == ({"a.md": "it is empty"}, {})
    assert found.emptied == ["a.md", "b.md"] and found.files == {"c.md": "c.md"}


def test_a_folder_in_the_other_form_is_the_same_folder() -> None:
    """Its documents are not gone because its name is written otherwise."""
    name = "Übersicht"
    listing = Listing(files={"a.md": 1}, empty={unicodedata.normalize("NFD", name)})
    assert set(ends(planned(listing, "a.md", f"{name}/b.md"))[1]) == {f"{name}/b.md"}


@pytest.mark.parametrize(("gone", "refused"), [(5, False), (6, True)])
def test_more_than_a_share_is_refused_before_anything_is_done(gone: int, refused: bool) -> None:
    """Ten documents, a limit of a half: five may go, six may not."""
    listing = Listing(files={f"{number}.md": 1 for number in range(10 - gone)})
    keys = [f"{number}.md" for number in range(10)]
    if not refused:
        assert len(planned(listing, *keys, limits=DeletionLimits(share_max=0.5)).deleted) == gone
        return
    with pytest.raises(InvalidRequest, match=r"would delete 6 of the 10 documents.*--allow-deletions"):
        planned(listing, *keys, limits=DeletionLimits(share_max=0.5))


def test_an_empty_source_is_refused_unless_that_is_meant() -> None:
    """Whatever share is allowed."""
    with pytest.raises(InvalidRequest, match="--allow-empty"):
        planned(Listing(empty={""}), "a.md")
    assert len(planned(Listing(empty={""}), "a.md", limits=DeletionLimits(share_max=0.1, empty=True)).deleted) == 1
