"""What the performance model says of the same point: energies to put beside, intensities to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.plan.point import Point


def predicted_energies(point: Point) -> tuple[dict[str, float], str | None]:
    """Joules of prefill, all decode steps and the request, and the parameter set behind them.

    Empty where no set fits the device.
    """
    phases, parameters = _phases(point)
    request, prefill = (_number(phases, name, "energy_j") for name in ("request", "prefill"))
    found = {}
    if prefill is not None:
        found["prefill"] = prefill
    if request is not None:
        found["request"] = request
        if prefill is not None:
            found["decode"] = request - prefill
    return found, parameters if found else None


def intensities(point: Point) -> dict[str, tuple[float, float]]:
    """FLOPs per byte at the start and the end of prefill and decode."""
    phases, _ = _phases(point)
    ends = {"prefill": ("prefill", "prefill"), "decode": ("decode", "decode_last")}
    found = {}
    for phase, (first, last) in ends.items():
        low = _number(phases, first, "intensity_flops_per_byte")
        high = _number(phases, last, "intensity_flops_per_byte")
        if low is not None and high is not None:
            found[phase] = (low, high)
    return found


def _phases(point: Point) -> tuple[dict[str, Any], str | None]:
    from engine.perfmodel.deployment import Deployment, check_deployment
    from engine.perfmodel.parameter_sets import choose
    from engine.perfmodel.summary import WorkloadArrays, summarise

    c = point.combination
    calibration = choose(c.calibration, c.hardware, c.calibrations)
    deployment = Deployment(c.model, c.hardware, c.quantization, c.parallelism, calibration=calibration)
    if any(issue.severity == "error" for issue in check_deployment(deployment)):
        return {}, None
    phases = dict(summarise(deployment, WorkloadArrays.of(point.workload)).phases)
    return phases, calibration.name if calibration is not None else None


def _number(phases: dict[str, Any], phase: str, name: str) -> float | None:
    import numpy as np

    values = phases.get(phase, {}).get(name)
    if values is None:
        return None
    value = float(np.asarray(values).ravel()[0])
    return value if np.isfinite(value) else None
