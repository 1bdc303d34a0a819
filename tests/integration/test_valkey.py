"""The connection to Valkey that all commands share, on a real server and behind a door that breaks."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError
from tests.support.desk import VALKEY_PATIENCE_S, Wire, fresh_valkey, until

from refdesk.outside.valkey.client import Script, Valkey, ValkeyError, open_valkey
from refdesk.outside.valkey.errors import Away, NoReply

NOTICED_S = 2.0
"""When a test finds out that the server is silent."""
CERTIFICATE = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture
async def url(valkey_url: str) -> str:
    return await fresh_valkey(valkey_url, number=8)


@pytest.fixture
async def valkey(url: str) -> AsyncIterator[Valkey]:
    async with open_valkey(url, name="shared", timeout_s=VALKEY_PATIENCE_S) as valkey:
        yield valkey


@pytest.fixture
async def wire(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    await wire.open()
    yield wire
    await wire.shut()


async def test_everybody_gets_the_reply_to_their_own_command(valkey: Valkey) -> None:
    """A thousand askers at once, some of whom have left before their reply comes."""

    async def ask(number: int) -> None:
        assert await valkey.command("ECHO", str(number)) == str(number).encode()

    tasks = [asyncio.create_task(ask(number)) for number in range(1000)]
    await valkey.command("PING")
    for task in (late := [asyncio.create_task(ask(number)) for number in range(1000, 1100)])[::2]:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, *late[1::2])
    await asyncio.wait(late)
    assert await valkey.command("ECHO", "last") == b"last"


async def test_all_commands_share_a_connection_of_this_name_and_database(valkey: Valkey) -> None:
    """However many there are at a time."""
    await asyncio.gather(*(valkey.command("PING") for _ in range(50)))
    clients = (await valkey.command("CLIENT", "LIST")).decode().splitlines()
    (own,) = [client for client in clients if " name=shared " in client]
    assert " db=8 " in own


async def test_an_error_among_commands_sent_together_is_raised_when_all_are_answered(valkey: Valkey) -> None:
    """The others are carried out, and nobody else is disturbed."""
    with pytest.raises(ResponseError):
        await valkey.commands([("SET", "one", 1), ("INCR", "one", "nonsense"), ("SET", "two", 2)])
    assert await valkey.commands([("GET", "one"), ("GET", "two"), ("GET", "three")]) == [b"1", b"2", None]
    assert await valkey.commands([]) == []


async def test_a_script_that_the_server_has_forgotten_is_sent_again(valkey: Valkey) -> None:
    """A server forgets its scripts whenever it starts."""
    script = Script(valkey, "return {KEYS[1], ARGV[1], 7}")
    for _ in range(2):
        await valkey.command("SCRIPT", "FLUSH")
        assert await script(["key"], ["value"]) == [b"key", b"value", 7]
        assert await script.each([(["a"], [1]), (["b"], [2.5])]) == [[b"a", b"1", 7], [b"b", b"2.5", 7]]


async def test_a_command_that_waits_keeps_nobody_waiting(valkey: Valkey) -> None:
    """It has a connection of its own."""
    waiting = asyncio.create_task(_first_entry(valkey))
    await until(lambda: _blocked(valkey))
    await valkey.command("XADD", "stream", "1-0", "e", "entry")
    assert await waiting == [[b"stream", [[b"1-0", [b"e", b"entry"]]]]]


async def _first_entry(valkey: Valkey) -> list[Any]:
    while not (found := await valkey.streams([("stream", "0-0")], block_ms=300)):
        pass
    return found


async def _blocked(valkey: Valkey) -> bool:
    return b"blocked_clients:1" in await valkey.command("INFO", "clients")


async def test_a_broken_connection_fails_what_is_on_its_way_and_the_next_command_opens_another(wire: Wire) -> None:
    """What is on its way may have been carried out, so it is not sent again."""
    async with open_valkey(wire.url, name="broken", timeout_s=VALKEY_PATIENCE_S) as valkey:
        assert await valkey.command("INCR", "count") == 1
        wire.stick()
        tasks = [asyncio.create_task(valkey.command("INCR", "count")) for _ in range(10)]
        await asyncio.sleep(0)
        await wire.shut()
        assert all(isinstance(e, ValkeyError) for e in await asyncio.gather(*tasks, return_exceptions=True))
        await wire.open()
        assert 2 <= await valkey.command("INCR", "count") <= 12


async def test_a_server_that_is_away_is_tried_once_for_all_who_want_it(wire: Wire) -> None:
    """Two hundred askers are told together, not one after the other."""
    async with open_valkey(wire.url, name="away", timeout_s=VALKEY_PATIENCE_S) as valkey:
        await wire.shut()
        failures = await asyncio.gather(*(valkey.command("PING") for _ in range(200)), return_exceptions=True)
        assert all(isinstance(failure, ValkeyError) for failure in failures)
        await wire.open()
        await until(lambda: valkey.state.state == "up")
        assert await valkey.command("PING") == b"PONG"


async def test_a_server_that_hangs_is_given_up_for_all_who_wait(wire: Wire) -> None:
    """After the time that a command may take; whoever asks later is not answered with what comes then."""
    async with open_valkey(wire.url, name="stuck", timeout_s=NOTICED_S) as valkey:
        await valkey.command("PING")
        wire.stick()
        tasks = [asyncio.create_task(valkey.command("ECHO", str(number))) for number in range(20)]
        assert all(isinstance(e, ValkeyError) for e in await asyncio.gather(*tasks, return_exceptions=True))
        wire.unstick()
        await until(lambda: valkey.state.state == "up")
        assert await valkey.command("ECHO", "later") == b"later"


async def test_a_server_that_is_silent_is_waited_for_once(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Then nothing is sent until a probe succeeds; that is logged once, and once that it is over."""
    async with open_valkey(wire.url, name="silent", timeout_s=NOTICED_S) as valkey:
        assert valkey.state.state == "up"
        await valkey.command("PING")
        wire.stick()
        with pytest.raises(NoReply):
            await valkey.command("PING")
        assert (valkey.state.state, valkey.state.reason) == ("away", f"Valkey did not answer within {NOTICED_S:g} s.")
        for _ in range(1000):
            with pytest.raises(Away):
                await valkey.command("PING")
            with pytest.raises(Away):
                await valkey.streams([("stream", "0-0")], block_ms=30)
        wire.unstick()
        await until(lambda: valkey.state.state == "up", within_s=10)
        assert await valkey.command("ECHO", "well") == b"well"
    told = [record.message for record in caplog.records if record.name == "refdesk.outside.valkey.health"]
    assert [message.split(":")[0].split(",")[0] for message in told] == ["Valkey is away", "Valkey is well again"]


