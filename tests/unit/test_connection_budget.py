"""The sums that operators plan by are those that the settings give."""

import re
from pathlib import Path

from refdesk.app.connection_budget import budget, needed
from refdesk.app.embedded.postgres import SETTINGS
from refdesk.settings.tree import Settings, settings_by_name

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "operate.md"
FOR_PEOPLE = 10


def sums(settings: Settings) -> list[int]:
    return [sum(of_service.values()) for of_service in budget(settings).values()]


def test_the_guide_has_the_sums_of_the_defaults() -> None:
    """A process of each service, and the formula for several."""
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    told = re.search(r"That is (\d+) for a Document Service, (\d+) for an assistant and (\d+) for an indexer", text)
    assert told is not None
    assert [int(number) for number in told.groups()] == sums(Settings())
    assert "{}·d + {}·a + {}·i + {}".format(*sums(Settings()), FOR_PEOPLE) in text


def test_the_embedded_server_gives_enough() -> None:
    """One of each, and some for people."""
    everything = {"documents_database_url", "index_database_url", "access_database_url"}
    assert needed(Settings(), everything) + FOR_PEOPLE <= int(SETTINGS["max_connections"])


def test_every_size_is_a_setting() -> None:
    """A larger pool is a larger sum."""
    names = [name for name in settings_by_name() if name.endswith("connections_max")]
    for name in names:
        if name not in ("connections_max",):
            assert sum(sums(Settings.of(**{name: 100}))) > sum(sums(Settings())), name
