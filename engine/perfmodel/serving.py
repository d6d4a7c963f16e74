"""What users of a loaded server see, from the phases of one request: steady load with continuous batching.

Every decode step is shared with the prefill of those who come and go: over the life of a request each of the
other sequences is replaced once, so each output token shares its step with batch / output prefills. Fitted
on 177 serving runs of one model, this one coefficient beside the kernels explains the time per token to 8 %
at tensor splits, batches and lengths it has not seen (docs/calibration.md).
"""

from __future__ import annotations

import math
from typing import Final

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.bands import factors
from engine.perfmodel.phase import Phase
from engine.perfmodel.program import Plan

_FULL: Final = 0.999


def serving_metrics(
    a: Arithmetic, plan: Plan, *, batch: Values, output: Values, prefill: Phase, generation: Phase
) -> dict[str, Values]:
    """Metrics under steady load at a concurrency of `batch`; empty where no engine's terms are known."""
    request = None if plan.timing is None else plan.timing.chosen.request
    if request is None or plan.timing is None:
        return {}
    more = a.maximum(output - 1, 1)
    decode = generation.time_s / more
    interference = prefill.time_s * (request.interference / output)
    tpot = decode + interference
    low, high = factors(a, request.bands, tpot)
    wider = plan.timing.chosen.widened
    # Below the bound nothing can be, whatever the quantiles of other models say.
    floor = tpot if generation.bound_s is None else generation.bound_s / more
    shortest, longest = a.maximum(tpot * (low / wider), floor), tpot * (high * wider)
    rate = batch / tpot
    found = {
        "serving_tpot_s": tpot,
        "serving_tpot_s_low": shortest,
        "serving_tpot_s_high": longest,
        "serving_interference_s": interference,
        "serving_output_tokens_per_s": rate,
    }
    one = prefill.time_s / batch
    found["serving_ttft_s"] = _first_token_s(a, one, tpot, rate / output)
    arrivals = plan.deployment.settings.arrivals
    if arrivals is not None:
        queue = _queue_s(a, arrivals, batch, held_s=one + output * tpot)
        found["serving_queue_s"] = queue
        found["serving_ttft_s"] = _first_token_s(a, one, tpot, arrivals) + queue
    return found


def _first_token_s(a: Arithmetic, prefill_s: Values, step_s: Values, requests_per_s: Values) -> Values:
    """Half a step until the scheduler looks, the wait behind other prefills (Pollaczek-Khinchine with equal
    service times), and the own prefill."""
    busy = a.minimum(requests_per_s * prefill_s, _FULL)
    return step_s / 2 + prefill_s * busy / (2 * (1 - busy)) + prefill_s


def _queue_s(a: Arithmetic, arrivals_per_s: float, slots: Values, *, held_s: Values) -> Values:
    """Mean wait for one of the slots of the batch under Poisson arrivals; not-a-number where more arrive
    than leave. Sakasegawa, Ann. Inst. Statist. Math. 29 (1977): M/M/c to a few percent."""
    load = arrivals_per_s * held_s / slots
    possible = a.where(load < 1, a.minimum(load, _FULL), math.nan)
    return held_s / slots * possible ** (a.sqrt(2 * (slots + 1)) - 1) / (1 - possible)
