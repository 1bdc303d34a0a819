"""How the suite is given to several workers."""

from tests.support.distribution import place_of, unit_of

SPREAD = [
    "tests/unit/test_tokens.py::test_one",
    "tests/integration/sign_in/test_sign_in.py::TestIt::test_two[a::b]",
    "tests/chaos/test_kills.py::test_three",
    "tests/system/test_eval.py::test_four",
    "tests/browser/test_page.py::test_five",
]


def test_a_file_is_a_unit_unless_its_folder_shares_a_desk() -> None:
    """Whatever a test's parameters look like."""
    assert [unit_of(nodeid) for nodeid in SPREAD] == [
        "tests/unit/test_tokens.py",
        "tests/integration/sign_in/test_sign_in.py",
        "tests/chaos/test_kills.py",
        "tests/system",
        "tests/browser",
    ]


def test_what_takes_longest_comes_first() -> None:
    """The rest keeps its order."""
    assert [nodeid.split("/")[1] for nodeid in sorted(SPREAD, key=place_of)] == [
        "browser",
        "system",
        "chaos",
        "unit",
        "integration",
    ]
