"""Energy: power sources, recording, component loops, and the way from readings to rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.measure.registry import Tools, measurement
from engine.spec.energy import EnergySettings

if TYPE_CHECKING:
    from engine.plan.point import Task
    from engine.results.tables import Tables

__all__ = ["measure_energy"]


@measurement(EnergySettings, result_version=2, needs={"nvml"})
def measure_energy(settings: EnergySettings, task: Task, tools: Tools) -> Tables:
    """Energy of one point by phase, layer and component, with samples, findings and what was observed.

    Raises `EnvironmentMissing` where no power can be read and the spec does not say to skip.
    """
    from engine.measure.energy.measure import measure

    return measure(settings, next(task.points()), tools)
