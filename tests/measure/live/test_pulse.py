"""Calls in the event loop every so often, by a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

from engine.measure.live.pulse import Pulse


def beating():
    return [thread for thread in threading.enumerate() if thread.name == "pulse"]


def wait_for_silence():
    until = time.monotonic() + 10
    while beating() and time.monotonic() < until:
        time.sleep(0.005)
    return not beating()


def test_calls_come_when_they_are_due_and_none_after_the_end():
    async def run():
        calls = []
        pulse = Pulse(0.002, lambda due: calls.append((due, time.perf_counter())))
        while len(calls) < 5:
            await asyncio.sleep(0.002)
        pulse.stop()
        seen = len(calls)
        await asyncio.sleep(0.02)
        return calls, seen

    begin = time.perf_counter()
    calls, seen = asyncio.run(run())
    assert len(calls) == seen
    dues = [due for due, _ in calls]
    assert dues[0] >= begin + 0.002
    assert all(abs(b - a - 0.002) < 1e-9 for a, b in pairwise(dues))
    assert all(called >= due for due, called in calls)
    assert wait_for_silence()


def test_a_loop_that_was_closed_is_left_alone():
    async def run():
        Pulse(0.002, print)

    asyncio.run(run())
    assert wait_for_silence()
