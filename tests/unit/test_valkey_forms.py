"""The addresses of Valkey in all its forms."""

import re

import pytest

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.valkey.cluster import key_of
from refdesk.outside.valkey.errors import KINDS, Full, IsCluster, NoScriptError, ResponseError, refusal
from refdesk.outside.valkey.forms import doors, open_server


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://user:pass@host:1/2", ["redis://user:pass@host:1/2"]),
        ("unix:///run/valkey.sock?db=1", ["unix:///run/valkey.sock?db=1"]),
        ("redis+sentinel://user:p@ss@one,two:1/desk/3", ["redis://one:26379", "redis://two:1"]),
        ("rediss+cluster://[::1]:7000,two", ["rediss://[::1]:7000", "rediss://two:6379"]),
    ],
)
def test_an_address_names_the_doors_to_knock_on(url: str, expected: list[str]) -> None:
    """Before anything is started."""
    assert doors(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://host", "name of the service"),
        ("redis+cluster://host/3", "one database only"),
        ("redis+ring://host", "no form"),
        ("http+sentinel://host/desk", "scheme"),
        ("redis+cluster://", "no host"),
        ("http://host", "scheme"),
    ],
)
async def test_what_is_no_address_is_said(url: str, words: str) -> None:
    """With what would be one."""
    with pytest.raises(ConfigurationError, match=words):
        async with open_server(url, name="test", timeout_s=1):
            pass


@pytest.mark.parametrize("sign", ["/", "?", "#", "@", ":", "[", "%"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:first{}second@host",
        "redis://user:first{}second@host:x",
        "redis://first{}second@host",
        "redis+cluster://:first{}second@host",
        "redis+cluster://first{}second@host",
        "redis+sentinel://:first{}second@host/desk",
    ],
)
async def test_what_cannot_be_read_is_not_repeated(url: str, sign: str) -> None:
    """It may be a password with a sign in it that ends it; an address that is read all the same is another matter."""
    for read in (_open, _knock):
        try:
            await read(url.format(sign))
        except ConfigurationError as error:
            assert not re.search("first|second", str(error))
            assert error.__cause__ is None and error.__suppress_context__


async def _open(url: str) -> None:
    async with open_server(url, name="test", timeout_s=1):
        pass


async def _knock(url: str) -> None:
    doors(url)


@pytest.mark.parametrize("url", ["redis://:se/cret@host", "redis://se/cret@host", "redis+cluster://:se#cret@host"])
async def test_a_password_that_ends_early_is_refused(url: str) -> None:
    """Before half of it is looked up as a host; the sentence says how to write it."""
    for read in (_open, _knock):
        with pytest.raises(ConfigurationError, match="%2F"):
            await read(url)


def test_refusals_are_told_apart_by_their_first_word() -> None:
    """Each has a sentence that says what to do; what is none of them is the server's own error."""
    assert type(refusal("OOM command not allowed when used memory > 'maxmemory'.")) is Full
    assert type(refusal("MOVED 3999 127.0.0.1:6381")) is IsCluster
    assert type(refusal("NOSCRIPT No matching script.")) is NoScriptError
    assert type(refusal("WRONGTYPE Operation against a key")) is ResponseError
    assert all(len(str(kind.__doc__).split(". ")) > 1 for kind in KINDS.values())


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("EVALSHA", "digest", 2, "a", "b", 1), "a"),
        (("XREAD", "COUNT", 1, "STREAMS", "a", "0-0"), "a"),
        (("PUBLISH", "channel", "x"), None),
    ],
)
def test_a_command_goes_where_its_key_is(command: tuple[str | int, ...], key: str | None) -> None:
    """And one without a key anywhere."""
    assert key_of(command) == key
