"""Every metric of a block of points: the fast path of an analytical sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.point import load_of
from engine.perfmodel.predict import BOUNDS, PHASES, Drafting, drafting, predict
from engine.perfmodel.program import Plan, compiled
from engine.spec.workload import Speculation, Workload

__all__ = ["BOUNDS", "PHASES", "Summary", "WorkloadArrays", "summarise"]

Column: TypeAlias = NDArray[Any]

# Some twenty arrays are alive in the kernel: at this length they stay in a core's L2 cache.
CHUNK: Final = 8192


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
        return cls(*(np.array([getattr(workload, name) or 0], dtype=np.int64) for name in _COLUMNS))

    def __len__(self) -> int:
        return max(len(getattr(self, name)) for name in _COLUMNS)


_COLUMNS: Final = (
    "prompt_tokens",
    "output_tokens",
    "batch_size",
    "shared_prefix_tokens",
    "prefill_chunk_tokens",
    "prefill_tokens_per_step",
)


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
    columns = [getattr(workload, name) for name in _COLUMNS]
    # A single point runs on Python numbers: NumPy's call overhead would be most of its time.
    if n == 1:
        return _assemble(plan, [tuple(int(c[0]) for c in columns)], [(0, 1)], 1, proposing)
    pieces = [(low, min(low + CHUNK, n)) for low in range(0, n, CHUNK)]
    inputs = (tuple(_piece(c, low, high) for c in columns) for low, high in pieces)
    return _assemble(plan, inputs, pieces, n, proposing)


def _piece(column: Column, low: int, high: int) -> Values:
    return int(column[0]) if len(column) == 1 else column[low:high].astype(np.float64)


def _assemble(
    plan: Plan, inputs: Any, pieces: list[tuple[int, int]], n: int, speculation: Drafting | None
) -> Summary:
    phases: dict[str, dict[str, Column]] = {phase: {} for phase in PHASES}
    fits = np.empty(n, dtype=np.bool_)
    beyond = np.empty(n, dtype=np.bool_)
    limit = plan.deployment.model.max_position_embeddings or np.inf
    for (low, high), values in zip(pieces, inputs, strict=True):
        load = load_of(*values, chunked=_any(values[4]), mixed=_any(values[5]))
        arithmetic = SCALAR if all(isinstance(v, int) for v in values) else ARRAYS
        found, used = predict(arithmetic, plan, load, speculation)
        fits[low:high] = used.fits
        beyond[low:high] = load.prompt + load.output > limit
        for phase, metrics in found.items():
            _store(phases[phase], metrics, low, high, n)
    return Summary(phases, fits, beyond)


def _any(value: Values) -> bool:
    return value > 0 if isinstance(value, int) else bool((value > 0).any())


def _store(columns: dict[str, Column], metrics: Mapping[str, Values], low: int, high: int, n: int) -> None:
    written: dict[int, str] = {}
    for name, value in metrics.items():
        if low == 0:
            twin = written.get(id(value))
            if not isinstance(value, np.ndarray):
                # The same for every point: one number seen n times, at no memory.
                dtype = np.int8 if name == "bound" else np.float64
                columns[name] = np.broadcast_to(np.asarray(value, dtype=dtype), (n,))
                continue
            columns[name] = columns[twin] if twin else np.empty(n, np.int8 if name == "bound" else np.float64)
            written[id(value)] = twin or name
        if columns[name].flags.writeable:
            columns[name][low:high] = value
