"""Live benchmarks: real inference in this process or over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.measure.registry import Tools, measurement
from engine.spec.live import LiveSettings

if TYPE_CHECKING:
    from engine.plan.point import Task
    from engine.results.tables import Tables


@measurement(LiveSettings, result_version=3)
def measure_live(settings: LiveSettings, task: Task, tools: Tools) -> Tables:
    """Requests, their summary, what was observed and what a reader must know, for one point."""
    # The libraries behind it take seconds to load and `engine plan` only asks for the version.
    from engine.measure.live.measure import measure_point

    return measure_point(settings, next(task.points()), tools)
