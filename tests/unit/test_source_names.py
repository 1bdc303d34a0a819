"""Names of files as external ids: reversible, one for each file, and one for the forms that a file system takes for the same."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.app.sources.names import exact_key_of, key_of, keys_of, path_of, prefix_of, shown_name
from refdesk.documents.changes import Limits, external_id, filename

NFC, NFD = "Über.md", unicodedata.normalize("NFD", "Über.md")
NAMES = [
    os.fsdecode(b"latin1-\xe9t\xe9.md"),
    "two\nlines.md",
    "Icon\r",
    "tab\tand\x1b[31mred.md",
    "blank at the end.md ",
    "no-break\u00a0",
    "100%.txt",
    "100%25.txt",
    "line\u2028separator.md",
    "a\x0a\u0301.md",  # a mark after what is escaped
    "back\\slash.md",
    'quote".md',
    "a*b?[c].md",
    "::.md",
    "~",
    "😀.md",
]
KINDS_OF_BYTES = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_an_external_id_and_comes_back(name: str) -> None:
    """As the service takes it, and the same again in its normal form."""
    key = key_of(name)
    assert external_id(f"p/{key}", Limits()) == f"p/{key}"
    assert path_of(key) == unicodedata.normalize("NFC", name)


@given(KINDS_OF_BYTES)
def test_every_name_has_keys_that_lead_back(raw: bytes) -> None:
    """Whatever bytes it has: by the exact key to the very name, by the readable one to its normal form."""
    name = os.fsdecode(raw)
    assert path_of(exact_key_of(name)) == name
    assert unicodedata.normalize("NFC", path_of(key_of(name))) == unicodedata.normalize("NFC", name)
    assert external_id(f"p/{key_of(name)}", Limits()) == f"p/{key_of(name)}"
    assert external_id(f"p/{exact_key_of(name)}", Limits()) == f"p/{exact_key_of(name)}"


@given(st.sets(KINDS_OF_BYTES, max_size=6), st.sets(KINDS_OF_BYTES, max_size=3))
def test_no_two_files_have_one_key(raw: set[bytes], before: set[bytes]) -> None:
    """Twins in the same folder included, and whatever documents there are already."""
    paths = [os.fsdecode(name) for name in raw]
    keys = keys_of(paths, {key_of(os.fsdecode(name)) for name in before}, lambda path, key: False)
    assert set(keys) == set(paths) and len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("name", [NFC, NFD])
def test_both_forms_of_a_name_have_one_readable_key(name: str) -> None:
    """The composed one."""
    assert keys_of([name], set(), _never) == {name: NFC}


def test_a_file_saved_in_the_other_form_keeps_its_document() -> None:
    """Whichever form it had before."""
    assert keys_of([NFC], {NFC}, _never) == {NFC: NFC}
    assert keys_of([NFD], {NFC}, _never) == {NFD: NFC}
    assert keys_of([NFC], {exact_key_of(NFD)}, _never) == {NFC: exact_key_of(NFD)}


def test_twins_are_two_documents_and_keep_them() -> None:
    """Also when one of them goes, or comes later: the document stays with the content that it has."""
    assert keys_of([NFC, NFD], set(), _never) == {NFC: NFC, NFD: exact_key_of(NFD)}
    assert keys_of([NFD], {NFC, exact_key_of(NFD)}, _never) == {NFD: exact_key_of(NFD)}
    assert keys_of([NFC], {NFC, exact_key_of(NFD)}, _never) == {NFC: NFC}
    later = keys_of([NFC, NFD], {NFC}, lambda path, key: path == NFD)
    assert later == {NFD: NFC, NFC: exact_key_of(NFC)}
    assert keys_of([NFC, NFD], {NFC, exact_key_of(NFC)}, _never) == later


def test_a_name_in_another_case_keeps_its_document_unless_both_are_there() -> None:
    """Some file systems take them for one name."""
    assert keys_of(["README.md"], {"readme.md"}, _never) == {"README.md": "readme.md"}
    assert keys_of(["README.md", "readme.md"], {"readme.md"}, _never) == {
        "README.md": "README.md",
        "readme.md": "readme.md",
    }


def test_a_document_under_the_name_of_an_earlier_release_stays() -> None:
    """A per cent sign was kept as it is."""
    assert keys_of(["100%.txt"], {"100%.txt"}, _never) == {"100%.txt": "100%.txt"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"latin1-\xe9t\xe9.md"), "latin1-été.md"),
        ("two\nlines.md", "two lines.md"),
        ("Icon\r", "Icon"),
        (NFD, NFC),
        ("back\\slash.md", "back_slash.md"),
        ("\n", "%0A"),
        ("\u200b", "%E2%80%8B"),
        ("...", "..."),
    ],
)
def test_a_name_is_shown_readably_and_the_service_takes_it(name: str, shown: str) -> None:
    """Never empty: a document has a title."""
    assert shown_name(name) == shown
    assert filename(shown, Limits()) or shown == "..."


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("handbook/", "handbook/"),
        (NFD, f"{NFC}/"),
        ("github://org:repo@main/a%20b", "github://org:repo@main/a%20b/"),
        (os.fsdecode(b"file://host/d\xe9p\xf4t"), "file://host/d%E9p%F4t/"),
    ],
)
def test_a_sources_name_begins_its_external_ids(name: str, prefix: str) -> None:
    """As the service keeps it."""
    assert prefix_of(name) == prefix
    assert external_id(f"{prefix}a", Limits()) == f"{prefix}a"


def _never(path: str, key: str) -> bool:
    return False
