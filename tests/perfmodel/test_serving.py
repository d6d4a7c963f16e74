"""Metrics under load against a simulation of a server that works in steps.

A step carries one token of every running request and the whole prompt of every request it admits; it takes
the decode step and the prefills one after the other. Output lengths are geometric, so that requests do not
stay in lockstep, and so that the time a place is held is memoryless, as M/M/c has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.point import predict_point
from engine.spec.analytical import AnalyticalSettings
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.workload import Workload

H100 = load_hardware("h100-sxm-80gb")
CHOSEN = choose("auto", H100, load_calibrations([H100]))
PROMPT, OUTPUT = 1000, 100


@dataclass
class Request:
    """Times of one request of the simulation."""

    came_s: float
    tokens: int
    first_s: float = 0.0
    done_s: float = 0.0
    admitted_s: float = 0.0


@dataclass(frozen=True)
class Server:
    """Its step, its prefills and its places."""

    step_s: float
    launch_s: float
    """Of all prefills of a step together."""
    prefill_s: float
    places: int

    def serve(self, waiting: Iterator[Request], *, closed: int | None, requests: int) -> list[Request]:
        """Requests in the order they end; `closed` users send the next as soon as the last ended."""
        queue = [next(waiting) for _ in range(closed or 1)]
        running: list[Request] = []
        done: list[Request] = []
        now = queue[0].came_s
        while len(done) < requests:
            while closed is None and queue[-1].came_s <= now:
                queue.append(next(waiting))
            room = self.places - len(running)
            admitted = [r for r in queue[:room] if r.came_s <= now]
            del queue[: len(admitted)]
            if not running and not admitted:
                now = queue[0].came_s
                continue
            for request in admitted:
                request.admitted_s = now
            now += (self.step_s if running else 0.0) + self.prefill_s * len(admitted)
            now += self.launch_s if admitted else 0.0
            for request in running:
                request.tokens -= 1
            for request in admitted:
                request.first_s = now
            ended = [r for r in running if r.tokens == 0]
            running = [r for r in running if r.tokens > 0] + admitted
            for request in ended:
                request.done_s = now
                done.append(request)
                if closed is not None:
                    after = next(waiting)
                    after.came_s = now
                    queue.append(after)
        return done


def arriving(rate: float | None) -> Iterator[Request]:
    """Requests with geometric lengths, Poisson or at once; `tokens` are those after the first."""
    random = Random(7)
    now = 0.0
    while True:
        now += random.expovariate(rate) if rate else 0.0
        tokens = 1 + int(np.log(1 - random.random()) / np.log(1 - 1 / (OUTPUT - 1)))
        yield Request(now, tokens)


def predicted(batch: int, **settings: float) -> dict[str, float]:
    """Metrics of one request on a server that lets prefills delay steps by all of their time."""
    assert CHOSEN is not None
    assert CHOSEN.request is not None
    chosen = replace(CHOSEN, request=CHOSEN.request.model_copy(update={"interference": 1.0}))
    given = AnalyticalSettings.model_validate({"kind": "analytical", **settings}, context={"trusted": True})
    found = Deployment(
        load_model("llama-3.1-8b"), H100, load_quantization("bf16"), settings=given, calibration=chosen
    )
    workload = Workload(prompt_tokens=PROMPT, output_tokens=OUTPUT, batch_size=batch)
    return predict_point(found, workload).phases["request"]


def like(found: dict[str, float], batch: int) -> Server:
    """The server behind a prediction: its prefill is a line through those of one prompt and of a batch."""
    alone = predicted(1)["ttft_s"]
    each = (found["ttft_s"] - alone) / (batch - 1) if batch > 1 else alone
    return Server(found["tpot_s"], alone - each, each, batch)


def means(done: list[Request], lengths: dict[int, int]) -> tuple[float, float, float]:
    """Time to the first token, wait for a place, and output tokens a second, the beginning left out."""
    kept = done[len(done) // 5 :]
    first = float(np.mean([r.first_s - r.came_s for r in kept]))
    wait = float(np.mean([r.admitted_s - r.came_s for r in kept]))
    span = kept[-1].done_s - kept[0].done_s
    return first, wait, sum(lengths[id(r)] for r in kept[1:]) / span


def simulated(server: Server, *, rate: float | None = None, closed: int | None = None) -> tuple[float, ...]:
    """Means of a run, and the mean time between tokens."""
    kept: list[Request] = []
    lengths: dict[int, int] = {}

    def noted() -> Iterator[Request]:
        for request in arriving(rate):
            kept.append(request)
            lengths[id(request)] = request.tokens + 1
            yield request

    done = server.serve(noted(), closed=closed, requests=4000)
    tpot = sum(r.done_s - r.first_s for r in done) / sum(lengths[id(r)] - 1 for r in done)
    return (*means(done, lengths), tpot)


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_a_closed_load_is_what_a_simulated_server_does(batch: int) -> None:
    found = predicted(batch)
    server = like(found, batch)
    first, _, rate, tpot = simulated(server, closed=batch)
    assert found["serving_tpot_s"] == pytest.approx(tpot, rel=0.06)
    assert found["serving_output_tokens_per_s"] == pytest.approx(rate, rel=0.06)
    # Users that send the next request at once find a step just begun; others come in its middle.
    assert found["serving_ttft_s"] == pytest.approx(first, rel=0.3)


@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_a_queue_is_what_a_simulated_server_has(load: float) -> None:
    batch = 16
    capacity = predicted(batch)["serving_output_tokens_per_s"] / OUTPUT
    found = predicted(batch, arrivals=load * capacity)
    server = like(found, batch)
    first, wait, rate, _ = simulated(server, rate=load * capacity)
    assert found["serving_output_tokens_per_s"] == pytest.approx(rate, rel=0.06)
    # The simulation's wait holds the half step until the scheduler looks, which the estimate counts apart.
    assert found["serving_queue_s"] == pytest.approx(wait - found["tpot_s"] / 2, rel=0.15, abs=2e-3)
    assert found["serving_ttft_s"] == pytest.approx(first, rel=0.15)
    # Little's law: those who decode are the arrivals of a generation.
    assert found["serving_batch"] == pytest.approx(
        rate / OUTPUT * (OUTPUT - 1) * found["serving_tpot_s"], rel=0.06
    )


def test_a_start_of_all_users_at_once_adds_its_queue() -> None:
    steady, started = predicted(16), predicted(16, waves=10)
    # The first wave waits for 15 / 2 prefills at the mean, and is a tenth of all requests.
    wait = 15 / 2 / 10 * predicted(1)["ttft_s"]
    assert started["serving_ttft_s"] == pytest.approx(steady["serving_ttft_s"] + wait, rel=0.02)
    assert started["serving_tpot_s"] == steady["serving_tpot_s"]


def test_curves_over_concurrency_rise_and_flatten() -> None:
    curve = [predicted(batch) for batch in (1, 2, 4, 8, 16, 32, 64, 128)]
    rates = [found["serving_output_tokens_per_s"] for found in curve]
    assert rates == sorted(rates)
    assert rates[1] > 1.8 * rates[0]
    assert rates[-1] < 1.5 * rates[-2]
    assert all(
        0 < found["serving_batch"] < batch for found, batch in zip(curve, (1, 2, 4, 8, 16), strict=False)
    )
