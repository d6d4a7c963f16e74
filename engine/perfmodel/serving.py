"""What users of a loaded server see, from the phases of one request: steady load with continuous batching.

Every decode step is shared with the prefill of those who come and go: over the life of a request each of the
other sequences is replaced once, so each output token shares its step with (batch - 1) / output prefills; who
is alone waits for nobody. A prefill that rides in a step takes its share of a batch of prefills, since the
weights are read anyway. Fitted on 177 serving runs of one model, this one coefficient beside the kernels
explains the time per token to 7 % at splits, batches and lengths it has not seen (docs/calibration.md).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.bands import factors
from engine.perfmodel.calibration import prompt_overhead_s
from engine.perfmodel.phase import Phase
from engine.perfmodel.program import Plan

_FULL: Final = 0.999


def serving_metrics(
    a: Arithmetic,
    plan: Plan,
    *,
    prompt: Values,
    batch: Values,
    output: Values,
    prefill: Phase,
    generation: Phase,
) -> dict[str, Values]:
    """Metrics under steady load at a concurrency of `batch`; empty where no engine's terms are known."""
    request = None if plan.timing is None else plan.timing.chosen.request
    if request is None or plan.timing is None:
        return {}
    settings = plan.deployment.settings
    more = a.maximum(output - 1, 1)
    decode = generation.time_s / more
    alone = 0.0 if prefill.estimate is None else a.minimum(prefill.estimate.launch_s, prefill.time_s)
    # A prompt that comes alone launches as many kernels as a batch of them, and is a step of its own.
    apart = prompt_overhead_s(a, plan.timing, prompt)
    shared = a.maximum(prefill.time_s - prompt_overhead_s(a, plan.timing, batch * prompt), 0.0)
    one = a.maximum(shared - alone, 0.0) / batch + alone + apart
    others = prefill_share_s(shared + apart * batch, batch, output)
    interference = others * request.interference
    if settings.arrivals is not None:
        # Prefills that arrive take their share of the time, steps what is left; never more than a full batch.
        left = a.maximum(1 - request.interference * settings.arrivals * one, 1 - _FULL)
        interference = a.minimum(interference, decode / left - decode)
    tpot = decode + interference
    low, high = factors(a, request.bands, tpot)
    wider = plan.timing.chosen.widened
    # Below the bound nothing can be, whatever the quantiles of other models say.
    floor = tpot if generation.bound_s is None else generation.bound_s / more
    found = {
        "serving_tpot_s": tpot,
        "serving_tpot_s_low": a.maximum(tpot * (low / wider), floor),
        "serving_tpot_s_high": tpot * (high * wider),
        "serving_interference_s": interference,
    }
    life = _Life(one, decode, tpot, output)
    if settings.arrivals is None:
        return found | _closed(a, life, batch, settings.waves)
    return found | _open(a, life, batch, settings.arrivals)


def prefill_share_s(prefill_s: Values, batch: Values, output: Values) -> Values:
    """Prefill time of others that an output token shares its step with, from that of a whole batch."""
    return prefill_s * ((batch - 1) / (batch * output))


def _closed(a: Arithmetic, life: _Life, batch: Values, waves: int | None) -> dict[str, Values]:
    """A number of users each of whom sends the next request when the last one ended."""
    # Who arrives meets the others as if they were alone (Reiser and Lavenberg, JACM 27, 1980).
    per_s = (batch - 1) / a.maximum(life.output * life.tpot_s, life.prefill_s)
    first = life.first_s(a, per_s, others=1 - 1 / batch)
    if waves is not None:
        first = first + life.prefill_s * (batch - 1) * (1 / (2 * waves))
    whole = first + life.decode_s
    return {
        "serving_batch": batch * life.decode_s / whole,
        "serving_ttft_s": first,
        "serving_output_tokens_per_s": batch * life.output / whole,
    }


def _open(a: Arithmetic, life: _Life, batch: Values, arrivals: float) -> dict[str, Values]:
    """Users that come whatever the server does."""
    running = a.minimum(arrivals * life.decode_s, batch)
    first = life.first_s(a, arrivals, others=1 - a.exp(-running))
    queue = _queue_s(a, arrivals, batch, held_s=first + life.decode_s)
    stable = queue == queue
    return {
        "serving_queue_s": queue,
        "serving_batch": running,
        "serving_ttft_s": first + queue,
        "serving_output_tokens_per_s": a.where(stable, arrivals * life.output, batch / life.tpot_s),
    }


class _Life(NamedTuple):
    """What a request goes through once it has a place."""

    prefill_s: Values
    step_s: Values
    """A decode step without prefills."""
    tpot_s: Values
    output: Values

    @property
    def decode_s(self) -> Values:
        """From the first token to the last."""
        return (self.output - 1) * self.tpot_s

    def first_s(self, a: Arithmetic, requests_per_s: Values, *, others: Values) -> Values:
        """Half a step until the scheduler looks, a step together with those who decode, the own prefill and
        the wait behind those of others (Pollaczek-Khinchine with equal service times); `others` is the
        chance that somebody decodes."""
        busy = a.minimum(requests_per_s * self.prefill_s, _FULL)
        return 1.5 * self.step_s * others + self.prefill_s * (1 + busy / (2 * (1 - busy)))


def _queue_s(a: Arithmetic, arrivals_per_s: float, slots: Values, *, held_s: Values) -> Values:
    """Mean wait for one of the slots of the batch under Poisson arrivals; not-a-number where more arrive
    than leave. Sakasegawa, Ann. Inst. Statist. Math. 29 (1977): M/M/c to a few percent."""
    load = arrivals_per_s * held_s / slots
    possible = a.where(load < 1, a.minimum(load, _FULL), math.nan)
    return held_s / slots * possible ** (a.sqrt(2 * (slots + 1)) - 1) / (1 - possible)
