"""Every metric of a block of points: the fast path of an analytical sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.load import Drafting, drafting, load_of, memory_load, memory_plan_of
from engine.perfmodel.memory import memory_use
from engine.perfmodel.phase_metrics import BOUNDS
from engine.perfmodel.point import context_limit
from engine.perfmodel.predict import PHASES, predict
from engine.perfmodel.program import Plan, compiled
from engine.spec.workload import COUNTS, Speculation, Workload

__all__ = ["BOUNDS", "PHASES", "Summary", "WorkloadArrays", "free_memory", "summarise"]

Column: TypeAlias = NDArray[Any]

# Some twenty arrays are alive in the kernel: at this length most stay in a core's L2 cache. Half of it
# costs a tenth more in calls, twice of it gains nothing.
CHUNK: Final = 16384
_MOST_COUNTED: Final = 65536
"""Batches beyond this are not tabulated."""


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
        return np.maximum(a, b)

    def minimum(self, a: Values, b: Values) -> Values:
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
        return tuple(np.take(table, place) for table in tables)

    def distinct(self, a: Values) -> tuple[Values, Values] | None:
        if not isinstance(a, np.ndarray) or not 0 <= a.min() <= a.max() <= _MOST_COUNTED:
            return None
        whole = a.astype(np.int64)
        present = np.flatnonzero(np.bincount(whole))
        if 4 * len(present) > len(a):
            return None
        table = np.zeros(present[-1] + 1, dtype=np.int64)
        table[present] = np.arange(len(present))
        return present.astype(np.float64), table[whole]

    def smallest(self, a: Values) -> float:
        return float(np.min(a))

    def largest(self, a: Values) -> float:
        return float(np.max(a))


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
    pieces = [(low, min(low + CHUNK, n)) for low in range(0, n, CHUNK)]
    inputs = (tuple(_piece(c, low, high) for c in columns) for low, high in pieces)
    return _assemble(plan, inputs, pieces, n, proposing)


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


def _piece(column: Column, low: int, high: int) -> Values:
    if len(column) == 1:
        return int(column[0])
    piece = column[low:high]
    # The slow axes of a sweep do not change within a chunk: one number then does for all.
    if piece[0] == piece[-1] and (piece == piece[0]).all():
        return int(piece[0])
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


def _assemble(
    plan: Plan,
    inputs: Iterable[tuple[Values, ...]],
    pieces: Sequence[tuple[int, int]],
    n: int,
    speculation: Drafting | None,
) -> Summary:
    columns = _Columns(n)
    fits = np.empty(n, dtype=np.bool_)
    beyond = np.empty(n, dtype=np.bool_)
    limit = context_limit(plan.deployment.model)
    for (low, high), values in zip(pieces, inputs, strict=True):
        load = load_of(*values, chunked=_any(values[4]), mixed=_any(values[5]))
        arithmetic = SCALAR if all(isinstance(v, int) for v in values) else ARRAYS
        found, used = predict(arithmetic, plan, load, speculation)
        fits[low:high] = used.fits
        beyond[low:high] = load.prompt + load.output > limit
        columns.write(found, low, high)
    return Summary(columns.finished(), fits, beyond)


class _Columns:
    """The metrics of all chunks; what is the same number in every chunk stays one, at no memory."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._phases: dict[str, dict[str, Values]] = {phase: {} for phase in PHASES}
        self._block: NDArray[np.float64] = np.empty((0, n))
        self._rows = 0
        self._last: object = None

    def write(self, found: Mapping[str, Mapping[str, Values]], low: int, high: int) -> None:
        """Take in the metrics of the points from `low` to below `high`."""
        if low == 0:
            values = [value for metrics in found.values() for value in metrics.values()]
            varying = sum(isinstance(value, np.ndarray) for value in values)
            # One allocation, large enough for huge pages: fresh small pages would cost a fifth of the time.
            self._block = np.empty((varying, self._n))
        for phase, metrics in found.items():
            for name, value in metrics.items():
                self._write(self._phases[phase], name, value, slice(low, high))
        # While the last chunk's arrays live, the next ones do not grow and shrink the heap again.
        self._last = found

    def _write(self, columns: dict[str, Values], name: str, value: Values, here: slice) -> None:
        held: Values = columns.get(name)
        numbers = not isinstance(value, np.ndarray) and not isinstance(held, np.ndarray)
        # NaN, which stands for unknown memory, differs from itself.
        if numbers and (here.start == 0 or value == held or (value != value and held != held)):
            columns[name] = value
            return
        if not isinstance(held, np.ndarray):
            columns[name] = self._column(name)
            if here.start:
                columns[name][: here.start] = held
        columns[name][here] = value

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
