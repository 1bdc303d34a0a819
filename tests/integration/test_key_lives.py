"""How keys begin and end: when they expire, what takes their place, whose they are, when they were used."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.integration.documents_desk import serving
from tests.support.running import command

from refdesk.access.authentication import Authentication
from refdesk.access.keys import MIGRATIONS, ApiKeys
from refdesk.app.key_routes import key_endpoints
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.web.http import create_app

TOMORROW = datetime.now(UTC) + timedelta(days=1)
OPERATOR_KEY = "the-operators-own-key"


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test keys", size_max=4) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture
def keys(pool: AsyncConnectionPool) -> ApiKeys:
    return ApiKeys(pool, rotation_grace_s=60.0)


async def expire(keys: ApiKeys, name: str = "ada") -> None:
    """As time does; what the process remembers for a second is forgotten."""
    await execute(keys, "UPDATE api_keys SET expires_at = now() WHERE name = %s", name)


async def execute(keys: ApiKeys, statement: str, *parameters: Any) -> Any:
    async with keys.pool.connection() as connection:
        cursor = await connection.execute(statement.encode(), parameters)
        rows = await cursor.fetchall() if cursor.description else []
    keys.forget()
    return rows


async def test_a_key_opens_until_it_expires(keys: ApiKeys) -> None:
    """The listing shows it then, too, so that somebody can give it another end."""
    made = await keys.create("ada", expires_at=TOMORROW)
    assert made.expires_at == TOMORROW and await keys.principal(made.key or "") is not None
    await expire(keys)
    assert await keys.principal(made.key or "") is None
    assert await keys.principals([(made.key or "")[4:12]]) == {}
    assert [key.name for key in await keys.listing()] == ["ada"]
    changed = await keys.change("ada", expires_at=None)
    assert changed.expires_at is None and await keys.principal(made.key or "") is not None


async def test_keys_that_have_all_expired_still_close_the_door(keys: ApiKeys) -> None:
    """Else time alone would make everybody on this machine administrator."""
    await keys.create("ada", expires_at=TOMORROW)
    await expire(keys)
    assert await keys.exist()


async def test_an_end_in_the_past_is_refused(keys: ApiKeys) -> None:
    """When a key is made, changed or rotated."""
    await keys.create("ada")
    past = datetime.now(UTC) - timedelta(seconds=1)
    for refused in (
        keys.create("bob", expires_at=past),
        keys.change("ada", expires_at=past),
        keys.rotate("ada", expires_at=past),
    ):
        with pytest.raises(InvalidRequest) as raised:
            await refused
        assert raised.value.details["field"] == "expires_at"


async def test_a_change_of_something_else_leaves_the_end(keys: ApiKeys) -> None:
    """And the role that the key was given, not the one that a group lent it."""
    await keys.create("ada", ("administrators",), expires_at=TOMORROW)
    assert (await keys.change("ada", groups=("hr",))).expires_at == TOMORROW
    [ada] = await keys.listing()
    assert (ada.role, ada.groups, ada.expires_at) == ("writer", ("hr",), TOMORROW)


async def test_a_rotated_key_opens_through_its_grace_and_no_longer(keys: ApiKeys) -> None:
    """Both are the same principal; a second rotation ends the first key at once."""
    first = await keys.create("ada", ("hr",))
    second = await keys.rotate("ada")
    ada = Principal(id=first.id, groups=("hr",), name="ada")
    assert [await keys.principal(key.key or "") for key in (first, second)] == [ada, ada]
    assert set(await keys.principals([(key.key or "")[4:12] for key in (first, second)])) == {
        (key.key or "")[4:12] for key in (first, second)
    }
    [listed] = await keys.listing()
    assert listed.previous_until == second.previous_until is not None
    third = await keys.rotate("ada")
    assert [await keys.principal(key.key or "") for key in (first, second, third)] == [None, ada, ada]
    await execute(keys, "UPDATE api_keys SET previous_until = now()")
    assert [await keys.principal(key.key or "") for key in (second, third)] == [None, ada]
    assert (await keys.listing())[0].previous_until is None


async def test_the_grace_brings_no_expired_key_back_and_revoking_ends_it(keys: ApiKeys) -> None:
    """Whoever revokes a key that was rotated just now means both."""
    first = await keys.create("ada", expires_at=TOMORROW)
    await expire(keys)
    second = await keys.rotate("ada", expires_at=TOMORROW)
    assert await keys.principal(first.key or "") is None and await keys.principal(second.key or "") is not None
    third = await keys.rotate("ada")
    await keys.revoke("ada")
    assert [await keys.principal(key.key or "") for key in (second, third)] == [None, None]


async def test_a_rotated_key_lives_as_long_as_the_one_before_was_to(keys: ApiKeys) -> None:
    """Counted from the rotation, unless another end is given."""
    await keys.create("ada", expires_at=TOMORROW)
    await execute(
        keys, "UPDATE api_keys SET created_at = now() - interval '30 days', expires_at = now() + interval '1 hour'"
    )
    rotated = await keys.rotate("ada")
    assert rotated.expires_at is not None
    assert rotated.expires_at - rotated.created_at == timedelta(days=30, hours=1)
    assert (await keys.rotate("ada", expires_at=TOMORROW)).expires_at == TOMORROW


async def test_several_keys_may_be_one_principals(keys: ApiKeys) -> None:
    """They own the same; none can be Refdesk's own."""
    ada = await keys.create("ada")
    phone = await keys.create("phone", principal=ada.id)
    assert phone.id == ada.id
    found = await keys.principal(phone.key or "")
    assert found is not None and found.id == ada.id
    await keys.revoke("ada")
    assert await keys.principal(phone.key or "") is not None
    for own in ("operator", "local"):
        with pytest.raises(InvalidRequest):
            await keys.create("bob", principal=own)


