"""What a training run left behind: throughput, MFU, kernel usage, loss, and its inference benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.measure.registry import Tools, measurement
from engine.spec.training import TrainingSettings

if TYPE_CHECKING:
    from engine.plan.point import Task
    from engine.results.tables import Tables


@measurement(TrainingSettings, result_version=2)
def measure_training(settings: TrainingSettings, task: Task, tools: Tools) -> Tables:
    """Tables of one training run, which brings along a point of its own."""
    from engine.measure.training.reading import read_training
    from engine.measure.training.tables import tables_of

    reading = read_training(settings, tools.spec_folder)
    tools.say(f"training run read: throughput {reading.throughput_origin}")
    return tables_of(settings, reading)
