"""Operator micro-benchmarks on the device that is here: rows to calibrate from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.measure.registry import Tools, measurement
from engine.spec.device_probe import DeviceProbeSettings

if TYPE_CHECKING:
    from engine.plan.point import Task
    from engine.results.tables import Tables


@measurement(DeviceProbeSettings, result_version=3, needs=("torch",))
def probe_device(settings: DeviceProbeSettings, task: Task, tools: Tools) -> Tables:
    """The `kernels` table: one row an operator and shape."""
    # torch takes seconds to load and `engine plan` only asks for the version.
    from engine.measure.device_probe.probe import probe

    return probe(settings, tools)