async def test_when_a_key_was_used_is_written_beside_the_requests(keys: ApiKeys, pool: AsyncConnectionPool) -> None:
    """Once for all of them, without a word to other processes, and only of keys that are still there."""
    made = [await keys.create(name) for name in ("ada", "bob", "carol")]
    for key in made[1:]:
        assert await keys.principal(key.key or "") is not None
    assert [key.last_used_at for key in await keys.listing()] == [None, None, None]
    await keys.revoke("carol")
    async with pool.connection() as listening:
        await listening.set_autocommit(True)
        await listening.execute("LISTEN refdesk_keys")
        await keys.uses.write()
        assert [news async for news in listening.notifies(timeout=0.2)] == []
    used = {key.name: key.last_used_at for key in await keys.listing()}
    assert used["ada"] is None and used["bob"] is not None and set(used) == {"ada", "bob"}
    await keys.rotate("bob")
    assert (await keys.listing())[1].last_used_at == used["bob"]


@pytest.fixture
async def door(keys: ApiKeys) -> AsyncIterator[str]:
    authenticate = Authentication(keys, operator_key=OPERATOR_KEY)
    async with serving(create_app(key_endpoints(keys), authenticate=authenticate)) as url:
        yield url


async def call(url: str, method: str, path: str, *, key: str = OPERATOR_KEY, **request: Any) -> tuple[int, bytes, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, **request) as said,
    ):
        body = await said.read()
        return said.status, body, await said.json(content_type=None) if body else None


async def test_an_expired_key_is_refused_like_one_that_never_was(door: str, keys: ApiKeys) -> None:
    """Byte for byte: an old key that somebody found tells nothing."""
    status, _, made = await call(door, "POST", "/api/keys", json={"name": "ada", "expires_at": TOMORROW.isoformat()})
    assert (status, made["holder"]) == (201, "person")
    await expire(keys)
    never = await keys.create("bob")
    await keys.revoke("bob")
    said = {(await call(door, "GET", "/api/keys", key=key))[:2] for key in (made["key"], never.key or "")}
    assert len(said) == 1 and next(iter(said))[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        {"name": "ada", "expires_at": "2030-01-01T00:00:00"},
        {"name": "ada", "expires_at": "tomorrow"},
        {"name": "ada", "expires_at": 90},
        {"name": "ada", "holder": "robot"},
        {"name": "ada", "role": "root"},
        {"name": "ada", "principal": ""},
        {"name": "ada", "principal": "x" * 501},
        {"name": "ada", "groups": ["administrators"], "role": "operator"},
        {"name": "ada", "groups": ["editors"], "role": "asker"},
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_is_not_made(door: str, keys: ApiKeys, body: dict[str, Any]) -> None:
    """A time without its zone among them; the refusal is 422."""
    assert (await call(door, "POST", "/api/keys", json=body))[0] == 422
    assert await keys.listing() == []


async def test_a_key_is_changed_in_part(door: str, keys: ApiKeys) -> None:
    """What is left out stays; an end of null is none. The method of before says the same."""
    await keys.create("ada", ("hr",), expires_at=TOMORROW)
    for method in ("PATCH", "PUT"):
        status, _, changed = await call(door, method, "/api/keys/ada", json={"role": "curator"})
        assert (status, changed["role"], changed["groups"]) == (200, "curator", ["hr"])
        assert "expires_at" in changed
    _, _, changed = await call(door, "PATCH", "/api/keys/ada", json={"expires_at": None})
    assert "expires_at" not in changed
    status, _, rotated = await call(door, "POST", "/api/keys/ada/rotate", json={"expires_at": TOMORROW.isoformat()})
    assert (status, datetime.fromisoformat(rotated["expires_at"])) == (201, TOMORROW)
    assert (await call(door, "POST", "/api/keys/ada/rotate"))[0] == 201
    with pytest.raises(NotFound):
        await keys.change("nobody", role="asker")


async def test_the_command_line_makes_lists_and_changes_keys_that_end(fresh_database: str, tmp_path: Path) -> None:
    """`--expires 90d`, and `never`; a span that is none is named."""
    arguments = ("keys", "create", "nightly", "--service", "--expires", "90d", "--database", fresh_database, "--json")
    made = await command(*arguments, home=tmp_path)
    assert made.code == 0, made.err
    ends = datetime.fromisoformat(made.last["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends < timedelta(days=90)
    assert made.last["holder"] == "service"
    refused = await command("keys", "create", "x", "--expires", "soon", "--database", fresh_database, home=tmp_path)
    assert refused.code == 2 and "'soon' is no span" in refused.err
