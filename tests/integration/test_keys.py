"""API keys and the local administrator: who is let in, on a real database and a real socket."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.types import ASGIApp
from tests.integration.documents_desk import serving

from refdesk.access.authentication import Authentication
from refdesk.access.keys import CACHE_SECONDS, CACHED_KEYS_MAX, MIGRATIONS, RESERVED_NAMES, ApiKeys
from refdesk.access.wrong_keys import WrongKeys
from refdesk.app.key_routes import key_endpoints
from refdesk.app.server import refuse_open_door
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR, Principal
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json

OPERATOR_KEY = "the-operators-own-key"
FORM = re.compile(r"rdk_[0-9a-f]{8}_[0-9a-f]{64}[0-9a-f]{8}")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test keys", size_max=4) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture
def keys(pool: AsyncConnectionPool, clock: Clock) -> ApiKeys:
    return ApiKeys(pool, clock=clock)


@pytest.fixture
def elsewhere(pool: AsyncConnectionPool, clock: Clock) -> ApiKeys:
    """The same table seen by another process."""
    return ApiKeys(pool, clock=clock)


async def made(keys: ApiKeys, name: str = "ada", *groups: str) -> str:
    key = (await keys.create(name, groups)).key
    assert key is not None
    return key


# keys


async def test_a_key_names_its_holder_and_groups(keys: ApiKeys) -> None:
    """Here and in every other process."""
    made_ = await keys.create("ada", ("hr", "editors", "hr"))
    assert await keys.principal(made_.key or "") == Principal(
        id=made_.id, groups=("editors", "hr"), name="ada", role="curator"
    )


async def test_a_key_carries_its_checksum(keys: ApiKeys) -> None:
    """The last eight digits are the CRC-32 of the rest, so that scanners and typing errors need no look-up."""
    key = await made(keys)
    assert FORM.fullmatch(key)
    assert key[-8:] == f"{zlib.crc32(key[:-8].encode()):08x}"


async def test_the_table_holds_no_key(keys: ApiKeys, pool: AsyncConnectionPool) -> None:
    """Only a hash of 32 bytes; whoever reads the table can call nobody."""
    key = await made(keys)
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT t::text, octet_length(key_sha256) FROM api_keys t")).fetchone()
    assert row is not None
    secret = key.split("_")[2]
    assert secret not in row[0] and secret[:64] not in row[0]
    assert row[1] == 32


async def test_a_key_is_shown_once(keys: ApiKeys) -> None:
    """The listing has names and groups, in order, and no key."""
    await made(keys, "bob")
    await made(keys, "ada", "hr")
    listed = await keys.listing()
    assert [(key.name, key.groups, key.key) for key in listed] == [("ada", ("hr",), None), ("bob", (), None)]


def damaged(key: str) -> dict[str, str]:
    body = key[:-8]
    other = body[:-1] + ("0" if body[-1] != "0" else "1")
    return {
        "empty": "",
        "cut": key[:-1],
        "longer": key + "0",
        "mistyped": key[:20] + ("0" if key[20] != "0" else "1") + key[21:],
        "wrong checksum": body + "00000000",
        "wrong secret, right checksum": other + f"{zlib.crc32(other.encode()):08x}",
        "upper case": key.upper(),
        "with a space": key + " ",
        "with a newline": key + "\n",
        "other digits": key.replace(key[4], "٣", 1),
        "another's id": f"rdk_{'0' * 8}{key[12:]}",
        "SQL": "rdk_' OR true --",
        "of the table": "rdk_00000000_" + "0" * 72,
    }


async def test_a_bad_key_never_passes(keys: ApiKeys) -> None:
    """However close it comes; neither at first sight nor from memory."""
    key = await made(keys, "ada", "administrators")
    for what, bad in damaged(key).items():
        assert await keys.principal(bad) is None, what
        assert await keys.principal(bad) is None, what
    assert await keys.principal(key) is not None


async def test_a_mistyped_key_costs_no_look_up(fresh_database: str) -> None:
    """The checksum turns it away before the database, which is not even open here."""
    async with open_pool(fresh_database, name="test keys", size_max=1) as pool:
        keys = ApiKeys(pool)
    assert await keys.principal("rdk_00000000_" + "0" * 72) is None


async def test_a_revoked_key_dies_at_once_here_and_within_a_second_elsewhere(
    keys: ApiKeys, elsewhere: ApiKeys, clock: Clock
) -> None:
    """A process remembers a key for a second at most."""
    key = await made(keys)
    assert await elsewhere.principal(key) is not None
    await keys.revoke("ada")
    assert await keys.principal(key) is None
    clock.pass_(CACHE_SECONDS)
    assert await elsewhere.principal(key) is None
    assert CACHE_SECONDS <= 1


async def test_the_second_counts_from_before_the_look_up(
    keys: ApiKeys, elsewhere: ApiKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow database must not stretch the life of a key that was revoked meanwhile."""
    key = await made(keys)
    look_up = elsewhere._look_up

    async def slowly(key_id: str, text: str) -> Principal | None:
        found = await look_up(key_id, text)
        await keys.revoke("ada")
        clock.pass_(CACHE_SECONDS)
        return found

    monkeypatch.setattr(elsewhere, "_look_up", slowly)
    assert await elsewhere.principal(key) is not None
    monkeypatch.undo()
    assert await elsewhere.principal(key) is None


