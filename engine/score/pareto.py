"""Pareto fronts: what nothing else beats in every respect."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from engine.errors import UsageError
from engine.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]


UNDECIDED: Final = -2
"""A row of which it was not found out whether another one dominates it."""


def pareto_front(
    summary: pa.Table, metrics: Sequence[str], *, directions: Mapping[str, str] | None = None
) -> Rows:
    """Rows that no other ok row beats, best first in the first metric; of identical rows all are kept.

    Directions come from the metrics unless given (`higher` or `lower`). Rows that lack a metric never
    belong. Raises `UsageError` for an unknown metric and for one without a direction.
    """
    import numpy as np

    from engine.score.rows import is_one_of, numbers

    columns = [
        numbers(summary, name) * (1 if is_higher(name, directions) else -1) for name in dict.fromkeys(metrics)
    ]
    if not columns:
        raise UsageError("a front needs at least one metric")
    values = np.stack(columns, axis=1)
    usable = np.isfinite(values).all(axis=1)
    if "status" in summary.column_names:
        usable &= is_one_of(summary, "status", "ok")
    rows = np.flatnonzero(usable)
    order = np.lexsort([rows, *(-values[rows, i] for i in reversed(range(values.shape[1])))])
    rows = rows[order]
    return np.asarray(rows[dominators(values[rows]) < 0], dtype=np.int64)


def is_higher(metric: str, directions: Mapping[str, str] | None = None) -> bool:
    """Whether larger is better, from `directions` or the metric itself; raises `UsageError` without one."""
    direction = (directions or {}).get(metric) or (
        METRICS[metric].direction if metric in METRICS else "unknown"
    )
    if direction not in ("higher", "lower"):
        known = metric in METRICS
        raise UsageError(
            f"`{metric}` has no better direction" if known else f"there is no metric `{metric}`",
            hint="give one: higher or lower" if known else "`engine explain` lists them",
        )
    return direction == "higher"


def dominators(values: Floats, *, ordered: bool = False, limit: int | None = None) -> Rows:
    """For each row (larger is better in every column) a row that dominates it, -1 when none does.

    The dominator named is itself on the front. `ordered` promises that no row stands before one that
    dominates it. O(n log n) for up to three columns; beyond, the size of the front times the rows left over,
    and with `limit` rows that this many comparisons do not decide are `UNDECIDED`.
    """
    import numpy as np

    width = values.shape[1] if len(values) else 0
    if width == 0:
        return np.full(len(values), -1, dtype=np.int64)
    if width <= 3:
        order = _lexicographic(values)
        place = _dominators_of_two(values[order]) if width <= 2 else _dominators_of_three(values[order])
    else:
        order = np.arange(len(values)) if ordered else _by_merit(values)
        place = _dominators_of_many(values[order], limit)
    found = np.full(len(values), -1, dtype=np.int64)
    found[order] = np.where(place >= 0, order[place], place)
    return found


def _lexicographic(values: Floats) -> Rows:
    """Falling order by the first column, then the second...; a dominator is larger where two differ."""
    import numpy as np

    return np.lexsort([-values[:, i] for i in reversed(range(values.shape[1]))])


def _by_merit(values: Floats) -> Rows:
    """Strong all-rounders first, as they remove most rows early: falling order by the sum of scaled columns,
    which a dominator never has smaller; equal sums follow the lexicographic order."""
    import numpy as np

    known = np.isfinite(values)
    filled = np.where(known, values, values[known].min(initial=0.0))
    spread = filled.max(axis=0) - filled.min(axis=0)
    merit = (filled / np.where(spread > 0, spread, 1.0)).sum(axis=1)
    return np.lexsort([*(-values[:, i] for i in reversed(range(values.shape[1]))), -merit])


def _dominators_of_two(values: Floats) -> Rows:
    """For rows in lexicographic order: a row is dominated when an earlier, different one reaches its last
    column."""
    import numpy as np

    last = values[:, -1]
    record = np.maximum.accumulate(last)
    same = np.concatenate([[False], (values[1:] == values[:-1]).all(axis=1)])
    is_record = np.concatenate([[True], last[1:] > record[:-1]])
    holder = np.maximum.accumulate(np.where(is_record, np.arange(len(last)), -1))
    first = np.maximum.accumulate(np.where(same, -1, np.arange(len(last))))  # first of identical rows
    return np.where(is_record[first], -1, holder)


def _dominators_of_three(values: Floats) -> Rows:
    """For rows in lexicographic order: a row is dominated when an earlier, different one reaches it in the
    last two columns. The best of the earlier ones form a staircase, rising in one column and falling in the
    other, so one step of it answers (Kung, Luccio, Preparata, JACM 22, 1975)."""
    import numpy as np

    found: list[int] = []
    second: list[float] = []  # rising
    third: list[float] = []  # falling
    holders: list[int] = []
    before: tuple[float, float, float] | None = None
    for row, (a, b, c) in enumerate(values.tolist()):
        if (a, b, c) == before:
            found.append(found[-1])
            continue
        before = (a, b, c)
        place = bisect_left(second, b)
        if place < len(second) and third[place] >= c:
            found.append(holders[place])
            continue
        found.append(-1)
        # What this row reaches in both columns no longer shows.
        stop = place + 1 if place < len(second) and second[place] == b else place
        start = place
        while start > 0 and third[start - 1] <= c:
            start -= 1
        second[start:stop], third[start:stop], holders[start:stop] = [b], [c], [row]
    return np.array(found, dtype=np.int64)


def _dominators_of_many(values: Floats, limit: int | None) -> Rows:
    """For rows of which none stands before its dominator: the first row left is on the front; it removes
    all it dominates."""
    import numpy as np

    found = np.full(len(values), -1, dtype=np.int64)
    left, block = np.arange(len(values)), values
    spent = 0
    while len(left):
        spent += len(left)
        if limit is not None and spent > limit:
            found[left] = UNDECIDED
            break
        head = block[0]
        beaten = block[:, 0] <= head[0]
        for column in range(1, values.shape[1]):
            beaten &= block[:, column] <= head[column]
        gone = np.flatnonzero(beaten)
        same = (block[gone] == head).all(axis=1)
        found[left[gone]] = np.where(same, -1, left[0])
        left, block = left[~beaten], block[~beaten]
    return found
