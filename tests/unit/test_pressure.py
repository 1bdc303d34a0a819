"""How short of processors a machine is, as Linux writes it down."""

from pathlib import Path

import pytest

from refdesk.documents.waiting import SILENCE_S_MAX, STRETCH_MAX, silence_s_max
from refdesk.outside.pressure import waited_for_processors

FULL = "some avg10=98.34 avg60=98.76 avg300=97.85 total=3702424422\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.mark.parametrize(
    ("content", "share"),
    [
        (FULL, 0.9834),
        ("some avg10=0.00 avg60=1.00", 0.0),
        ("", 0.0),
        ("some avg10=much", 0.0),
        ("some avg10=250.0", 1.0),
    ],
)
def test_the_share_of_ten_seconds_is_read(tmp_path: Path, content: str, share: float) -> None:
    """What cannot be read is no pressure."""
    (tmp_path / "cpu").write_text(content)
    assert waited_for_processors(tmp_path / "cpu") == pytest.approx(share)


def test_a_machine_that_does_not_say_is_taken_for_idle(tmp_path: Path) -> None:
    """Then silence counts as it always did; on a busy one it may be ten times as long, and no longer."""
    assert silence_s_max(lambda: waited_for_processors(tmp_path / "none")) == SILENCE_S_MAX
    assert silence_s_max(lambda: 1.0) == SILENCE_S_MAX * STRETCH_MAX
