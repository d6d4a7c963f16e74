"""Every metric of a block of points: the fast path of an analytical sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.grid import Column, Grid, Place, grid_of
from engine.perfmodel.load import Drafting, drafting, load_of, memory_load, memory_plan_of
from engine.perfmodel.memory import memory_use
from engine.perfmodel.phase_metrics import BOUNDS
from engine.perfmodel.point import context_limit
from engine.perfmodel.predict import PHASES, predict
from engine.perfmodel.program import Plan, compiled
from engine.spec.workload import COUNTS, Speculation, Workload

__all__ = ["BOUNDS", "PHASES", "Summary", "WorkloadArrays", "free_memory", "summarise"]

# Some twenty arrays are alive in the kernel: at this length most stay in a core's L2 cache. Half of it
# costs a tenth more in calls, twice of it gains nothing.
CHUNK: Final = 16384
_MOST_COUNTED: Final = 65536
"""Batches beyond this are not tabulated."""
_KEPT: Final = 3_750_000


@dataclass(frozen=True)
class WorkloadArrays:
    """Workloads as columns of whole numbers, all of one length, or of length 1 for every point alike."""

    prompt_tokens: Column
    output_tokens: Column
    batch_size: Column
    shared_prefix_tokens: Column
    prefill_chunk_tokens: Column
    """0 for the whole prompt at once."""
    prefill_tokens_per_step: Column

    @classmethod
    def of(cls, workload: Workload) -> WorkloadArrays:
        """A single workload."""
        return cls(*(np.array([getattr(workload, name) or 0], dtype=np.int64) for name in COUNTS))

    def __len__(self) -> int:
        return max(len(getattr(self, name)) for name in COUNTS)


@dataclass(frozen=True)
class Summary:
    """Predictions of a block of points."""

    phases: Mapping[str, Mapping[str, Column]]
    """Metrics by phase (`prefill`, `decode`, `decode_last`, `request`), one value a point; `bound` holds
    positions in `BOUNDS`. Times are NaN where a point does not fit."""
    fits: NDArray[np.bool_]
    """The point fits in memory; true where the memory of the device is unknown."""
    beyond_context: NDArray[np.bool_]
    """Prompt plus output exceed what the model admits."""

    def __len__(self) -> int:
        return len(self.fits)


@dataclass(frozen=True)
class _ArrayArithmetic:
    scalar: bool = False

    def maximum(self, a: Values, b: Values) -> Values:
        # With a number on one side `maximum` takes three times as long as `clip` with an open end.
        if isinstance(b, (int, float)) and isinstance(a, np.ndarray):
            return np.clip(a, b, np.inf)
        return np.maximum(a, b)

    def minimum(self, a: Values, b: Values) -> Values:
        if isinstance(b, (int, float)) and isinstance(a, np.ndarray):
            return np.clip(a, -np.inf, b)
        return np.minimum(a, b)

    def floor(self, a: Values) -> Values:
        return np.floor(a)

    def ceil(self, a: Values) -> Values:
        return np.ceil(a)

    def sqrt(self, a: Values) -> Values:
        return np.sqrt(a)

    def exp(self, a: Values) -> Values:
        return np.exp(a)

    def where(self, condition: Values, a: Values, b: Values) -> Values:
        return np.where(condition, a, b)

    def each(self, function: Callable[[float], float], a: Values) -> Values:
        # Token counts repeat in a sweep: each distinct one is worked out once.
        distinct, places = np.unique(a, return_inverse=True)
        return np.array([function(float(x)) for x in distinct])[places]

    def picked(self, edges: Sequence[float], a: Values, *tables: Any) -> tuple[Values, ...]:
        low, high = np.min(a), np.max(a)
        passed = sum(edge < low for edge in edges)
        inside = [edge for edge in edges[passed:] if not edge >= high]
        if not inside:
            # In a sweep neighbours are alike: one answer for all of them.
            return tuple(table[passed] for table in tables)
        # A handful of comparisons is quicker than a search.
        place = np.full(np.shape(a), passed, dtype=np.int8)
        for edge in inside:
            place += a > edge
        # Places are never outside: clipping them costs less than looking.
        return tuple(np.take(table, place, mode="clip") for table in tables)

    def distinct(self, a: Values) -> tuple[Values, Values] | None:
        if not isinstance(a, np.ndarray) or not 0 <= a.min() <= a.max() <= _MOST_COUNTED:
            return None
        whole = a.astype(np.int64)
        present = np.flatnonzero(np.bincount(whole.ravel()))
        if 4 * len(present) > a.size:
            return None
        table = np.zeros(present[-1] + 1, dtype=np.int64)
        table[present] = np.arange(len(present))
        return present.astype(np.float64), table[whole]

    def smallest(self, a: Values) -> float:
        return float(np.min(a))

    def largest(self, a: Values) -> float:
        return float(np.max(a))


# Freed once, an array of 30 MB tells the allocator to keep smaller ones; their pages would else be asked for
# again with every tile, a tenth of the time. Nothing touches it, so it costs nothing.
np.empty(_KEPT)
ARRAYS: Final[Arithmetic] = _ArrayArithmetic()


def summarise(
    deployment: Deployment,
    workload: WorkloadArrays,
    *,
    speculation: Speculation | None = None,
    draft: Deployment | None = None,
) -> Summary:
    """Every metric of every point; raises `PlanError` when the deployment is impossible.

    `draft` is the deployment of the draft model that `speculation` names; without it drafting is free.
    """
    plan = compiled(deployment)
    proposing = drafting(speculation, compiled(draft) if draft is not None else None)
    n = len(workload)
    columns = [getattr(workload, name) for name in COUNTS]
    # A single point runs on Python numbers: NumPy's call overhead would be most of its time.
    if n == 1:
        return _one_point(plan, tuple(int(column[0]) for column in columns), proposing)
    return _assemble(plan, columns, grid_of(columns, n, CHUNK), proposing)


def free_memory(
    deployment: Deployment,
    workload: WorkloadArrays,
    *,
    speculation: Speculation | None = None,
    draft: Deployment | None = None,
) -> NDArray[np.float64]:
    """Bytes left on the fullest device at every point, negative where it does not fit; NaN when unknown.

    The memory part of `summarise` alone, for plans.
    """
    plan = compiled(deployment)
    proposing = drafting(speculation, compiled(draft) if draft is not None else None)
    values = [getattr(workload, name).astype(np.float64) for name in COUNTS]
    load = load_of(*values, chunked=_any(values[4]), mixed=_any(values[5]))
    used = memory_use(ARRAYS, memory_plan_of(plan, proposing), memory_load(ARRAYS, plan, load, proposing))
    return np.broadcast_to(np.asarray(used.free, dtype=np.float64), (len(workload),))


def _piece(column: Column, place: Place) -> Values:
    if column.ndim < len(place) or column.size == 1:
        return int(column.flat[0])
    axes = zip(place, column.shape, strict=True)
    piece = column[tuple(part if length > 1 else slice(None) for part, length in axes)]
    first = piece.flat[0]
    # What does not change within a tile is one number for all of it.
    if piece.size == 1 or (piece.flat[-1] == first and (piece == first).all()):
        return int(first)
    return piece.astype(np.float64)


def _one_point(plan: Plan, values: tuple[int, ...], speculation: Drafting | None) -> Summary:
    load = load_of(*values, chunked=values[4] > 0, mixed=values[5] > 0)
    found, used = predict(SCALAR, plan, load, speculation)
    row = np.array([value for metrics in found.values() for value in metrics.values()], dtype=np.float64)
    phases: dict[str, dict[str, Column]] = {}
    at = 0
    for phase, metrics in found.items():
        phases[phase] = {name: row[at + i : at + i + 1] for i, name in enumerate(metrics)}
        at += len(metrics)
        if "bound" in metrics:
            phases[phase]["bound"] = phases[phase]["bound"].astype(np.int8)
    limit = context_limit(plan.deployment.model)
    return Summary(phases, np.array([bool(used.fits)]), np.array([load.prompt + load.output > limit]))


def _assemble(plan: Plan, given: Sequence[Column], grid: Grid, speculation: Drafting | None) -> Summary:
    columns = _Columns(grid)
    fits, beyond = (np.empty(prod(grid.shape), dtype=np.bool_) for _ in range(2))
    limit = context_limit(plan.deployment.model)
    axes = [grid.along(column) for column in given]
    for place in grid.places():
        values = tuple(_piece(column, place) for column in axes)
        load = load_of(*values, chunked=_any(values[4]), mixed=_any(values[5]))
        arithmetic = SCALAR if all(isinstance(v, int) for v in values) else ARRAYS
        found, used = predict(arithmetic, plan, load, speculation)
        grid.across(fits)[place] = used.fits
        grid.across(beyond)[place] = load.prompt + load.output > limit
        columns.write(found, place)
        # Before the next tile, which then finds their memory in the cache.
        del found, used
    return Summary(columns.finished(), fits, beyond)


class _Columns:
    """The metrics of all tiles; what is the same number in every tile stays one, at no memory."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._n = prod(grid.shape)
        self._phases: dict[str, dict[str, Values]] = {phase: {} for phase in PHASES}
        self._block: NDArray[np.float64] = np.empty((0, self._n))
        self._rows = 0
        self._begun = False

    def write(self, found: Mapping[str, Mapping[str, Values]], place: Place) -> None:
        """Take in the metrics of a tile."""
        if not self._begun:
            values = [value for metrics in found.values() for value in metrics.values()]
            varying = sum(isinstance(value, np.ndarray) for value in values)
            # One allocation, large enough for huge pages: fresh small pages would cost a fifth of the time.
            self._block = np.empty((varying, self._n))
        for phase, metrics in found.items():
            for name, value in metrics.items():
                self._write(self._phases[phase], name, value, place)
        self._begun = True

    def _write(self, columns: dict[str, Values], name: str, value: Values, place: Place) -> None:
        held: Values = columns.get(name)
        numbers = not isinstance(value, np.ndarray) and not isinstance(held, np.ndarray)
        # NaN, which stands for unknown memory, differs from itself.
        if numbers and (not self._begun or value == held or (value != value and held != held)):
            columns[name] = value
            return
        if not isinstance(held, np.ndarray):
            columns[name] = self._column(name)
            if self._begun:
                columns[name][:] = held
        self._grid.across(columns[name])[place] = value

    def _column(self, name: str) -> Column:
        if name == "bound":
            return np.empty(self._n, dtype=np.int8)
        if self._rows == len(self._block):
            return np.empty(self._n)
        self._rows += 1
        row: Column = self._block[self._rows - 1]
        return row

    def finished(self) -> dict[str, dict[str, Column]]:
        """Every metric as a column."""
        return {
            phase: {name: self._spread(name, value) for name, value in metrics.items()}
            for phase, metrics in self._phases.items()
        }

    def _spread(self, name: str, value: Values) -> Column:
        if isinstance(value, np.ndarray):
            return value
        number: Column = np.asarray(value, np.int8 if name == "bound" else np.float64)
        return np.broadcast_to(number, (self._n,))


def _any(value: Values) -> bool:
    return value > 0 if isinstance(value, int) else bool((value > 0).any())
