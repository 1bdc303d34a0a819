"""What `refdesk ask` shows below an answer."""

from typing import Any

import pytest

from refdesk.app.commands.ask import _fields, _show_end


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        ({"degraded": False}, ""),
        ({"degraded": True}, "Quoted from the documents. The language model did not answer."),
        (
            {"degraded": True, "degraded_reason": "Key [red]17[/red] has expired."},
            "documents. Key [red]17[/red] has expired.",
        ),
        ({"degraded": True, "access_as_of": "2026-11-01T10:00:00Z"}, "The Document Service does not answer."),
    ],
)
def test_an_answer_from_quotes_says_why(ending: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of whoever knows, as they are."""
    _show_end({"finish_reason": "stop", **ending}, [], [])
    assert shown in capsys.readouterr().out


def test_cited_sources_come_first_and_what_one_should_know_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence that its source contradicts, a limit of length, and changes that are not searchable yet."""
    sources = [{"n": n, "title": f"Title {n}", "stale": n == 3} for n in (1, 2, 3)]
    done = {"finish_reason": "length", "degraded": False, "index_lag_seconds": 7.2}
    _show_end(done, sources, ["Thirty days."], cited={3, 2})
    shown = capsys.readouterr().out
    assert shown.index("[2] Title 2") < shown.index("[3] Title 3 (a newer version is on its way)") < shown.index("[1]")
    assert "Not what the source says: Thirty days." in shown
    assert "limit of length (--max-output-tokens)" in shown
    assert "Changes of the last 7 s" in shown


def test_a_source_names_its_title_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A document's first heading is often its title."""
    sources = [{"n": 1, "title": "Leave", "heading": "Leave › Sick leave", "page": 2, "stale": False}]
    _show_end({"finish_reason": "stop", "degraded": False}, sources, [], cited={1})
    assert "[1] Leave › Sick leave, page 2\n" in capsys.readouterr().out


def test_a_question_has_the_fields_that_were_given() -> None:
    """And no others: the service's defaults hold."""
    nothing: dict[str, Any] = {
        "max_output_tokens": None,
        "document_ids": (),
        "conversation": None,
        "after": (),
        "tags": (),
        "sources": (),
        "since": None,
        "until": None,
    }
    assert _fields(**nothing) == {}
    assert _fields(**nothing | {"tags": ("hr",), "conversation": "tea", "max_output_tokens": 9}) == {
        "filters": {"tags": ("hr",)},
        "conversation_id": "tea",
        "max_output_tokens": 9,
    }
    narrow = {"sources": ("wiki",), "since": "2026-05-01", "until": "2026-05-31"}
    assert _fields(**nothing | narrow) == {"filters": narrow}
