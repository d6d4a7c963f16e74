"""What each operator of a step takes with fitted parameters: the estimate of a phase, told apart.

Parameters belong to kernels, and a kernel runs several operators. Each operator gets the share of its
kernel's time that it has of the kernel's bounds, so that operators, collectives and what the engine does
between kernels add up to the estimate of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.bands import Estimate, Spent, banded
from engine.perfmodel.calibration import Timed, Timing, collective_s, kernel_spent, prompt_overhead_s
from engine.perfmodel.kernels import block_kernels
from engine.perfmodel.layers import Block
from engine.perfmodel.parallel import Collective
from engine.perfmodel.program import Plan
from engine.perfmodel.step import Run, Step

BY_DATA_SHEET: Final = "no fitted parameters for collectives: counts with its bound"
_OTHER_FORM: Final = "the estimate takes the other form of latent attention, which is faster here"
_NOT_RUN: Final = "this step does not run it"


@dataclass(frozen=True)
class OperatorEstimate:
    """Time of one occurrence of an operator with its 90 % band, in seconds."""

    time_s: float | None
    """None where nothing is known; `note` says why."""
    low_s: float | None = None
    high_s: float | None = None
    note: str = ""
    """Which neighbours share its kernel, or why there is no estimate."""


def why_no_estimates(plan: Plan) -> str:
    """Why a deployment has bounds only."""
    deployment = plan.deployment
    if deployment.settings.calibration == "none":
        return "the experiment asks for bounds (`calibration: none`)"
    if deployment.calibration is None:
        return f"no fitted parameters for `{deployment.hardware.name}`"
    return f"`{deployment.calibration.name}` has no parameters for some kernel of this model"


class StepEstimates:
    """The estimates of one step of one point."""

    def __init__(self, plan: Plan, timing: Timing, step: Step, run: Run, *, decoding: bool) -> None:
        self._plan, self._timing, self._step, self._run, self._decoding = plan, timing, step, run, decoding
        self._timed = {t.kernel: t for part in (timing.common, *timing.variants) for t in part}
        self._form = self._chosen_form()

    def block(self, block: Block, bounds_s: Sequence[float]) -> list[OperatorEstimate]:
        """One estimate for each operator of a block; `bounds_s` are those of one occurrence of each."""
        chosen = self._timing.chosen
        activation = self._plan.deployment.quantization.activation / 8
        found: list[OperatorEstimate] = []
        for kernel, names in block_kernels(block, fused=chosen.fused, activation_bytes=activation):
            here = slice(len(found), len(found) + len(names))
            found += self._shared(self._timed[kernel], names, bounds_s[here])
        return found

    def collective(self, item: Collective) -> OperatorEstimate:
        """One call of a collective, as far as arithmetic does not hide it."""
        law, beyond = next((law, beyond) for one, law, beyond in self._timing.collectives if one is item)
        if law is None:
            return OperatorEstimate(None, note=BY_DATA_SHEET)
        time = collective_s(SCALAR, item, law, beyond, self._step.busiest[item.symbol])
        return _with_band(Spent(law, time, 1), 1 - self._plan.deployment.parallelism.overlap)

    @property
    def between_kernels_s(self) -> float:
        """What a step takes beside its kernels, in seconds."""
        if self._decoding:
            return self._timing.host_s + self._timing.step_s
        return self._timing.host_s + float(prompt_overhead_s(SCALAR, self._timing, self._step.busiest["T"]))

    def _shared(
        self, timed: Timed, names: Sequence[str], bounds_s: Sequence[float]
    ) -> list[OperatorEstimate]:
        """The operators of one kernel, each with its share."""
        variant = timed.kernel.variant
        if variant and self._form and variant != self._form:
            return [OperatorEstimate(None, note=_OTHER_FORM)] * len(names)
        spent = kernel_spent(self._timing, timed, self._step, self._run, decoding=self._decoding)
        if spent is None:
            return [OperatorEstimate(None, note=_NOT_RUN)] * len(names)
        whole = sum(bounds_s)
        shares = [bound / whole if whole else 1 / len(names) for bound in bounds_s]
        return [_with_band(spent, share, _together(names, place)) for place, share in enumerate(shares)]

    def _chosen_form(self) -> str:
        """The form of latent attention that the estimate takes; empty where there is no choice."""
        times = {}
        for form in self._timing.variants:
            alone = [
                kernel_spent(self._timing, t, self._step, self._run, decoding=self._decoding) for t in form
            ]
            times[form[0].kernel.variant] = sum(spent.time_s for spent in alone if spent is not None)
        return min(times, key=lambda name: times[name]) if times else ""


def _with_band(spent: Spent, share: float, note: str = "") -> OperatorEstimate:
    """A share of one launch with the band of its kind of kernel."""
    calls = float(spent.calls)
    found = banded(SCALAR, Estimate({id(spent.law): spent}))
    time, low, high = (float(end) / calls * share for end in (found.time_s, found.low_s, found.high_s))
    return OperatorEstimate(time, low, high, note)


def _together(names: Sequence[str], place: int) -> str:
    others = [*names[:place], *names[place + 1 :]]
    return f"in one kernel with {', '.join(others)}" if others else ""
