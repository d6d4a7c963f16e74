"""How results are judged. Scoring is outside every fingerprint: re-scoring never re-measures."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.metrics import METRICS
from engine.spec.condition import Condition, MetricName, Requirements, parse_condition
from engine.spec.presets import NkiLlama, Preset
from engine.spec.settings import Settings

Normalization = Literal["ratio", "log_ratio", "min_max", "target"]

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
    """Value that scores 1, in the metric's unit; the best ranked value when absent. `target` needs it."""
    normalization: Normalization | None = None
    """How a value becomes a factor: `ratio` to the reference (when absent), `log_ratio` adds 1 per doubling,
    `min_max` puts the worst ranked value at 0 and the best at 1, `target` counts closeness."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """For `target`: distance from the reference at which the factor reaches 0."""

    @property
    def kind(self) -> Normalization:
        """How a value becomes a factor."""
        return self.normalization or "ratio"

    @property
    def higher(self) -> bool:
        """Whether larger values are better."""
        return (self.direction or METRICS[self.metric].direction) != "lower"

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.kind == "target":
            if self.reference is None or self.tolerance is None:
                raise ValueError("`normalization: target` needs `reference` and `tolerance`")
            return self
        if self.tolerance is not None:
            raise ValueError("`tolerance` belongs to `normalization: target`")
        if self.kind == "min_max" and self.reference is not None:
            raise ValueError(
                "`normalization: min_max` compares points with each other, not with a `reference`"
            )
        if self.direction is None and METRICS[self.metric].direction == "neutral":
            raise ValueError(f"`{self.metric}` has no better direction of its own; give `direction`")
        return self


class Scoring(Settings):
    """Objectives, hard requirements and what to do with gaps."""

    objectives: list[Objective] = []
    """What counts and how much."""
    preset: Preset | None = None
    """A score that somebody else defined, instead of objectives; `nki_llama` sets its numbers."""
    nki_llama: NkiLlama = NkiLlama()
    """References and weights of the NKI-LLAMA presets."""
    require: Requirements = {}
    """Metric -> condition such as `"<= 500 ms"`, a bare number being in the metric's base unit; a point that
    fails one is not ranked."""
    aggregation: Literal["weighted_sum", "weighted_geometric_mean", "product"] = "weighted_geometric_mean"
    """How factors become one score."""
    missing: Literal["error", "exclude", "penalty"] = "exclude"
    """A point lacking a metric: stop, leave it unranked with the reason, or give it `penalty`."""
    penalty: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Factor used for a missing metric when `missing` is `penalty`; it can never beat a present one."""
    phase: Literal["request", "prefill", "decode", "training"] = "request"
    """Which phase's rows are judged."""
    source: Literal["predicted", "live", "metered", "run_folder", "training"] | None = None
    """Which rows are judged; the measured ones where there are any when absent."""

    @model_validator(mode="after")
    def _penalty_given(self) -> Self:
        if self.missing == "penalty" and self.penalty is None:
            raise ValueError("`missing: penalty` needs `penalty`, the factor to use")
        if self.penalty is not None and self.missing != "penalty":
            raise ValueError(f"`penalty` belongs to `missing: penalty`, not to `missing: {self.missing}`")
        return self

    @model_validator(mode="after")
    def _each_metric_once(self) -> Self:
        names = [objective.metric for objective in self.objectives]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"`{twice}` is an objective twice; give it one weight")
        return self

    @model_validator(mode="after")
    def _one_kind_of_score(self) -> Self:
        if self.preset and self.objectives:
            raise ValueError(f"`preset: {self.preset}` brings its own objectives; leave out `objectives`")
        # A stored plan writes out every default, so only other numbers are a mistake.
        if self.preset is None and self.nki_llama != NkiLlama():
            raise ValueError("`nki_llama` belongs to `preset`; name one, such as `preset: nki-llama`")
        return self

    @model_validator(mode="after")
    def _weights_rank(self) -> Self:
        if self.objectives and not any(objective.weight for objective in self.objectives):
            raise ValueError("every weight is 0, so nothing is ranked")
        for objective in self.objectives:
            if objective.kind in ("log_ratio", "min_max") and self.aggregation != "weighted_sum":
                raise ValueError(
                    f"`{objective.kind}` reaches 0 and wipes out a product; use `aggregation: weighted_sum`"
                )
        return self