async def test_a_key_is_looked_up_once_a_second(
    keys: ApiKeys, elsewhere: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for every request, good or bad, one after the other or at once."""
    key = await made(keys)
    looked: list[str] = []
    look_up = elsewhere._look_up

    async def counted(key_id: str, text: str) -> Principal | None:
        looked.append(key_id)
        return await look_up(key_id, text)

    monkeypatch.setattr(elsewhere, "_look_up", counted)
    await asyncio.gather(*(elsewhere.principal(key) for _ in range(50)))
    await elsewhere.principal(key)
    assert len(looked) == 1


async def test_the_memory_of_keys_is_bounded(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented keys with right checksums cannot fill a process."""
    monkeypatch.setattr("refdesk.access.keys.CACHED_KEYS_MAX", 3)
    for number in range(8):
        body = f"rdk_{number:08x}_{'0' * 64}"
        assert await keys.principal(body + f"{zlib.crc32(body.encode()):08x}") is None
        assert len(keys._known) <= 3
    assert CACHED_KEYS_MAX <= 10_000


async def test_a_name_is_taken_once(keys: ApiKeys) -> None:
    """And is free again once its key is revoked; the new key is another one."""
    first = await made(keys)
    with pytest.raises(Conflict, match="'ada'"):
        await keys.create("ada", ())
    await keys.revoke("ada")
    assert await made(keys) != first
    assert await keys.principal(first) is None


async def test_a_key_that_is_not_there_cannot_be_revoked(keys: ApiKeys) -> None:
    """The answer says how to see them."""
    with pytest.raises(NotFound, match="refdesk keys list"):
        await keys.revoke("nobody")


@pytest.mark.parametrize("name", ["", "a b", "principal:ada", "ä", "-ada", "a" * 129, "a\n", *sorted(RESERVED_NAMES)])
async def test_a_name_that_readers_could_not_hold_is_refused(keys: ApiKeys, name: str) -> None:
    """Nor may a key take the names under which Refdesk itself writes documents."""
    with pytest.raises(InvalidRequest) as refused:
        await keys.create(name, ())
    assert refused.value.details["field"] == "name"


@pytest.mark.parametrize("group", ["everyone", "principal:ada", "", "h r"])
async def test_a_group_that_would_mean_more_is_refused(keys: ApiKeys, group: str) -> None:
    """Everybody is in `everyone` already, and `principal:ada` is ada."""
    with pytest.raises(InvalidRequest) as refused:
        await keys.create("bob", (group,))
    assert refused.value.details["field"] == "groups"


# who is let in


async def who(request: Request, principal: Principal) -> ASGIApp:
    return Json({"name": principal.name, "administrator": principal.administrator})


@pytest.fixture
async def door(keys: ApiKeys) -> AsyncIterator[str]:
    """A running server that says who is calling, and takes keys."""
    async with open_door(keys) as url:
        yield url


@asynccontextmanager
async def open_door(keys: ApiKeys, *, wrong_keys: WrongKeys | None = None) -> AsyncIterator[str]:
    asked = Endpoint(method="GET", path="/api/who", action="description.read", handler=who, summary="Who is calling")
    authenticate = Authentication(keys, operator_key=OPERATOR_KEY, wrong_keys=wrong_keys)
    app = create_app([asked, *key_endpoints(keys)], authenticate=authenticate)
    async with serving(app) as url:
        yield url


async def call(url: str, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={**authorization, **(headers or {})}) as response,
    ):
        return response.status, await response.json(content_type=None)


async def test_without_keys_this_machine_is_administrator(door: str) -> None:
    """A direct connection from loopback to a loopback name."""
    assert await call(f"{door}/api/who") == (200, {"name": LOCAL_ADMINISTRATOR.name, "administrator": True})


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-Host": "desk.example"},
        {"X-Forwarded-Proto": "https"},
        {"X-Real-IP": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"Host": "desk.example"},
        {"Host": "127.0.0.1.desk.example"},
        {"Host": "localhost@desk.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Authorization": "Basic bG9jYWw6"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer rdk_wrong"},
        {"Authorization": ""},
    ],
    ids=str,
)
async def test_the_local_administrator_is_nobody_else(door: str, headers: dict[str, str]) -> None:
    """Not behind a proxy, not under a name that was rebound, not from another site's page, not with a key that is none."""
    status, problem = await call(f"{door}/api/who", headers=headers)
    assert (status, problem["type"]) == (401, "unauthenticated")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
