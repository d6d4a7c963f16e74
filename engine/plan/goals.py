"""Limits on single requests, said once for a whole experiment."""

from __future__ import annotations

from engine.spec.experiment import Experiment
from engine.spec.live import REQUEST_LIMITS, LiveSettings
from engine.spec.measurement import Measurement

__all__ = ["with_goals"]


def with_goals(experiment: Experiment) -> Experiment:
    """The experiment whose live measurements take their `require`, where they have none, from what
    `scoring.require` says of single requests. It is part of what is measured: a new limit measures again."""
    scoring = experiment.scoring
    goals = {n: text for n, text in (scoring.require if scoring else {}).items() if n in REQUEST_LIMITS}
    if not goals:
        return experiment

    def filled(measurement: Measurement) -> Measurement:
        if not isinstance(measurement, LiveSettings) or measurement.require:
            return measurement
        return measurement.model_copy(update={"require": goals})

    measurements = [filled(one) for one in experiment.measurements]
    if all(new is old for new, old in zip(measurements, experiment.measurements, strict=True)):
        return experiment
    return experiment.model_copy(update={"measurements": measurements})
