"""The table of design points, straight from the plan: columns, never a million objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.plan.expand import label_of
from engine.results.tables import POINTS, make_table
from engine.spec.paths import NAMED
from engine.spec.workload import COUNTS

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.plan.point import Block
    from engine.plan.resolve import Combination

COLUMNS: Final = tuple(c.name for c in POINTS)
_PARALLEL: Final = ("tensor", "pipeline", "expert", "data", "devices")
_ROWS: Final = 262_144  # points made at a time


def points_table(plan: Plan, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """All points of a plan in order."""
    import pyarrow as pa

    parts = list(points_batches(plan, columns))
    if not parts:  # only logs are read
        return make_table("points", {name: [] for name in columns})
    return pa.Table.from_batches(parts).unify_dictionaries()


def points_batches(plan: Plan, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
    """The points of a plan in order, some at a time."""
    group: list[tuple[Block, int, int]] = []
    room = _ROWS
    for block in plan.blocks:
        start = 0
        while start < block.grid.size:
            stop = min(start + room, block.grid.size)
            group.append((block, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield _batch(group, columns)
                group, room = [], _ROWS
    if group:
        yield _batch(group, columns)


def _batch(group: Sequence[tuple[Block, int, int]], columns: Sequence[str]) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    sizes = np.array([stop - start for _, start, stop in group])
    combinations = [block.combination for block, _, _ in group]
    counts = [block.grid.columns(start, stop) for block, start, stop in group]
    first = group[0][0].first_point + group[0][1]
    arrays: list[Any] = []
    for name in columns:
        if name == "point":
            arrays.append(pa.array(np.arange(first, first + int(sizes.sum()))))
        elif name in COUNTS:
            arrays.append(pa.array(np.concatenate([c[name] for c in counts])))
        elif name in _PARALLEL:
            values = np.array([getattr(c.parallelism, name) for c in combinations], dtype=np.int64)
            arrays.append(pa.array(np.repeat(values, sizes)))
        else:
            arrays.append(_labels([_label(c, name) for c in combinations], sizes))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _labels(texts: Sequence[str | None], sizes: Any) -> pa.DictionaryArray:
    """Texts repeated `sizes` times each, as indices into the different ones."""
    import numpy as np
    import pyarrow as pa

    known: dict[str, int] = {}
    codes = np.array([-1 if t is None else known.setdefault(t, len(known)) for t in texts], dtype=np.int32)
    indices = np.repeat(codes, sizes)
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=indices < 0), pa.array(list(known), pa.string())
    )


def _label(combination: Combination, column: str) -> str | None:
    return combination.labels[column] if column in NAMED else other_settings(combination)


def other_settings(combination: Combination) -> str | None:
    """Swept settings that have no column of their own, as `path=value`; None when there are none."""
    shown = [
        f"{path}={label_of(value)}"
        for path, value in combination.values.items()
        if path.split(".")[0] not in NAMED and path.split(".")[-1] not in _PARALLEL
    ]
    return ", ".join(shown) or None
