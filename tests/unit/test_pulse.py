"""When a process that runs is taken for frozen, and when it has an excuse."""

import asyncio
import os
from itertools import count

import pytest

from refdesk.app.embedded.pulse import Pulse, until_silent

SILENCE_S = 0.2


async def silent() -> bool:
    return False


def pulse() -> Pulse:
    return Pulse(beats=silent, look_s_max=0.05, silence_s_max=SILENCE_S)


async def test_silence_is_noticed() -> None:
    """Nothing but silence: it returns."""
    async with asyncio.timeout(10):
        await until_silent(pulse(), process_id=os.getpid(), waited=lambda: 0.0)


async def test_a_beat_begins_the_count_anew() -> None:
    """One answer in ten looks is enough; then there is none."""
    looks = 0

    async def beats() -> bool:
        nonlocal looks
        looks += 1
        return looks <= 50 and looks % 10 == 0

    async with asyncio.timeout(10):
        await until_silent(Pulse(beats=beats, look_s_max=0.05, silence_s_max=SILENCE_S), process_id=os.getpid())
    assert looks > 50


async def test_our_own_stillness_is_not_its_silence() -> None:
    """An hour between two looks counts for no more than a look may take."""
    hours = count(step=3600.0)
    looks = 0

    async def beats() -> bool:
        nonlocal looks
        looks += 1
        return False

    held = Pulse(beats=beats, look_s_max=0.01, silence_s_max=SILENCE_S)
    async with asyncio.timeout(10):
        await until_silent(held, process_id=os.getpid(), waited=lambda: 0.0, clock=lambda: next(hours))
    assert looks >= SILENCE_S / (held.pause_s + held.look_s_max) - 1


@pytest.mark.parametrize(("starved", "longer"), [(0.0, False), (1.0, True)])
async def test_waiting_for_a_processor_is_an_excuse(starved: float, longer: bool) -> None:
    """Not for ever."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.timeout(20):
        await until_silent(pulse(), process_id=os.getpid(), waited=lambda: starved * (loop.time() - begin))
    assert (loop.time() - begin >= 4 * SILENCE_S) == longer
