"""What a Valkey or Redis says about itself, and what of that will not do: its version, and what it drops when it is full.

Everything that is kept here has a time to live, so every policy that evicts may drop it. What was not used for longest is an old
answer, and to drop that costs a new one. To drop at random, or what ends soonest, is another thing: leases of answers being
written live for seconds, and budgets for a minute or a day.
"""

import asyncio
import logging
from contextlib import suppress

import msgspec

from refdesk.outside.valkey.client import Valkey
from refdesk.outside.valkey.errors import ValkeyError

logger = logging.getLogger(__name__)

VERSION_MIN = (6, 0)
"""Of Redis; every Valkey is newer. Streams came with 5.0, users with 6.0."""
LOOK_INTERVAL_S = 60.0
POLICIES = frozenset({"volatile-lru", "allkeys-lru"})
"""What may be evicted is what was not used for longest."""


class Shortcoming(msgspec.Struct, frozen=True):
    """What will not do, and what to do about it."""

    what: str
    mend: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` is the product's own, ``redis_version`` the Redis that it is like; ``memory_bytes_max`` 0 means no bound."""

    product: str
    version: str
    redis_version: tuple[int, ...]
    policy: str
    memory_bytes_max: int

    def shortcomings(self) -> list[Shortcoming]:
        return [found for found in (self._of_version(), self._of_policy()) if found is not None]

    def _of_version(self) -> Shortcoming | None:
        if self.redis_version >= VERSION_MIN:
            return None
        wanted = ".".join(map(str, VERSION_MIN))
        what = f"{self.product} {self.version} is too old; Redis {wanted} or any Valkey is needed"
        return Shortcoming(what, "Update that server.")

    def _of_policy(self) -> Shortcoming | None:
        if not self.memory_bytes_max or self.policy in POLICIES:
            return None
        loss = (
            "it refuses every write: answers are not kept then, and budgets not checked"
            if self.policy == "noeviction"
            else "it may drop budgets and answers under way"
        )
        return Shortcoming(
            f"when its {self.memory_bytes_max:,} bytes are full {loss} (maxmemory-policy {self.policy})",
            "Set `maxmemory-policy volatile-lru`: it drops what was not used for longest.",
        )


async def read_about(valkey: Valkey) -> About:
    """Raises ValkeyError when it does not say."""
    sections = await valkey.commands([("INFO", "server"), ("INFO", "memory")])
    said: dict[str, str] = dict(
        line.split(":", 1) for section in sections for line in section.decode().splitlines() if ":" in line
    )
    like = said.get("redis_version", "0")
    return About(
        product="Valkey" if "valkey_version" in said else "Redis",
        version=said.get("valkey_version", like),
        redis_version=tuple(int(part) for part in like.split(".")[:2] if part.isdigit()),
        policy=said.get("maxmemory_policy", "noeviction"),
        memory_bytes_max=int(said.get("maxmemory", 0)),
    )


async def warn_of_shortcomings(valkey: Valkey) -> None:
    """At the start, and when there are new ones; that Valkey is away is told elsewhere."""
    known: list[Shortcoming] = []
    while True:
        with suppress(ValkeyError):
            found = (await read_about(valkey)).shortcomings()
            for shortcoming in found:
                if shortcoming not in known:
                    logger.warning("Valkey: %s. %s", shortcoming.what, shortcoming.mend)
            known = found
        await asyncio.sleep(LOOK_INTERVAL_S)
