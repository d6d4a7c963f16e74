"""From scores to ranks: ties, intervals of ranks, and who dominates whom.

Factors and aggregations are monotone, so a row scores at least what a row it dominates scores, up to
rounding. Scores within rounding of each other are a tie, and within a tie the objectives decide one after
another, so that a row always stands before those it dominates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.score.pareto import dominators

if TYPE_CHECKING:
    from engine.score.rows import Floats, Rows

ROUNDING: Final = 1e-12
"""Relative distance below which two scores are the same number: a few hundred units in the last place, more
than any order of rounding can make of one score."""


COMPARISONS: Final = 2_000_000_000
"""Comparisons spent on finding who dominates whom, some ten seconds; only four objectives or more, over very
many rows of which few dominate others, need them all."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Order and ranks; arrays count the judged rows as given."""

    order: Rows
    """Rows best first, unranked ones last."""
    rank: Rows
    """1 is best; equal scores share a rank; 0 for unranked rows."""
    best: Rows
    """Rank if the row is as good, and all others as bad, as their intervals allow."""
    worst: Rows
    """Rank in the opposite case."""
    dominator: Rows
    """A row that is at least as good in everything and better in something; -1 when there is none, -2 where
    it was not found out."""


def rank(total: Floats, oriented: Sequence[Floats], *, low: Floats, high: Floats) -> Ranking:
    """Rank rows by falling score; NaN is not ranked.

    Within a tie, rows follow the objectives one after another, which puts a row before those it dominates.
    """
    import numpy as np

    size = len(total)
    ranked = np.flatnonzero(np.isfinite(total))
    by_score = ranked[np.argsort(-total[ranked], kind="stable")]
    group = _groups(total[by_score])
    order = _ordered_ties(by_score, group, oriented)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ranks = np.zeros(size, dtype=np.int64)
    ranks[order] = starts[group] + 1
    best, worst = ranks, ranks
    if (low[ranked] < total[ranked]).any() or (high[ranked] > total[ranked]).any():
        best, worst = _rank_intervals(total, low, high, ranked)
    dominator = np.full(size, -1, dtype=np.int64)
    if len(oriented) and len(order):
        # Best first is an order in which nothing stands before what dominates it: see the module's docstring.
        columns = np.stack([values[order] for values in oriented], axis=1)
        found = dominators(columns, ordered=True, limit=COMPARISONS)
        dominator[order] = np.where(found >= 0, order[found], found)
    rest = np.flatnonzero(~np.isfinite(total))
    return Ranking(np.concatenate([order, rest]), ranks, best, worst, dominator)


def _ordered_ties(by_score: Rows, group: Rows, oriented: Sequence[Floats]) -> Rows:
    """Rows by score, those of one tie by their objectives one after another, then by number."""
    import numpy as np

    same = group[1:] == group[:-1]
    tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    if not len(tied):
        return by_score
    rows = by_score[tied]
    keys = [rows, *(-values[rows] for values in reversed(oriented)), group[tied]]
    order = by_score.copy()
    order[tied] = rows[np.lexsort(keys)]
    return order


def _groups(falling: Floats) -> Rows:
    """Number of the tie each score belongs to; neighbours closer than rounding are one tie."""
    import numpy as np

    if not len(falling):
        return np.zeros(0, dtype=np.int64)
    gaps = falling[:-1] - falling[1:]
    apart = gaps > ROUNDING * np.maximum(np.abs(falling[:-1]), np.abs(falling[1:]))
    return np.concatenate([[0], np.cumsum(apart)]).astype(np.int64)


def _rank_intervals(total: Floats, low: Floats, high: Floats, ranked: Rows) -> tuple[Rows, Rows]:
    import numpy as np

    best, worst = np.zeros(len(total), dtype=np.int64), np.zeros(len(total), dtype=np.int64)
    slack = ROUNDING * np.abs(total[ranked])
    lows, highs = np.sort(low[ranked]), np.sort(high[ranked])
    # Certainly above: their worst beats my best. Possibly above: their best beats my worst (without me).
    best[ranked] = 1 + len(ranked) - np.searchsorted(lows, high[ranked] + slack, side="right")
    above = len(ranked) - np.searchsorted(highs, low[ranked] + slack, side="right")
    worst[ranked] = np.maximum(1 + above - (high[ranked] > low[ranked] + slack), best[ranked])
    return best, worst
