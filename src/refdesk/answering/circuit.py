"""A circuit breaker: a model that keeps failing is left alone for a while, then tried by one call at a time.

closed ──failures_max in a row──▶ open ──cool_down_s──▶ half open ──success──▶ closed
                                    ▲                        └──failure──▶ open
"""

import time
from collections.abc import Callable
from enum import IntEnum

from refdesk.contracts.errors import ModelFailed
from refdesk.outside import telemetry

FAILURES_MAX = 5
COOL_DOWN_S = 10.0


class State(IntEnum):
    """The values of ``refdesk_llm_circuit_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Circuit:
    """One model's. Ask ``allows`` before a call, then say how it went: each allowed call ends in exactly one of the three."""

    def __init__(
        self,
        model: str,
        *,
        failures_max: int = FAILURES_MAX,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._failures_max = failures_max
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0
        self._set(State.CLOSED)

    @property
    def state(self) -> State:
        return self._state

    def allows(self) -> bool:
        if self._state is State.CLOSED:
            return True
        if self._state is State.OPEN and self._clock() - self._opened_at >= self._cool_down_s:
            self._set(State.HALF_OPEN)
            return True
        return False

    def succeeded(self) -> None:
        self._failures = 0
        self._set(State.CLOSED)

    def failed(self, error: ModelFailed) -> None:
        """A refusal of the request itself says nothing about the model's health."""
        if not error.retryable:
            self.abandoned()
            return
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= self._failures_max:
            self._opened_at = self._clock()
            self._set(State.OPEN)

    def abandoned(self) -> None:
        """The call was cut off from our side before it could show anything: the next one may probe."""
        if self._state is State.HALF_OPEN:
            self._set(State.OPEN)

    def _set(self, state: State) -> None:
        self._state = state
        telemetry.llm_circuit_state.labels(self._model).set(state)
