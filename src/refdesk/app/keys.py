"""API keys: who is calling. Kept hashed; shown once.

A key is ``rdk_<id>_<secret><checksum>``: the id finds the row, 256 random bits are the secret, the checksum lets scanners and
typing errors be told from keys without a look-up. Only its SHA-256 is stored.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import Callable
from datetime import datetime
from importlib import resources

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import EVERYONE, LOCAL_ADMINISTRATOR, OPERATOR, PRINCIPAL_PREFIX, Principal, is_reader
from refdesk.contracts.errors import Conflict, InvalidRequest, NotFound, RefdeskError
from refdesk.outside.postgres import load_queries, one_statement, transaction

MIGRATIONS = resources.files("refdesk.app") / "migrations"

CACHE_SECONDS = 1.0
"""How long a process remembers a key: a revoked key dies everywhere within this time."""
CACHED_KEYS_MAX = 10_000
GROUPS_MAX = 100
RESERVED_NAMES = frozenset({LOCAL_ADMINISTRATOR.id, OPERATOR.id})
"""Their documents must not become a key's."""

_KEY = re.compile(r"rdk_(?P<id>[0-9a-f]{8})_(?P<secret>[0-9a-f]{64})(?P<checksum>[0-9a-f]{8})")


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it may be shown; ``key`` itself only at its creation."""

    name: str
    groups: tuple[str, ...]
    created_at: datetime
    key: str | None = None


class ApiKeys:
    """The keys in their database, with a one-second memory."""

    def __init__(self, pool: AsyncConnectionPool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._queries = load_queries(resources.files("refdesk.app") / "keys.sql")
        self._clock = clock
        self._known: dict[str, tuple[float, asyncio.Task[Principal | None]]] = {}
        """When each key was looked up, and the look-up: a burst of requests with one key looks once, not each for itself."""
        self._exists: tuple[float, bool] = (float("-inf"), False)

    async def principal(self, key: str) -> Principal | None:
        """Whoever holds this key; None when it is not one of ours or was revoked."""
        match = _KEY.fullmatch(key)
        if match is None or match["checksum"] != _checksum(key[:-8]):
            return None
        now = self._clock()  # before the look-up: what it says may be as old as that
        remembered = self._known.get(key)
        if remembered is None or now - remembered[0] >= CACHE_SECONDS:
            if len(self._known) >= CACHED_KEYS_MAX:
                self._known.clear()
            remembered = self._known[key] = now, asyncio.create_task(self._look_up(match["id"], key))
        try:
            return await asyncio.shield(remembered[1])
        except RefdeskError:
            if self._known.get(key) is remembered:
                del self._known[key]
            raise

    async def exist(self) -> bool:
        """Whether any key exists: from then on nobody is let in without one."""
        now = self._clock()
        checked_at, exists = self._exists
        if now - checked_at < CACHE_SECONDS:
            return exists
        async with one_statement(self._pool) as connection:
            row = await (await connection.execute(self._queries.any_key)).fetchone()
        exists = bool(row and row[0])
        self._exists = (now, exists)
        return exists

    async def create(self, name: str, groups: tuple[str, ...]) -> KeyView:
        """Raises InvalidRequest for a bad name or group, Conflict when the name is taken."""
        _check_names(name, groups)
        key_id = secrets.token_hex(4)
        body = f"rdk_{key_id}_{secrets.token_hex(32)}"
        key = body + _checksum(body)
        values = {"id": key_id, "name": name, "groups": sorted(set(groups)), "key_sha256": _digest(key)}
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(self._queries.create_key, values)).fetchone()
        if row is None:
            raise Conflict(f"There is a key named {name!r} already. Choose another name, or revoke that one first.")
        self._forget()
        return KeyView(name=name, groups=tuple(sorted(set(groups))), created_at=row[0], key=key)

    async def listing(self) -> list[KeyView]:
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(self._queries.list_keys)).fetchall()
        return [KeyView(name=name, groups=tuple(groups), created_at=at) for _, name, groups, at in rows]

    async def revoke(self, name: str) -> None:
        """Raises NotFound when there is no such key."""
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(self._queries.revoke_key, {"name": name})).fetchone()
        if row is None:
            raise NotFound(f"There is no key named {name!r}. `refdesk keys list` shows them.")
        self._forget()

    async def _look_up(self, key_id: str, key: str) -> Principal | None:
        async with one_statement(self._pool) as connection:
            row = await (await connection.execute(self._queries.find_key, {"id": key_id})).fetchone()
        if row is None or not hmac.compare_digest(bytes(row[2]), _digest(key)):
            return None
        return Principal(id=row[0], groups=tuple(row[1]))

    def _forget(self) -> None:
        self._known.clear()
        self._exists = (float("-inf"), False)


def _check_names(name: str, groups: tuple[str, ...]) -> None:
    if not is_reader(name) or name.startswith(PRINCIPAL_PREFIX):
        raise InvalidRequest(
            f"{name!r} cannot name a key: use letters, digits and . _ @ + - (128 at most).", field="name"
        )
    if name in RESERVED_NAMES:
        raise InvalidRequest(f"{name!r} is Refdesk's own name. Choose another for the key.", field="name")
    if len(groups) > GROUPS_MAX:
        raise InvalidRequest(f"{len(groups)} groups are too many for one key.", limit=GROUPS_MAX, actual=len(groups))
    for group in groups:
        if not is_reader(group) or group.startswith(PRINCIPAL_PREFIX) or group == EVERYONE:
            raise InvalidRequest(f"{group!r} cannot name a group: use letters, digits and . _ @ + -.", field="groups")


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