async def test_what_is_published_is_heard(valkey: Valkey) -> None:
    """By who listens."""
    heard = asyncio.create_task(_first_message(valkey))
    await until(lambda: valkey.command("PUBLISH", "news", "now"))
    assert await heard == b"now"


async def _first_message(valkey: Valkey) -> bytes:
    async with aclosing(valkey.messages("news")) as messages:
        return await anext(messages)


async def test_a_listener_whose_connection_is_reset_before_its_first_word_is_told(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop has an error of its own for that, which is nobody's fault and ends no service."""

    async def reset(*_: Any, **__: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    monkeypatch.setattr(PubSub, "get_message", reset)
    with pytest.raises(ValkeyError):
        await anext(valkey.messages("news"))


async def test_a_wrong_password_is_the_servers_answer(url: str) -> None:
    """As an error of Valkey's, which everybody who uses it is ready for."""
    async with open_valkey(
        f"{url}&password=wrong&username=nobody", name="stranger", timeout_s=VALKEY_PATIENCE_S
    ) as valkey:
        with pytest.raises(ValkeyError):
            await valkey.command("PING")


async def test_under_tls_commands_and_subscriptions_go_to_the_server_that_was_meant(url: str) -> None:
    """One whose certificate nobody vouches for is not talked to, and that is an error of Valkey's as well."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE / "certificate.pem", CERTIFICATE / "key.pem")
    wire = Wire(url, tls=tls)
    await wire.open()
    url = f"{wire.url}&ssl_ca_certs={CERTIFICATE / 'certificate.pem'}"
    async with open_valkey(url, name="private", timeout_s=VALKEY_PATIENCE_S) as valkey:
        assert await valkey.command("ECHO", "one") == b"one"
        assert await valkey.streams([("none", "0-0")], block_ms=1) == []
        heard = asyncio.create_task(_first_message(valkey))
        await until(lambda: valkey.command("PUBLISH", "news", "now"))
        assert await heard == b"now"
    async with open_valkey(wire.url, name="wary", timeout_s=VALKEY_PATIENCE_S) as valkey:
        with pytest.raises(ValkeyError, match="certificate"):
            await valkey.command("PING")
        with pytest.raises(ValkeyError):
            await _first_message(valkey)
    await wire.shut()
