"""Which server embeds for a generation: one that the settings name, with the key that is its own."""

import msgspec
import pytest

from refdesk.app.services.generations import CHUNKING_VERSION, _server, choose_model, difference, without_secrets
from refdesk.contracts.errors import ConfigurationError, InvalidRequest
from refdesk.index.ledger.generations import Generation
from refdesk.settings.tree import Settings

SETTINGS = Settings.of(
    embedding_url="https://user:word@new.example/v1/?token=x",
    embedding_model="new",
    embedding_api_key="new key",
    embedding_previous_url="http://old.example/v1",
    embedding_previous_api_key="old key",
)


def generation(model: str, url: str | None) -> Generation:
    return Generation(id=1, model=model, dimensions=8, chunking="1", text_search="english", url=url, tokens_max=512)


@pytest.mark.parametrize(
    ("model", "url", "expected"),
    [
        ("new", "https://new.example/v1", (SETTINGS.embedding.url, "new key")),
        ("another", "https://new.example/v1", (SETTINGS.embedding.url, "new key")),
        ("old", "http://old.example/v1", ("http://old.example/v1", "old key")),
        ("new", "http://moved.example/v1", (SETTINGS.embedding.url, "new key")),
    ],
    ids=["its own", "another model there", "the previous one", "the same model elsewhere"],
)
def test_the_server_of_a_generation(model: str, url: str, expected: tuple[str, str]) -> None:
    """By its address; one that has moved, by the model's name."""
    assert _server(SETTINGS, generation(model, url)) == expected


def test_a_server_that_no_setting_names_is_never_called() -> None:
    """One sentence says what is missing; no key goes to an address out of the database."""
    with pytest.raises(ConfigurationError, match=r"REFDESK_EMBEDDING_PREVIOUS_URL=http://elsewhere\."):
        _server(SETTINGS, generation("old", "http://elsewhere.example/v1"))


def test_what_is_kept_of_a_url_has_no_secret() -> None:
    """Neither a user nor a query goes into the database."""
    assert without_secrets(str(SETTINGS.embedding.url)) == "https://new.example/v1"


async def test_a_model_that_can_be_nowhere() -> None:
    """Without a server there are the packaged ones, which the refusal names."""
    with pytest.raises(InvalidRequest, match="all-MiniLM-L6-v2-fp32"):
        await choose_model(Settings(), "nomic-embed-text")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"chunking": "an earlier one"}, "release"),
        ({"engine": "qdrant"}, "engine"),
        ({"model": "another"}, "model"),
    ],
)
def test_an_index_that_would_be_made_otherwise_now_says_why(changes: dict[str, str], expected: str | None) -> None:
    """Then it helps to build it anew, and is not refused."""
    now = msgspec.structs.replace(generation("new", "https://new.example/v1"), chunking=CHUNKING_VERSION)
    assert difference(SETTINGS, msgspec.structs.replace(now, **changes)) == expected
