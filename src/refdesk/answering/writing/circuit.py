"""A circuit breaker: a model that keeps failing is left alone for a while, then tried by one call at a time.

closed ──failures_max in a row──▶ open ──cool_down_s──▶ half open ──success──▶ closed
                                    ▲                        └──failure──▶ open
"""

import time
from collections.abc import Callable
from enum import IntEnum

from refdesk.contracts.errors import ModelFailed
from refdesk.outside import telemetry


class State(IntEnum):
    """The values of ``refdesk_llm_circuit_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Attempt:
    """A call that was allowed, as a context: how it ends is how it went. One that outlives its state has no say any more."""

    def __init__(self, circuit: "Circuit", era: int) -> None:
        self._circuit = circuit
        self._era = era

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """A refusal of the request itself says nothing about the model's health, and neither does a call that we cut off."""
        if error is None:
            self._circuit.ended(self._era, failure=False)
        else:
            is_unwell = isinstance(error, ModelFailed) and error.retryable
            self._circuit.ended(self._era, failure=True if is_unwell else None)


class Circuit:
    """The circuit breaker of one model. Make an ``attempt`` for each call, and report its outcome to it."""

    def __init__(
        self,
        model: str,
        *,
        failures_max: int,
        cool_down_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._failures_max = failures_max
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0
        self._state = State.CLOSED
        self._era = 0
        """Counts the changes of state."""
        self._set(State.CLOSED)

    @property
    def state(self) -> State:
        return self._state

    def attempt(self) -> Attempt | None:
        """None when the model is to be left alone."""
        if self._state is State.OPEN and self._clock() - self._opened_at >= self._cool_down_s:
            self._set(State.HALF_OPEN)
        elif self._state is not State.CLOSED:
            return None
        return Attempt(self, self._era)

    def ended(self, era: int, *, failure: bool | None) -> None:
        """How an attempt of that era ended; None tells nothing."""
        if era != self._era:
            return
        if failure is None:
            if self._state is State.HALF_OPEN:
                self._set(State.OPEN)
        elif not failure:
            self._failures = 0
            if self._state is not State.CLOSED:
                self._set(State.CLOSED)
        else:
            self._failures += 1
            if self._state is State.HALF_OPEN or self._failures >= self._failures_max:
                self._opened_at = self._clock()
                self._set(State.OPEN)

    def _set(self, state: State) -> None:
        self._era += state is not self._state
        self._state = state
        telemetry.llm_circuit_state.labels(telemetry.PROVIDER, self._model).set(state)
