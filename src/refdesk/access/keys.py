"""API keys: who is calling. Kept hashed; shown once.

A key is ``rdk_<id>_<secret><checksum>``: the id finds the row, 256 random bits are the secret, the checksum lets scanners and
typing errors be told from keys without a look-up. Only its SHA-256 is stored.

A key belongs to a principal, whose id is its own for ever: a key that takes the place of another (``rotate``) is the same
principal, a key that is made under a name used before is another one, unless it is made for a principal that is there.

A key that has expired is like one that never was. Whoever has an old one learns nothing from it.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from refdesk.access.key_uses import KeyUses
from refdesk.contracts.access import (
    EVERYONE,
    LOCAL_ADMINISTRATOR,
    OPERATOR,
    PRINCIPAL_PREFIX,
    ROLE_GROUPS,
    Principal,
    Role,
    is_reader,
    role_within,
)
from refdesk.contracts.errors import ConfigurationError, Conflict, InvalidRequest, NotFound, RefdeskError
from refdesk.outside.postgres.database import (
    load_queries,
    migrate,
    one_statement,
    open_pool,
    require_database,
    transaction,
)
from refdesk.outside.postgres.pool import Pool

MIGRATIONS = resources.files("refdesk.access") / "migrations"
READ = b"SELECT EXISTS (SELECT 1 FROM api_keys LIMIT 1)"
"""Reads a table of ours: what tries a database runs it."""

CHANNEL = "refdesk_keys"
"""Where the database announces every change of the keys."""
CACHE_SECONDS = 1.0
"""How long a process remembers a key: a revoked key dies everywhere within this time."""
CACHED_KEYS_MAX = 10_000
GROUPS_MAX = 100
RESERVED_NAMES = frozenset({LOCAL_ADMINISTRATOR.id, OPERATOR.id})
"""Their documents must not become a key's."""

_PRINCIPAL_ID = re.compile(r"[ku][0-9a-f]{32}")
"""The ids of principals, which no key may have as its name: of keys (``migrations/0002_principals.sql``) and of people."""
_KEY = re.compile(r"rdk_(?P<id>[0-9a-f]{8})_(?P<secret>[0-9a-f]{64})(?P<checksum>[0-9a-f]{8})")


Adoption = Literal["new", "known", "rotated"]
"""What became of a key that was made elsewhere; one that was rotated, or has expired, opens nothing any more."""
Holder = Literal["person", "service"]
"""Who has a key: somebody, or a program of its own account."""


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it may be shown; ``id`` is its principal's, ``key`` itself is there only when it was just made."""

    id: str
    name: str
    groups: tuple[str, ...]
    role: Role
    holder: Holder
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    previous_until: datetime | None = None
    """How long the key before the last rotation still opens."""
    key: str | None = None


