"""Objectives, weights and requirements turned into one number a row, every factor of it visible.

A row that is at least as good in every objective and better in one never ranks below the other: every
factor grows with its value, every aggregation grows with its factors, and scores that differ by less than
rounding share a rank (`engine.score.ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.score.normalise import Factor, normalise
from engine.score.pareto import UNDECIDED
from engine.score.rows import Judged, is_one_of, judged_rows, numbers
from engine.spec.condition import parse_condition
from engine.spec.scoring import Scoring

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.score.ranking import Ranking
    from engine.score.rows import Floats, Mask, Rows
    from engine.score.tables import Reasons


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """Judged rows, best first; rows that cannot be ranked follow in the order of `summary`."""

    scoring: Scoring
    source: str | None
    """The source that was judged; None when no row was."""
    scores: pa.Table
    """Table `scores`."""
    rows: Rows
    """Row of `summary` behind each row of `scores`."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""
    objectives: tuple[Factor, ...] = ()
    """Values and factors of each objective; arrays are in the order of `scores`. Empty for a preset."""
    _preset_factors: pa.Table | None = None
    """Table `score_factors` of a preset."""

    def factors(self, top: int | None = None) -> pa.Table:
        """Table `score_factors` of the first `top` rows of `scores`, all when None."""
        from engine.score.tables import factors_table, of_rows

        if self._preset_factors is not None:
            return of_rows(self._preset_factors, self.scores.slice(0, top))
        return factors_table(self.scores.slice(0, top), self.objectives, self.scoring.aggregation)

    @property
    def ranked(self) -> int:
        """How many rows have a rank; they come first."""
        return int(self.scores.num_rows - self.scores["rank"].null_count)

    @cached_property
    def sensitivity(self) -> pa.Table:
        """Table `score_sensitivity`: what a fifth more or less of each weight does to the ranking."""
        from engine.score.sensitivity import sensitivity_table

        return sensitivity_table(self.scores, self.objectives, self.scoring.aggregation, self.ranked)

    def moved_ranks(self, top: int) -> list[dict[str, Any]]:
        """Rank of each of the best `top` rows after each change of a weight: metric, change, row, rank."""
        from engine.score.sensitivity import moved_ranks

        aggregation = self.scoring.aggregation
        return moved_ranks(self.scores, self.objectives, aggregation, ranked=self.ranked, top=top)

    @cached_property
    def swaps(self) -> pa.Table:
        """Table `score_swaps`: pairs whose order turns when a weight moves by a fifth."""
        from engine.score.sensitivity import swaps_table

        return swaps_table(self.scores, self.objectives, self.scoring.aggregation, self.ranked)


def score(scoring: Scoring, points: pa.Table, summary: pa.Table) -> ScoreResult:
    """Judge the rows of `summary`; `points` names them in messages.

    Raises `UsageError` when a metric is missing and the spec calls that an error, or when a value cannot be
    compared the way an objective asks.
    """
    if scoring.preset is not None:
        return _score_preset(scoring, summary)
    import numpy as np

    from engine.score.ranking import rank
    from engine.score.tables import Reasons, scores_table

    judged = judged_rows(summary, phase=scoring.phase, source=scoring.source)
    reasons = Reasons(len(judged.rows))
    _exclude_failed(judged, reasons)
    _exclude_unmet(scoring, judged, reasons)
    _handle_missing(scoring, judged, points, reasons)
    pool = reasons.pool
    factors = _factors(scoring, judged, pool)
    weights = [f.weight for f in factors]
    if factors:
        total = aggregate([f.factor for f in factors], weights, scoring.aggregation)
        low = aggregate([f.low for f in factors], weights, scoring.aggregation)
        high = aggregate([f.high for f in factors], weights, scoring.aggregation)
    else:
        total = low = high = np.full(len(judged.rows), np.nan)
    ranking = rank(total, [f.oriented for f in factors], low=low, high=high)
    table = scores_table(judged, ranking, reasons, total=total, low=low, high=high)
    ordered = tuple(f.sorted(ranking.order) for f in factors)
    notes = (*_notes(scoring, judged), *_mixed_bases(judged, pool), *_undecided(ranking))
    return ScoreResult(scoring, judged.source, table, judged.rows[ranking.order], notes, ordered)


def _score_preset(scoring: Scoring, summary: pa.Table) -> ScoreResult:
    import numpy as np

    from engine.score.preset import judge_preset, preset_tables

    judged = judge_preset(scoring, summary)
    scores, factors = preset_tables(judged)
    rows = np.array([j.row for j in judged], dtype=np.int64)
    notes = tuple(dict.fromkeys(note for j in judged if j.result for note in j.result.notes))
    return ScoreResult(scoring, judged[0].source, scores, rows, notes, _preset_factors=factors)


def aggregate(factors: Sequence[Floats], weights: Sequence[float], aggregation: str) -> Floats:
    """One score a row. Factors are added (multiplied) one after another: each step is monotone even when
    rounded, so a row that is better everywhere cannot come out below."""
    import numpy as np

    total = np.zeros_like(factors[0]) if aggregation == "weighted_sum" else np.ones_like(factors[0])
    for factor, weight in zip(factors, weights, strict=True):
        if weight == 0:
            total = np.where(np.isnan(factor), np.nan, total)
        elif aggregation == "weighted_sum":
            total = total + weight * factor
        else:
            total = total * np.power(np.maximum(factor, 0.0), weight)
    return total


