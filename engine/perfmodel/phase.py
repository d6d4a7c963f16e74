"""A phase of a request over all devices: its bound, and its estimate where there are fitted parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values, scaled, shifted
from engine.perfmodel.bands import Banded, Estimate, banded
from engine.perfmodel.calibration import communication_of
from engine.perfmodel.program import Plan


class Phase(NamedTuple):
    """A phase over all devices."""

    time_s: Values
    communication_s: Values
    communication_bytes: Values
    flops: Values
    bytes: Values
    compute_s: Values
    estimate: Estimate | None = None
    """The same phase with fitted parameters; None where there is only the bound."""
    talk: Estimate | None = None
    """The part of the estimate that is communication."""
    bound_s: Values = None
    """What `time_s` was before the estimate took its place; None for a bound."""
    band: Banded | None = None
    """The 90 % band around an estimate; None for a bound."""
    steps: Values = 1
    """How often what `estimate` and `talk` hold happens: they are of the mean step of a run."""

    def plus(self, other: Phase) -> Phase:
        """Both in as many steps, one after the other, as bounds."""
        sums = Phase(*map(shifted, self[:_AMOUNTS], other[:_AMOUNTS]))._replace(steps=self.steps)
        if self.estimate is None or other.estimate is None:
            return sums
        talk = self.talk.plus(other.talk) if self.talk and other.talk else self.talk or other.talk
        return sums._replace(estimate=self.estimate.plus(other.estimate), talk=talk)

    def times(self, factor: Values) -> Phase:
        """The phase `factor` times."""
        products = Phase(*(scaled(x, factor) for x in self[:_AMOUNTS]))._replace(steps=self.steps)
        if self.estimate is None:
            return products
        talk = None if self.talk is None else self.talk.times(factor)
        return products._replace(estimate=self.estimate.times(factor), talk=talk)


_AMOUNTS: Final = 6
"""Fields of a phase that are plain amounts of the bound."""


def with_estimate(
    a: Arithmetic, plan: Plan, phase: Phase, work: Estimate, traffic: Mapping[str, Values]
) -> Phase:
    """The phase with the estimate of its mean step; the stages of a pipeline count as equally long."""
    split = plan.deployment.parallelism
    passes = 1 + (split.micro_batches - 1) / split.pipeline
    if passes != 1:
        work = work.times(passes)
    if plan.timing is None or not plan.collectives:
        return phase._replace(estimate=work)
    talk = communication_of(a, plan.timing, traffic).times(passes * (1 - split.overlap))
    return phase._replace(estimate=work.plus(talk), talk=talk)


def settled(
    a: Arithmetic, phase: Phase, possible: Values | None, band: Banded | None, *, shown: bool = True
) -> Phase:
    """The phase with its estimate in place of the bound, below which it never falls; times are not-a-number
    where `possible` is. `band` may be that of the mean of like steps; left out unless `shown`."""
    if band is not None and phase.estimate is not None:
        bound, steps = phase.time_s, phase.steps
        same = band.of is phase.estimate
        estimate = band.time_s if same else phase.estimate.time_s
        time = a.maximum(scaled(estimate, steps), bound)
        talk_s = phase.communication_s if phase.talk is None else scaled(phase.talk.time_s, steps)
        phase = phase._replace(time_s=time, bound_s=bound, communication_s=talk_s)
        if shown:
            scale = steps if same else estimate / band.time_s
            low, high = scaled(band.low_s, scale), scaled(band.high_s, scale)
            band = band._replace(low_s=a.maximum(low, bound), high_s=a.maximum(high, time))
            phase = phase._replace(band=band)
    if possible is None:
        return phase
    phase = phase._replace(time_s=phase.time_s * possible)
    if phase.bound_s is not None:
        phase = phase._replace(bound_s=phase.bound_s * possible)
    if phase.band is None:
        return phase
    low, high = phase.band.low_s * possible, phase.band.high_s * possible
    return phase._replace(band=phase.band._replace(low_s=low, high_s=high))


def band_of(a: Arithmetic, plan: Plan, phase: Phase, *, decoding: bool) -> Banded | None:
    """The band of the mean step of a phase; None for a bound."""
    if phase.estimate is None or plan.timing is None:
        return None
    request = plan.timing.chosen.request
    whole = request.bands if decoding and request is not None else ()
    return banded(a, phase.estimate, whole=whole, widened=plan.timing.chosen.widened)


def joined(first: Phase, second: Phase) -> Phase:
    """Two settled phases one after the other, both wrong in the same direction."""
    both = Phase(*map(shifted, first[:_AMOUNTS], second[:_AMOUNTS]))
    one, other = first.band, second.band
    if one is None or other is None:
        return both
    low, high = one.low_s + other.low_s, one.high_s + other.high_s
    band = Banded(Estimate(), both.time_s, low, high, one.extrapolated | other.extrapolated)
    return both._replace(bound_s=first.bound_s + second.bound_s, band=band)


def band_metrics(phase: Phase) -> dict[str, Values]:
    """Where the time of an estimated phase lies, and the bound it stands above; empty for a bound."""
    found = {} if phase.bound_s is None else {"bound_time_s": phase.bound_s}
    if phase.band is not None:
        found |= {"time_s_low": phase.band.low_s, "time_s_high": phase.band.high_s}
    return found


def request_bands(
    tokens: Values, more: Values, *, prefill: Phase, generation: Phase, both: Phase
) -> dict[str, Values]:
    """Bands of the metrics of a request; empty for a bound."""
    if prefill.band is None or generation.band is None or both.band is None:
        return {}
    found = {"bound_time_s": both.bound_s}
    found["output_tokens_per_s_low"] = tokens / both.band.high_s
    found["output_tokens_per_s_high"] = tokens / both.band.low_s
    for end in ("low", "high"):
        found[f"ttft_s_{end}"] = getattr(prefill.band, f"{end}_s")
        found[f"tpot_s_{end}"] = getattr(generation.band, f"{end}_s") / more
        found[f"e2e_s_{end}"] = getattr(both.band, f"{end}_s")
    found["extrapolated"] = both.band.extrapolated
    return found
