"""A model that keeps failing is left alone, then tried by one call at a time."""

from contextlib import suppress

import pytest

from refdesk.answering.writing.circuit import Attempt, Circuit, State
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.llm.errors import LlmRefused


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("test", failures_max=3, cool_down_s=10, clock=clock)


def attempted(circuit: Circuit) -> Attempt:
    attempt = circuit.attempt()
    assert attempt is not None
    return attempt


def end(attempt: Attempt, error: BaseException | None = None) -> None:
    with suppress(BaseException), attempt:
        if error is not None:
            raise error


def fail(circuit: Circuit, times: int = 1) -> None:
    for _ in range(times):
        end(attempted(circuit), ModelFailed())


def test_it_opens_after_failures_in_a_row(circuit: Circuit) -> None:
    """And a success in between starts the count again."""
    fail(circuit, 2)
    end(attempted(circuit))
    fail(circuit, 2)
    assert circuit.state is State.CLOSED
    fail(circuit)
    assert circuit.state is State.OPEN
    assert not circuit.attempt()


def test_one_call_at_a_time_tries_a_model_that_has_cooled_down(circuit: Circuit, clock: Clock) -> None:
    """The others are kept away until it has ended."""
    fail(circuit, 3)
    clock.now = 9.9
    assert not circuit.attempt()
    clock.now = 10
    assert circuit.attempt()
    assert circuit.state is State.HALF_OPEN
    assert not circuit.attempt()


def test_a_successful_try_closes_it(circuit: Circuit, clock: Clock) -> None:
    """Everybody may call again."""
    fail(circuit, 3)
    clock.now = 10
    end(attempted(circuit))
    assert circuit.state is State.CLOSED
    fail(circuit, 2)
    assert circuit.attempt()


def test_a_failed_try_opens_it_for_another_while(circuit: Circuit, clock: Clock) -> None:
    """Counted from the try."""
    fail(circuit, 3)
    clock.now = 10
    fail(circuit)
    clock.now = 19.9
    assert not circuit.attempt()
    clock.now = 20
    assert circuit.attempt()


def test_an_abandoned_try_lets_the_next_call_try(circuit: Circuit, clock: Clock) -> None:
    """A reader who left says nothing about the model."""
    fail(circuit, 3)
    clock.now = 10
    end(attempted(circuit), GeneratorExit())
    assert circuit.attempt()


def test_a_refused_request_is_no_failure_of_the_model(circuit: Circuit) -> None:
    """Its question was at fault."""
    for _ in range(10):
        end(attempted(circuit), LlmRefused())
    assert circuit.state is State.CLOSED


def test_calls_from_before_it_opened_do_not_let_a_second_try_in(circuit: Circuit, clock: Clock) -> None:
    """Whatever becomes of them, one call at a time tries."""
    early = [attempted(circuit) for _ in range(3)]
    fail(circuit, 3)
    clock.now = 10
    probe = attempted(circuit)
    end(early[0], GeneratorExit())
    end(early[1], ModelFailed())
    end(early[2])
    assert circuit.state is State.HALF_OPEN
    assert not circuit.attempt()
    end(probe)
    assert circuit.state is State.CLOSED
