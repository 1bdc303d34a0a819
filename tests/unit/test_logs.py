"""Logs: for people on a terminal, as JSON for programs, with what is known of the request."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from refdesk.outside import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged; the handlers of before come back."""
    root, ours = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield ours
    root.handlers = handlers
    root.setLevel(level)


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_of_a_request_says_whose_it_is(stream: io.StringIO) -> None:
    """And the end of the request how it went, and how long it took."""
    logs.configure(form="auto", stream=stream)
    with logs.in_request(logs.InRequest("abc", "POST /api/answers")) as request:
        request.principal_id = "ann"
        logging.getLogger("any").info("two\nlines of %s", "text")
        request.outcome = "503"
    logging.getLogger("any").warning("outside")
    inside, ended, outside = records(stream)
    facts = {"request_id": "abc", "principal_id": "ann", "route": "POST /api/answers"}
    assert facts.items() <= inside.items() and facts.items() <= ended.items()
    assert (inside["message"], inside["level"], inside["logger"]) == ("two\nlines of text", "info", "any")
    assert (ended["outcome"], ended["duration_s"] >= 0) == ("503", True)
    assert "request_id" not in outside


@pytest.mark.parametrize(("level", "count"), [("info", 0), ("debug", 1)])
def test_a_request_that_went_well_is_logged_at_debug_alone(stream: io.StringIO, level: logs.Level, count: int) -> None:
    """A busy desk has many."""
    logs.configure(form="json", level=level, stream=stream)
    with logs.in_request(logs.InRequest("abc", "GET /")) as request:
        request.outcome = "200"
    assert len(records(stream)) == count


def test_people_get_lines(stream: io.StringIO) -> None:
    """Where they ask for them, or on a terminal."""
    logs.configure(form="text", stream=stream)
    logging.getLogger("any").info("hello")
    assert stream.getvalue().endswith("INFO any: hello\n")


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "ä", 'a"b\n'])
def test_an_id_that_is_no_plain_word_is_not_taken(given: str | None) -> None:
    """It would stand in logs and headers."""
    made = logs.request_id(given)
    assert made != given and made.isalnum()


def test_a_callers_own_id_is_kept() -> None:
    """So that it can be followed through several services."""
    assert logs.request_id("req-1.A_b") == "req-1.A_b"
