"""Something that the provider publishes: kept for a while, fetched again for a reason, and never more often than every so many
seconds, whoever asks. What fails leaves what was fetched before, for as long as that may be old.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Generic, TypeVar

from refdesk.outside.oidc_provider import ProviderSilent

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Fetched(Generic[T]):
    """``fetch`` raises ProviderSilent; so does `get`, once nothing that is young enough is there."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        *,
        age_s_max: float,
        pause_s: float,
        silence_s_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._age_s_max = age_s_max
        self._pause_s = pause_s
        self._silence_s_max = silence_s_max
        self._clock = clock
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._error: ProviderSilent | None = None
        self._turn = asyncio.Lock()

    async def get(self, *, age_s_max: float | None = None) -> T:
        """The value, at most ``age_s_max`` old, or older by ``silence_s_max`` while the provider is silent."""
        if self._value is not None and self._age_s() < (age_s_max or self._age_s_max):
            return self._value
        return await self.renewed()

    async def looked_at(self, *, age_s_max: float) -> None:
        """Raises ProviderSilent when the last try failed, that is at most ``age_s_max`` old."""
        await self.get(age_s_max=age_s_max)
        if self._error is not None:
            await self.renewed()
        if self._error is not None:
            raise copy(self._error)

    async def renewed(self) -> T:
        """The value as it is now, or as it was at most ``pause_s`` ago."""
        async with self._turn:
            if self._clock() - self._tried_at >= self._pause_s:
                await self._try()
        if self._value is not None and self._age_s() < self._age_s_max + self._silence_s_max:
            return self._value
        raise copy(self._error or ProviderSilent())

    async def _try(self) -> None:
        self._tried_at = self._clock()
        try:
            self._value = await self._fetch()
        except ProviderSilent as error:
            self._error = error
            logger.warning("%s", error)
        else:
            self._fetched_at, self._error = self._tried_at, None

    def _age_s(self) -> float:
        return self._clock() - self._fetched_at
