"""The clocks of a call to a language model, and the deadline that they add up to."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from refdesk.outside.http_client import Reply
from refdesk.settings.models import Clocks

LAST_WORDS_S = 1.0
"""How long a model that has finished may take to report its usage and close."""


class Deadline:
    """Until when a reply may be read; then its reads raise TimeoutError.

    It moves with every token, so moving it costs nothing: the timer looks at it only when it goes off.
    """

    def __init__(self, clocks: Clocks) -> None:
        self._waiting_for = "send its first token"
        self._clocks = clocks
        self._moved_at = time.monotonic()
        self._latest = self._moved_at + clocks.total_s
        self._patience_s = clocks.first_token_s
        self._has_begun = False
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self, reply: Reply) -> Iterator[None]:
        self._reply = reply
        self._set_timer()
        try:
            yield
        finally:
            self._stop_timer()

    @property
    def missed(self) -> str:
        """What did not happen within which time."""
        if time.monotonic() >= self._latest:
            return f"finish within {self._clocks.total_s:g} s (REFDESK_LLM_TOTAL_TIMEOUT_S)"
        return f"{self._waiting_for} within {self._patience_s:g} s"

    def heard(self) -> None:
        """There was a token."""
        self._moved_at = time.monotonic()
        if not self._has_begun:
            self._has_begun = True
            self._wait_for("go on", self._clocks.between_tokens_s)

    def over(self) -> None:
        """There will be none any more."""
        self._has_begun = True
        self._wait_for("end", LAST_WORDS_S)

    def _wait_for(self, what: str, patience_s: float) -> None:
        self._waiting_for, self._patience_s, self._moved_at = what, patience_s, time.monotonic()
        self._set_timer()

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(max(self._left_s(), 0), self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _left_s(self) -> float:
        return min(self._moved_at + self._patience_s, self._latest) - time.monotonic()

    def _look(self) -> None:
        if self._left_s() > 0:
            self._set_timer()
        elif self._reply is not None:
            self._reply.fail(TimeoutError())
