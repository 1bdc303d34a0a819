"""What comes in as text: numbers of any length, NUL, and JSON that is none."""

from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from refdesk.contracts.documents import ID_CHARACTERS_MAX, FreshnessToken
from refdesk.contracts.errors import InvalidRequest, MalformedJson, NotFound
from refdesk.contracts.texts import NUMBER_MAX, Text, whole_number
from refdesk.web.bodies import decode_json
from refdesk.web.endpoints import Parameter, whole

LIMIT = Parameter(name="limit", kind=whole(1, 200), default=50, meaning="")
NAME = Parameter(name="name", where="path", meaning="")
DIGITS = 5000


class Asked(msgspec.Struct):
    name: Text = ""
    anything: Any = None


def request(query: str = "", *, name: str = "") -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": [], "path_params": {"name": name}})


@pytest.mark.parametrize("text", ["0", "201", "-1", "1.5", "x", "٣", "1e4", "9" * DIGITS, "0" * DIGITS, "%00"])
def test_a_number_that_is_none_is_refused_by_name(text: str) -> None:
    """However long it is."""
    with pytest.raises(InvalidRequest, match=r"limit=.{1,90} is not valid") as refused:
        LIMIT.of(request(f"limit={text}"))
    assert refused.value.details == {"field": "limit"}


def test_what_is_absent_or_empty_is_the_default() -> None:
    """Forms on web pages send empty fields."""
    assert [LIMIT.of(request(query)) for query in ("", "limit=", "other=1", "limit=7")] == [50, 50, 50, 7]


@pytest.mark.parametrize("name", ["\0", "a\0b"])
def test_what_no_name_can_be_names_nothing(name: str) -> None:
    """404, as for any other id that is not there."""
    with pytest.raises(NotFound):
        NAME.of(request(name=name))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        (str(NUMBER_MAX), NUMBER_MAX),
        (str(NUMBER_MAX + 1), None),
        ("9" * DIGITS, None),
        ("0" * DIGITS + "5", 5),
        ("", None),
        ("-1", None),
        ("٣", None),
    ],
)
def test_a_whole_number_is_read_however_long_its_digits(text: str, number: int | None) -> None:
    """Python refuses thousands of digits with an error."""
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["x@" + "9" * DIGITS, "x@0", "@1", "x", "\0@1", f"x@{NUMBER_MAX + 1}", "x@-1", ""])
def test_a_freshness_token_that_is_none_is_refused(text: str) -> None:
    """Whatever its digits are."""
    with pytest.raises(InvalidRequest, match="not a freshness token"):
        FreshnessToken.parse(text)


def test_the_id_of_a_freshness_token_is_no_longer_than_any_id() -> None:
    """It is sent on to the Document Service, whose bodies are bounded."""
    longest = "a" * ID_CHARACTERS_MAX
    assert FreshnessToken.parse(f"{longest}@1").document_id == longest
    with pytest.raises(InvalidRequest, match="1,048,548 characters") as refused:
        FreshnessToken.parse("a" * 1_048_548 + "@1")
    assert refused.value.details == {"limit": ID_CHARACTERS_MAX, "actual": 1_048_548}
    assert len(refused.value.message) < 400


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"anything":' * 100_000])
def test_json_that_is_nested_too_deeply_is_refused(body: bytes) -> None:
    """Where anything may stand, too."""
    with pytest.raises(InvalidRequest):
        decode_json(body, Asked)
    with pytest.raises(MalformedJson, match="nested too deeply"):
        decode_json(b'{"anything":' + body, Asked)


def test_a_text_with_nul_is_refused_in_plain_words() -> None:
    """PostgreSQL cannot hold it."""
    with pytest.raises(InvalidRequest, match=r"Expected `str` without NUL characters - at `\$\.name`"):
        decode_json(b'{"name": "a\\u0000b"}', Asked)