def _exclude_failed(judged: Judged, reasons: Reasons) -> None:
    import numpy as np
    import pyarrow as pa

    failed = _failed(judged)
    bad = np.flatnonzero(failed)
    place = pa.array(judged.rows[bad])
    pairs: dict[tuple[str | None, str | None], list[int]] = {}
    status = judged.summary["status"].cast(pa.string()).take(place).to_pylist()
    reason = judged.summary["reason"].cast(pa.string()).take(place).to_pylist()
    for row, pair in zip(bad, zip(status, reason, strict=True), strict=True):
        pairs.setdefault(pair, []).append(int(row))
    for (state, why), rows in pairs.items():
        mask = np.zeros(len(failed), dtype=bool)
        mask[rows] = True
        text = (state or "no status").replace("_", " ")
        reasons.add(mask, f"{text}: {why}" if why else text)


def _exclude_unmet(scoring: Scoring, judged: Judged, reasons: Reasons) -> None:
    import numpy as np

    for metric, text in scoring.require.items():
        values = numbers(judged.summary, metric)[judged.places(metric)]
        held: Any = parse_condition(metric, str(text)).holds(values)  # type: ignore[arg-type]
        unknown = np.isnan(values)
        reasons.add(reasons.pool & unknown, f"`{metric}` is not known, required {text}")
        reasons.add(~held & ~unknown & ~_failed(judged), f"`{metric}` misses the required {text}")


def _failed(judged: Judged) -> Mask:
    """Rows that hold no result."""
    failed: Mask = ~is_one_of(judged.summary, "status", "ok")[judged.rows]
    return failed


def _handle_missing(scoring: Scoring, judged: Judged, points: pa.Table, reasons: Reasons) -> None:
    import numpy as np

    pool = reasons.pool
    for objective in scoring.objectives:
        values = numbers(judged.summary, objective.metric)[judged.places(objective.metric)]
        missing = pool & np.isnan(values)
        if not missing.any() or scoring.missing == "penalty":
            continue
        if scoring.missing == "error":
            first = judged.summary["point"][int(judged.rows[np.flatnonzero(missing)[0]])].as_py()
            raise UsageError(
                f"`{objective.metric}` is not known for {int(missing.sum()):,} of {int(pool.sum()):,} rows, "
                f"first {_name(points, first)}",
                hint="`scoring.missing: exclude` leaves such points unranked, `penalty` gives them a factor",
            )
        reasons.add(missing, f"`{objective.metric}` is not known")


def _name(points: pa.Table, number: int | None) -> str:
    """A point for people, such as `point 3 (llama-3.1-8b on l4, bf16, batch 8)`."""
    import pyarrow.compute as pc

    if number is None:
        return "a row without a point"
    rows = points.filter(pc.equal(points["point"], number)).to_pylist()
    if not rows or rows[0].get("model") is None:
        return f"point {number}"
    row = rows[0]
    return (
        f"point {number} ({row['model']} on {row['hardware']}, {row['quantization']}, "
        f"batch {row['batch_size']})"
    )


def _factors(scoring: Scoring, judged: Judged, pool: Mask) -> list[Factor]:
    total = sum(objective.weight for objective in scoring.objectives)
    share = 1.0 if scoring.aggregation == "product" else total
    penalty = scoring.penalty if scoring.missing == "penalty" else None
    return [
        normalise(o, judged, pool=pool, weight=o.weight / share, penalty=penalty) for o in scoring.objectives
    ]


def _mixed_bases(judged: Judged, pool: Mask) -> list[str]:
    """Whether bounds and estimates are compared: a bound flatters."""
    if "basis" not in judged.summary.column_names:
        return []
    bound = int((is_one_of(judged.summary, "basis", "bound")[judged.rows] & pool).sum())
    estimate = int((is_one_of(judged.summary, "basis", "estimate")[judged.rows] & pool).sum())
    if not bound or not estimate:
        return []
    counts = f"{bound:,} ranked rows are data-sheet bounds and {estimate:,} are calibrated estimates"
    return [f"{counts}: bounds flatter; `calibration: none` in the measurement compares bounds only"]


def _undecided(ranking: Ranking) -> list[str]:
    rows = int((ranking.dominator == UNDECIDED).sum())
    return [f"`dominated_by` was not looked for in {rows:,} rows: too many are on the front"] if rows else []


def _notes(scoring: Scoring, judged: Judged) -> list[str]:
    found: list[str] = []
    if judged.source is None:
        wanted = f" of source `{scoring.source}`" if scoring.source else ""
        found.append(f"no row{wanted} in phase `{scoring.phase}`, so nothing is ranked")
    if any(o.kind == "min_max" or (o.kind == "ratio" and o.reference is None) for o in scoring.objectives):
        found.append("factors without a reference compare the ranked points with each other: they change "
                     "when points are added")  # fmt: skip
    if not scoring.objectives:
        found.append("no objectives: rows are only held against the requirements")
    return found
