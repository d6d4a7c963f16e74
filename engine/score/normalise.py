"""Values to factors: how good a value is on its objective, larger being better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.errors import UsageError
from engine.score.rows import numbers

if TYPE_CHECKING:
    from engine.score.rows import Floats, Judged, Mask, Rows
    from engine.spec.scoring import Objective


@dataclass(frozen=True, eq=False)
class Factor:
    """One objective over the judged rows; arrays have one value a row."""

    metric: str
    weight: float
    """As the aggregation uses it."""
    values: Floats
    """In the metric's unit; NaN where it is not known."""
    factor: Floats
    """Larger is better; NaN where the row is not ranked."""
    low: Floats
    """Factor at the bad end of the value's interval; the factor itself where there is none."""
    high: Floats
    """Factor at the good end."""
    oriented: Floats
    """What dominance compares: larger is better, -inf where it is not known."""
    reference: float | None
    """What the values were compared with."""
    formula: str
    """Arithmetic from value to factor, for people."""
    other: float | None
    """The worst value for `min_max`, the tolerance for `target`; None otherwise."""

    def sorted(self, order: Rows) -> Factor:
        """The same objective with its rows in another order."""
        return replace(
            self,
            values=self.values[order],
            factor=self.factor[order],
            low=self.low[order],
            high=self.high[order],
            oriented=self.oriented[order],
        )


@dataclass(frozen=True, eq=False)
class _Scale:
    """How a value of one objective becomes a factor."""

    objective: Objective
    reference: float
    span: float
    """Distance between worst and best for `min_max`; 0 when all are equal."""

    def factor(self, values: Floats) -> Floats:
        import numpy as np

        kind = self.objective.kind
        if kind in ("ratio", "log_ratio"):
            ratio = values / self.reference if self.objective.higher else self.reference / values
            return np.asarray(ratio if kind == "ratio" else 1.0 + np.log2(ratio))
        if kind == "target":
            tolerance = self.objective.tolerance or 1.0  # a spec always gives one
            return np.maximum(0.0, 1.0 - np.abs(values - self.reference) / tolerance)
        if self.span == 0:
            return np.where(np.isnan(values), np.nan, 1.0)
        return np.asarray((values - self.worst) / (self.reference - self.worst))

    @property
    def worst(self) -> float:
        """The worst ranked value, where the best one is the reference."""
        return self.reference - self.span if self.objective.higher else self.reference + self.span

    @property
    def other(self) -> float | None:
        """What the arithmetic needs besides the reference."""
        if self.objective.kind == "target":
            return self.objective.tolerance
        return self.worst if self.objective.kind == "min_max" and self.span else None

    def oriented(self, values: Floats) -> Floats:
        import numpy as np

        if self.objective.kind == "target":
            values = -np.abs(values - self.reference)
        elif not self.objective.higher:
            values = -values
        return np.where(np.isnan(values), -np.inf, values)

    def interval(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Factors at the bad and at the good end of values between `low` and `high`."""
        import numpy as np

        ends = np.stack([self.factor(low), self.factor(high)])
        best = ends.max(axis=0)
        if self.objective.kind == "target":
            best = np.where((low <= self.reference) & (self.reference <= high), 1.0, best)
        return ends.min(axis=0), best

    @property
    def formula(self) -> str:
        shown = f"{self.reference:.6g}"
        if self.objective.kind in ("ratio", "log_ratio"):
            ratio = f"value / {shown}" if self.objective.higher else f"{shown} / value"
            return ratio if self.objective.kind == "ratio" else f"1 + log2({ratio})"
        if self.objective.kind == "target":
            return f"max(0, 1 - |value - {shown}| / {self.objective.tolerance:.6g})"
        if not self.span:
            return "1 (all are equal)"
        return f"(value - {self.worst:.6g}) / ({shown} - {self.worst:.6g})"


def normalise(
    objective: Objective, judged: Judged, *, pool: Mask, weight: float, penalty: float | None
) -> Factor:
    """The factors of one objective for the rows of `pool`, NaN for the others.

    A value missing within the pool gets `penalty`, or less where a known value is worse than that.
    """
    import numpy as np

    metric = objective.metric
    places = judged.places(metric)
    values = numbers(judged.summary, metric)[places]
    known = np.where(pool, values, np.nan)
    scale = _scale(objective, known)
    low, high = _ends(judged, metric, places, known)
    if objective.kind in ("ratio", "log_ratio"):
        tiny = np.nanmin(known, initial=np.inf)
        if tiny <= 0:
            raise UsageError(
                f"`{metric}` is {tiny:g} at a ranked point, which has no ratio to a reference",
                hint=f"give the objective `{metric}` `normalization: min_max` or `target`",
            )
        # An interval that reaches zero has no ratio either; the row's own best guess bounds it then.
        low, high = np.where(low > 0, low, known), np.where(high > 0, high, known)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale.factor(known)
        bad, good = scale.interval(low, high)
    factor, bad, good = (np.where(pool, f, np.nan) for f in (factor, bad, good))
    missing = pool & np.isnan(known)
    if penalty is not None and missing.any():
        worst = min(penalty, float(np.nanmin(factor, initial=penalty)))
        factor, bad, good = (np.where(missing, worst, f) for f in (factor, bad, good))
    oriented = scale.oriented(known)
    return Factor(
        metric, weight, values, factor, np.fmin(bad, factor), np.fmax(good, factor), oriented,
        None if np.isnan(scale.reference) else scale.reference, scale.formula, scale.other,
    )  # fmt: skip


def _scale(objective: Objective, known: Floats) -> _Scale:
    """Reference and span; without a reference the best ranked value is the reference."""
    import numpy as np

    present = known[np.isfinite(known)]
    if not len(present):
        return _Scale(objective, objective.reference or np.nan, 0.0)
    best = float(present.max() if objective.higher else present.min())
    span = float(present.max() - present.min())
    if objective.kind == "min_max":
        return _Scale(objective, best, span)
    return _Scale(objective, best if objective.reference is None else objective.reference, span)


def _ends(judged: Judged, metric: str, places: Rows, known: Floats) -> tuple[Floats, Floats]:
    """The interval of each value; the value itself where it has none."""
    import numpy as np

    low = numbers(judged.summary, f"{metric}_low")[places]
    high = numbers(judged.summary, f"{metric}_high")[places]
    low = np.where(np.isnan(low), known, np.fmin(low, known))
    return low, np.where(np.isnan(high), known, np.fmax(high, known))
