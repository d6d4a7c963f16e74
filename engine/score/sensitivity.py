"""What happens to a ranking when somebody argues about the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.results.tables import make_table
from engine.score.ranking import ROUNDING
from engine.score.weights import aggregate

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.score.normalise import Factor
    from engine.score.rows import Floats, Mask, Rows

CHANGES: Final = (-0.2, 0.2)
"""Relative changes of one weight; the others keep their proportions."""
COMPARED: Final = 200
"""Best rows whose order is compared pair by pair; the winner is looked for among all."""
LISTED: Final = 200
"""Most pairs that are listed per change, the best ranked first."""


@dataclass(frozen=True, eq=False)
class _Moved:
    """The scores after one weight moved; rows in the order of `scores`."""

    objective: int
    change: float
    weights: tuple[float, ...]
    total: Floats
    """Of all ranked rows."""


def sensitivity_table(scores: pa.Table, factors: Sequence[Factor], aggregation: str, ranked: int) -> pa.Table:
    """For each objective and change: the new winner and how many close pairs turn round."""
    import numpy as np

    columns: dict[str, list[Any]] = {name: [] for name in (
        "metric", "change", "weight", "best_point", "best_variant", "best_changed", "pairs", "swapped_pairs",
        "largest_move",
    )}  # fmt: skip
    compared = min(ranked, COMPARED)
    before = np.arange(compared)
    for moved in _moves(scores, factors, aggregation, ranked):
        best = int(np.argmax(moved.total))
        # A tie with the old winner is no change.
        if moved.total[best] - moved.total[0] <= ROUNDING * abs(moved.total[best]):
            best = 0
        after = np.empty(compared, dtype=np.int64)
        after[np.argsort(-moved.total[:compared], kind="stable")] = np.arange(compared)
        swapped = _swapped(scores, moved, compared)
        row = (
            factors[moved.objective].metric, moved.change, moved.weights[moved.objective],
            scores["point"][best].as_py(), scores["variant"][best].as_py(), best != 0,
            compared * (compared - 1) // 2, int(swapped.sum()), int(np.abs(after - before).max(initial=0)),
        )  # fmt: skip
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return make_table("score_sensitivity", columns)


def swaps_table(scores: pa.Table, factors: Sequence[Factor], aggregation: str, ranked: int) -> pa.Table:
    """Pairs whose order turns round, with the change of the weight at which they are equal."""
    import numpy as np

    columns: dict[str, list[Any]] = {name: [] for name in (
        "metric", "change", "point", "variant", "overtaken_by", "overtaken_by_variant", "equal_at",
    )}  # fmt: skip
    compared = min(ranked, COMPARED)
    close = scores.slice(0, compared)
    points, variants = close["point"].to_pylist(), close["variant"].to_pylist()
    for moved in _moves(scores, factors, aggregation, ranked):
        first, second = np.nonzero(_swapped(scores, moved, compared))
        for a, b in list(zip(first, second, strict=True))[:LISTED]:
            row = (
                factors[moved.objective].metric, moved.change, points[a], variants[a], points[b], variants[b],
                _equal_at(factors, moved.objective, aggregation, int(a), int(b)),
            )  # fmt: skip
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return make_table("score_swaps", columns)


def moved_ranks(
    scores: pa.Table, factors: Sequence[Factor], aggregation: str, *, ranked: int, top: int
) -> list[dict[str, Any]]:
    """The rank among all rows that each of the best `top` rows has after each change: `metric`, `change`,
    `row` of `scores` and `rank`."""
    import numpy as np

    found: list[dict[str, Any]] = []
    for moved in _moves(scores, factors, aggregation, ranked):
        falling = np.sort(moved.total)
        for row in range(min(top, ranked)):
            slack = ROUNDING * abs(moved.total[row])
            above = ranked - int(np.searchsorted(falling, moved.total[row] + slack, side="right"))
            metric = factors[moved.objective].metric
            found.append({"metric": metric, "change": moved.change, "row": row, "rank": above + 1})
    return found


def _moves(scores: pa.Table, factors: Sequence[Factor], aggregation: str, ranked: int) -> Iterator[_Moved]:
    total = sum(factor.weight for factor in factors)
    if not ranked or not total:
        return
    for i, factor in enumerate(factors):
        if factor.weight == 0 or len(factors) == 1:
            continue
        for change in CHANGES:
            weights = [f.weight * (1 + change if i == j else 1) for j, f in enumerate(factors)]
            share = 1.0 if aggregation == "product" else sum(weights)
            scaled = tuple(weight / share for weight in weights)
            moved = aggregate([f.factor[:ranked] for f in factors], scaled, aggregation)
            yield _Moved(i, change, scaled, moved)


def _swapped(scores: pa.Table, moved: _Moved, compared: int) -> Mask:
    """Pairs (better, worse) of the best rows that are strictly ordered before and strictly turned after."""
    import numpy as np

    rank = scores["rank"].slice(0, compared).to_numpy()
    after = moved.total[:compared]
    slack = ROUNDING * np.maximum(np.abs(after)[:, None], np.abs(after)[None, :])
    turned: Mask = (rank[:, None] < rank[None, :]) & (after[None, :] - after[:, None] > slack)
    return turned


def _equal_at(
    factors: Sequence[Factor], objective: int, aggregation: str, first: int, second: int
) -> float | None:
    """Relative change of one weight at which two rows score the same; None where no change does it.

    Sums are linear in the weights and products are so in logarithms: sum_j w_j d_j + change x w_i d_i = 0.
    """
    import numpy as np

    def worth(values: Rows | Floats) -> float:
        pair = np.array([values[first], values[second]], dtype=np.float64)
        if aggregation != "weighted_sum":
            with np.errstate(divide="ignore"):
                pair = np.log(pair)
        return float(pair[0] - pair[1])

    gaps = [f.weight * worth(f.factor) if f.weight else 0.0 for f in factors]
    if gaps[objective] == 0 or not np.isfinite(gaps).all():
        return None
    return -sum(gaps) / gaps[objective]