class ApiKeys:
    """The keys in their database, with a one-second memory.

    ``rotation_grace_s``: how long a key still opens after another has taken its place.
    """

    def __init__(
        self, pool: Pool, *, rotation_grace_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pool = pool
        self.uses = KeyUses(pool)
        self._rotation_grace_s = rotation_grace_s
        self._queries = load_queries(resources.files("refdesk.access") / "keys.sql")
        self._clock = clock
        self._known: dict[str, tuple[float, asyncio.Task[Principal | None]]] = {}
        """When each key was looked up, and the look-up: a burst of requests with one key looks once, not each for itself."""
        self._exists: tuple[float, bool] = (float("-inf"), False)

    async def principal(self, key: str) -> Principal | None:
        """The principal of this key; None when it is not one of ours, was revoked, or has expired."""
        key_id = key_id_of(key)
        if not key_id:
            return None
        now = self._clock()  # before the look-up: what it says may be as old as that
        remembered = self._known.get(key)
        if remembered is None or now - remembered[0] >= CACHE_SECONDS:
            if len(self._known) >= CACHED_KEYS_MAX:
                self._known.clear()
            remembered = self._known[key] = now, asyncio.create_task(self._look_up(key_id, key))
        try:
            principal = await asyncio.shield(remembered[1])
        except RefdeskError:
            if self._known.get(key) is remembered:
                del self._known[key]
            raise
        if principal is not None:
            self.uses.note(principal.name)
        return principal

    async def principals(self, key_ids: Sequence[str]) -> dict[str, Principal]:
        """The principals of those keys that are there now, by the key's id: never from memory."""
        async with one_statement(self.pool) as connection:
            rows = await (await connection.execute(self._queries.find_keys, {"ids": list(key_ids)})).fetchall()
        return {key_id: _principal(*columns) for key_id, *columns in rows}

    async def named(self, name: str) -> str | None:
        """The principal's id of the key that has this name now; None when no key has."""
        async with one_statement(self.pool) as connection:
            row = await (await connection.execute(self._queries.find_named, {"name": name})).fetchone()
        return None if row is None else str(row[0])

    async def exist(self) -> bool:
        """Whether any key exists: from then on every caller needs one."""
        now = self._clock()
        checked_at, exists = self._exists
        if now - checked_at < CACHE_SECONDS:
            return exists
        async with one_statement(self.pool) as connection:
            row = await (await connection.execute(self._queries.any_key)).fetchone()
        exists = bool(row and row[0])
        self._exists = (now, exists)
        return exists

    async def create(
        self,
        name: str,
        groups: tuple[str, ...] = (),
        *,
        role: Role = "writer",
        holder: Holder = "person",
        expires_at: datetime | None = None,
        principal: str | None = None,
    ) -> KeyView:
        """A key of a new principal, even under a name that was used before; or of ``principal``, whose id that is.

        Raises InvalidRequest for a bad name, group, role or end, Conflict when the name is taken.
        """
        _check_name(name)
        _check_rights(groups, role)
        _check_end(expires_at)
        if principal in RESERVED_NAMES:
            raise InvalidRequest(f"{principal!r} is Refdesk's own; no key can be its.", field="principal")
        columns = _columns(name, groups, role=role)
        columns |= {"holder": holder, "expires_at": expires_at, "principal_id": principal}
        made = await self._make(self._queries.create_key, columns)
        if made is None:
            raise Conflict(f"There is a key named {name!r} already. Choose another name, or revoke that one first.")
        return made

    async def rotate(self, name: str, *, expires_at: datetime | None = None) -> KeyView:
        """Another key for the same principal; the one before stops working, after the grace. Raises InvalidRequest, NotFound."""
        _check_end(expires_at)
        values = {"name": name, "expires_at": expires_at, "grace_s": self._rotation_grace_s}
        made = await self._make(self._queries.rotate_key, values)
        if made is None:
            raise _no_key(name)
        return made

    async def change(
        self,
        name: str,
        *,
        groups: tuple[str, ...] | None = None,
        role: Role | None = None,
        expires_at: datetime | UnsetType | None = UNSET,
    ) -> KeyView:
        """The key with other groups, another role or another end; what is not given stays. Raises InvalidRequest, NotFound."""
        async with transaction(self.pool) as connection:
            row = await (await connection.execute(self._queries.lock_key, {"name": name})).fetchone()
            if row is None:
                raise _no_key(name)
            before, kept_role = _view(row), row[3]  # a role that came with a group goes with it
            groups = before.groups if groups is None else tuple(sorted(set(groups)))
            role = kept_role if role is None else role
            _check_rights(groups, role)
            if isinstance(expires_at, UnsetType):
                expires_at = before.expires_at
            else:
                _check_end(expires_at)
            values = {"name": name, "groups": list(groups), "role": role, "expires_at": expires_at}
            await connection.execute(self._queries.change_key, values)
        self.forget()
        return msgspec.structs.replace(before, groups=groups, role=role_within(groups, role), expires_at=expires_at)

    async def adopt(self, key: str, *, groups: tuple[str, ...]) -> Adoption:
        """Let a key in that was made elsewhere, unless it is known, or another took its place (``rotate``).

        Any number of processes may do so at once.
        Its name is made from its id, so that a key that takes another's place does not need the other's name.
        Raises ConfigurationError when this is not a key, or its id belongs to another one.
        """
        key_id = key_id_of(key)
        if not key_id:
            raise ConfigurationError("This is not a key of Refdesk's. `refdesk keys generate` makes one.")
        columns = _columns(f"bootstrap-{key_id}", groups)
        if await self._make(self._queries.create_key, columns, key=key) is not None:
            return "new"
        if await self._look_up(key_id, key) is not None:
            return "known"
        if not await self.principals([key_id]) and await self.named(columns["name"]) is not None:
            return "rotated"
        raise ConfigurationError(f"Another key has the id {key_id}. Make a new one with `refdesk keys generate`.")

    async def listing(self) -> list[KeyView]:
        async with transaction(self.pool) as connection:
            rows = await (await connection.execute(self._queries.list_keys)).fetchall()
        return [_view(row) for row in rows]

    async def revoke(self, name: str) -> None:
        """Raises NotFound when there is no such key."""
        async with transaction(self.pool) as connection:
            row = await (await connection.execute(self._queries.revoke_key, {"name": name})).fetchone()
        if row is None:
            raise _no_key(name)
        self.forget()

    def forget(self) -> None:
        """Look again before anybody is let in: something has changed."""
        self._known.clear()
        self._exists = (float("-inf"), False)

    async def _make(self, query: bytes, columns: Mapping[str, Any], *, key: str | None = None) -> KeyView | None:
        key = key or new_key()
        values = {"id": key_id_of(key), "key_sha256": _digest(key), **columns}
        async with transaction(self.pool) as connection:
            row = await (await connection.execute(query, values)).fetchone()
        self.forget()
        return None if row is None else msgspec.structs.replace(_view(row), key=key)

    async def _look_up(self, key_id: str, key: str) -> Principal | None:
        async with one_statement(self.pool) as connection:
            row = await (await connection.execute(self._queries.find_key, {"id": key_id})).fetchone()
        if row is None or not hmac.compare_digest(bytes(row[-1]), _digest(key)):
            return None
        return _principal(*row[:-1])


@asynccontextmanager
async def open_api_keys(
    url: str, *, setting: str, wait_s: float = 0.0, connections_max: int = 2, rotation_grace_s: float = 0.0
) -> AsyncIterator[ApiKeys]:
    """The keys of the database at ``url``, which ``setting`` names; its table is made when it is not there.

    Raises ConfigurationError when that is no database, or one that refuses us.
    """
    await require_database(url, setting=setting, wait_s=wait_s)
    async with open_pool(url, name="refdesk keys", size_max=connections_max) as pool:
        await migrate(pool, MIGRATIONS)
        yield ApiKeys(pool, rotation_grace_s=rotation_grace_s)


def new_key() -> str:
    """A new key; it opens nothing until a database has it."""
    body = f"rdk_{secrets.token_hex(4)}_{secrets.token_hex(32)}"
    return body + _checksum(body)


def key_id_of(key: str) -> str:
    """The part of a key that names it and is no secret; empty for what is no key of ours, or is mistyped."""
    match = _KEY.fullmatch(key)
    return match["id"] if match is not None and match["checksum"] == _checksum(key[:-8]) else ""


def _principal(principal_id: str, name: str, groups: Sequence[str], role: Role) -> Principal:
    return Principal(id=principal_id, groups=tuple(groups), name=name, role=role_within(groups, role))


def _view(row: Sequence[Any]) -> KeyView:
    principal_id, name, groups, role, holder, created_at, expires_at, last_used_at, previous_until = row
    return KeyView(
        id=principal_id,
        name=name,
        groups=tuple(groups),
        role=role_within(groups, role),
        holder=holder,
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
        previous_until=previous_until,
    )


def _columns(name: str, groups: Sequence[str], *, role: Role = "writer") -> dict[str, Any]:
    """Of a person's key that does not expire, and is a principal of its own."""
    rights = {"name": name, "groups": sorted(set(groups)), "role": role}
    return {**rights, "holder": "person", "expires_at": None, "principal_id": None}


def _no_key(name: str) -> NotFound:
    return NotFound(f"There is no key named {name!r}. `refdesk keys list` shows them.")


def _check_name(name: str) -> None:
    if not is_reader(name) or name.startswith(PRINCIPAL_PREFIX):
        raise InvalidRequest(
            f"{name!r} cannot name a key: use letters, digits and . _ @ + - (128 at most).", field="name"
        )
    if _PRINCIPAL_ID.fullmatch(name):
        raise InvalidRequest(f"{name!r} looks like a principal's id. Choose another name for the key.", field="name")
    if name in RESERVED_NAMES:
        raise InvalidRequest(f"{name!r} is Refdesk's own name. Choose another for the key.", field="name")


def _check_rights(groups: tuple[str, ...], role: Role) -> None:
    if len(groups) > GROUPS_MAX:
        raise InvalidRequest(f"{len(groups)} groups are too many for one key.", limit=GROUPS_MAX, actual=len(groups))
    for group in groups:
        if not is_reader(group) or group.startswith(PRINCIPAL_PREFIX) or group == EVERYONE:
            raise InvalidRequest(f"{group!r} cannot name a group: use letters, digits and . _ @ + -.", field="groups")
        meant = ROLE_GROUPS.get(group, role)
        if role not in ("writer", "administrator", meant):
            raise InvalidRequest(
                f"The group {group!r} stands for the role `{meant}`; a key whose role is `{role}` cannot be in it.",
                field="role",
            )


def _check_end(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidRequest(
            f"expires_at is {expires_at.isoformat()}, which is past. Give a time to come.", field="expires_at"
        )


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