async def test_the_own_page_is_the_local_administrators(door: str, name: str) -> None:
    """Its requests carry the origin that the address bar shows."""
    host = f"{name}:{door.rpartition(':')[2]}"
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert (await call(f"{door}/api/who", headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_what_looks_like_it(host: str, loopback: bool) -> None:
    """Addresses, and one name."""
    assert is_loopback(host) is loopback


async def test_the_first_key_closes_the_door(door: str) -> None:
    """From then on nobody is let in without one, and the key's holder is who they are."""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{door}/api/keys", json={"name": "ada", "groups": ["administrators"]}) as response:
            assert response.status == 201
            key = (await response.json())["key"]
        async with session.post(f"{door}/api/keys", json={"name": "eve", "groups": []}) as response:
            assert response.status == 401
    status, problem = await call(f"{door}/api/who")
    assert (status, problem["type"]) == (401, "unauthenticated")
    assert await call(f"{door}/api/who", key=key) == (200, {"name": "ada", "administrator": True})


async def test_the_first_key_closes_other_processes_doors_within_a_second(
    keys: ApiKeys, elsewhere: ApiKeys, clock: Clock
) -> None:
    """They ask the table once a second."""
    async with open_door(elsewhere) as door:
        assert (await call(f"{door}/api/who"))[0] == 200
        await made(keys)
        clock.pass_(CACHE_SECONDS)
        assert (await call(f"{door}/api/who"))[0] == 401


async def test_the_operator_is_let_in_with_and_without_keys(door: str, keys: ApiKeys) -> None:
    """Refdesk's own services do not depend on the table."""
    operator = (200, {"name": OPERATOR.name, "administrator": True})
    assert await call(f"{door}/api/who", key=OPERATOR_KEY) == operator
    await made(keys)
    assert await call(f"{door}/api/who", key=OPERATOR_KEY) == operator
    assert (await call(f"{door}/api/who", key=OPERATOR_KEY[:-1]))[0] == 401


async def test_only_administrators_make_list_and_revoke_keys(door: str, keys: ApiKeys) -> None:
    """An ordinary key gets 403, no key 401."""
    ordinary = await made(keys, "bob", "hr")
    async with aiohttp.ClientSession() as session:
        for headers, expected in (({"Authorization": f"Bearer {ordinary}"}, 403), ({}, 401)):
            for method, path in (("POST", "/api/keys"), ("GET", "/api/keys"), ("DELETE", "/api/keys/bob")):
                async with session.request(method, door + path, headers=headers, json={"name": "eve"}) as response:
                    assert response.status == expected, (method, expected)
    assert [key.name for key in await keys.listing()] == ["bob"]


async def test_a_key_is_made_listed_and_revoked_over_http(door: str, keys: ApiKeys) -> None:
    """The reply to making it is the only place where it stands."""
    operator = {"Authorization": f"Bearer {OPERATOR_KEY}"}
    async with aiohttp.ClientSession(headers=operator) as session:
        async with session.post(f"{door}/api/keys", json={"name": "ada", "groups": ["hr"]}) as response:
            assert response.status == 201
            key = (await response.json())["key"]
        assert (await call(f"{door}/api/who", key=key))[0] == 200
        async with session.get(f"{door}/api/keys") as response:
            text = await response.text()
        assert '"ada"' in text and key not in text and '"key"' not in text
        async with session.delete(f"{door}/api/keys/ada") as response:
            assert response.status == 204
    assert (await call(f"{door}/api/who", key=key))[0] == 401


async def test_keys_that_cannot_be_read_let_nobody_in(fresh_database: str) -> None:
    """Access control fails closed: a table that is away is no table without keys."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(fresh_database, name="test keys", size_max=1))
        door = await stack.enter_async_context(open_door(ApiKeys(pool)))  # its table was never made
        assert (await call(f"{door}/api/who"))[0] == 500
        assert (await call(f"{door}/api/who", key="rdk_wrong"))[0] == 401


# where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "desk.example"])
async def test_without_keys_refdesk_listens_on_this_machine_only(keys: ApiKeys, host: str) -> None:
    """Everybody there would be administrator; the refusal says what to do."""
    with pytest.raises(ConfigurationError, match="refdesk keys create NAME --groups administrators"):
        await refuse_open_door(keys, host=host)
    await made(keys)
    await refuse_open_door(keys, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_without_keys_loopback_is_fine(keys: ApiKeys, host: str) -> None:
    """That is how a laptop starts."""
    await refuse_open_door(keys, host=host)


async def test_wrong_keys_are_slowed_down_and_right_ones_are_not(keys: ApiKeys) -> None:
    """By the address that a proxy names; another behind it, and whoever's key was right before, are let in all the while."""
    key = await made(keys)
    wrong_keys = WrongKeys(per_minute_max=3)
    stranger, other = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
    async with open_door(keys, wrong_keys=wrong_keys) as door:
        assert (await call(f"{door}/api/who", key=key, headers=stranger))[0] == 200
        statuses = [(await call(f"{door}/api/who", key="rdk_wrong", headers=stranger))[0] for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await call(f"{door}/api/who", key=key, headers=stranger))[0] == 200
        assert (await call(f"{door}/api/who", key="rdk_wrong", headers=other))[0] == 401
        assert [(await call(f"{door}/api/who", key="rdk_wrong"))[0] for _ in range(5)] == [401] * 5
        _, problem = await call(f"{door}/api/who", key="rdk_wrong", headers=stranger)
        assert (problem["type"], problem["retry_after"]) == ("rate-limited", 20)
