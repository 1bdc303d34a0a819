"""What `refdesk ask` shows below an answer."""

from typing import Any

import pytest

from refdesk.app.commands.ask import _show_end


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
