"""How results are judged. Scoring is outside every fingerprint: re-scoring never re-measures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.spec.condition import Condition, MetricName, Requirements, parse_condition
from engine.spec.settings import Settings

__all__ = ["Condition", "Objective", "Scoring", "parse_condition"]


class Objective(Settings):
    """One metric that counts."""

    metric: MetricName
    """Name of a metric; `engine explain` lists them."""
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """How much it counts relative to the others."""
    direction: Literal["higher", "lower"] | None = None
    """Which way is better; the metric's own direction when absent."""
    reference: Annotated[float, Field(gt=0)] | None = None
    """Value that scores 1, in the metric's unit; needed by `ratio`, `log_ratio` and `target`."""
    normalization: Literal["ratio", "log_ratio", "min_max", "target"] | None = None
    """How a value becomes a factor; `ratio` with a reference, `min_max` without one."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """For `target`: distance from the reference at which the factor reaches 0."""


class Scoring(Settings):
    """Objectives, hard requirements and what to do with gaps."""

    objectives: list[Objective] = []
    """What counts and how much."""
    require: Requirements = {}
    """Metric -> condition such as `"<= 500 ms"`, a bare number being in the metric's base unit; a point that
    fails one is not ranked."""
    aggregation: Literal["weighted_sum", "weighted_geometric_mean", "product"] = "weighted_geometric_mean"
    """How factors become one score."""
    missing: Literal["error", "exclude", "penalty"] = "exclude"
    """A point lacking a metric: stop, leave it unranked with the reason, or give it `penalty`."""
    penalty: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Factor used for a missing metric when `missing` is `penalty`; it can never beat a present one."""
    phase: Literal["request", "prefill", "decode"] = "request"
    """Which phase's rows are judged."""
    source: Literal["predicted", "live", "metered", "run_folder", "training"] | None = None
    """Which rows are judged; the measured ones where there are any when absent."""

    @model_validator(mode="after")
    def _penalty_given(self) -> Scoring:
        if self.missing == "penalty" and self.penalty is None:
            raise ValueError("`missing: penalty` needs `penalty`, the factor to use")
        return self
