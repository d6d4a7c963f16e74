"""Fitting the laws of `forms.py` to measured kernels: robust, and judged on sites the fit has not seen.

The loss is the mean of |log(predicted / measured)|: a row twice too slow weighs as much as one twice too
fast, and the wild rows that every table of timings has do not pull the rest. A site is everything with the
same fixed dimensions; neighbours of a row stay out of its fit together with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.forms import Amount, Form, kernel_time_s
from engine.perfmodel.summary import ARRAYS
from engine.spec.calibration import Band, HeldOut, LawParameters, Range

Column: TypeAlias = NDArray[np.float64]

FOLDS: Final = 5
EDGES_S: Final = (20e-6, 200e-6)
"""Sizes at which bands change: launch decides below the first, throughput above the second."""
MISS: Final = 0.05
"""Share of rows beyond either end of a band: nine of ten lie inside."""
_FEWEST_IN_BAND: Final = 20
_SMOOTH: Final = 0.02
# Parameters no kernel can beat: efficiencies above 1 are noise, or a roof that is not the real one.
_START: Final[dict[str, tuple[float, ...]]] = {
    "launch": (4e-6, 2e-5),
    "compute_efficiency": (0.7,),
    "memory_efficiency": (0.7,),
    "single_row": (0.7,),
    "root": (5e-7,),
    "single_row_root": (5e-6,),
    "wave_share": (0.2,),
    "depth_cost": (1e-10,),
    "wave_cost": (5e-7,),
    "alone_rate": (2.0,),
}
_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "launch": (1e-9, 1.0),
    "compute_efficiency": (1e-4, 1.0),
    "memory_efficiency": (1e-4, 1.0),
    "single_row": (1e-4, 1.0),
    "root": (1e-12, 1.0),
    "single_row_root": (1e-12, 1.0),
    "wave_share": (1e-4, 1.0),
    "depth_cost": (1e-13, 1e-6),
    "wave_cost": (1e-12, 1.0),
    "alone_rate": (1e-2, 1e2),
}
USES: Final[dict[Form, tuple[str, ...]]] = {
    "overlapped": ("launch", "compute_efficiency", "memory_efficiency", "root", "wave_share", "depth_cost"),
    "added": ("launch", "compute_efficiency", "memory_efficiency", "wave_cost"),
    "waves": ("launch", "memory_efficiency", "root", "wave_cost"),
}
"""Parameters each form fits where the rows can tell them apart."""
PLAIN: Final = ("launch", "compute_efficiency", "memory_efficiency")
STREAMING: Final = ("launch", "memory_efficiency", "root")


@dataclass(frozen=True)
class KernelRows:
    """Measured kernels of one kind as columns of one length."""

    compute_s: Column
    """FLOPs over the data-sheet peak."""
    memory_s: Column
    """Bytes over the data-sheet bandwidth."""
    waves: Column | None
    """Work items over multiprocessors; None where the device has no such number."""
    measured_s: Column
    site: NDArray[Any]
    """Text that tells sites apart."""
    usual: NDArray[np.bool_]
    """Shapes that engines have good kernels for; the others are judged, not fitted."""
    single: NDArray[np.bool_]
    """Products of a single row."""
    depth: Column
    """Columns of the activations of products; 0 for other kinds."""
    alone_s: Column | None = None
    """Memory seconds of ungrouped decode attention on as many multiprocessors as it has heads, 0 for grouped
    heads; None for other kinds."""
    filled: Column | None = None
    """Waves if items that the edge cuts off counted in part; None where they are whole."""

    def __len__(self) -> int:
        return len(self.measured_s)

    @property
    def bound_s(self) -> Column:
        """Data-sheet bound of each row."""
        return np.maximum(self.compute_s, self.memory_s)

    def take(self, rows: NDArray[Any]) -> KernelRows:
        """Some of the rows."""
        waves = None if self.waves is None else self.waves[rows]
        return KernelRows(
            self.compute_s[rows],
            self.memory_s[rows],
            waves,
            self.measured_s[rows],
            self.site[rows],
            self.usual[rows],
            self.single[rows],
            self.depth[rows],
            None if self.alone_s is None else self.alone_s[rows],
            None if self.filled is None else self.filled[rows],
        )


def predicted_s(rows: KernelRows, form: Form, parameters: LawParameters) -> Column:
    """Estimated seconds of each row."""
    amount = Amount(
        rows.compute_s, rows.memory_s, rows.waves, rows.depth, rows.alone_s, rows.single, rows.filled
    )
    found: Column = np.asarray(kernel_time_s(ARRAYS, form, parameters, amount), dtype=np.float64)
    return found


def fit_law(
    rows: KernelRows, form: Form, *, uses: Sequence[str], limits: dict[str, tuple[float, float]] | None = None
) -> LawParameters:
    """The parameters that come closest; those outside `uses` stay at their neutral values."""
    names = list(uses)
    bounds = np.log([{**_LIMITS, **(limits or {})}[name] for name in names]).T
    target = np.log(rows.measured_s)

    def residual(logs: Column) -> Column:
        return np.log(predicted_s(rows, form, _parameters(names, np.exp(logs)))) - target

    starts = (
        np.log([launch if name == "launch" else _START[name][0] for name in names])
        for launch in _START["launch"]
    )
    found = [least_absolute(residual, np.clip(s, bounds[0], bounds[1]), bounds=bounds) for s in starts]
    return _parameters(names, np.exp(min(found, key=lambda f: f[0])[1]))


def _parameters(names: Sequence[str], values: Column) -> LawParameters:
    # A dozen evaluations a step: validation would be most of the time, and the limits hold already.
    given = {name: float(value) for name, value in zip(names, values, strict=True)}
    return LawParameters.model_construct(**{**_NEUTRAL, **given})


_NEUTRAL: Final[dict[str, Any]] = {
    "launch": 0.0,
    "compute_efficiency": None,
    "memory_efficiency": 1.0,
    "single_row": None,
    "root": 0.0,
    "single_row_root": 0.0,
    "wave_share": 0.0,
    "depth_cost": 0.0,
    "wave_cost": 0.0,
    "alone_rate": None,
}


def least_absolute(
    residual: Callable[[Column], Column], start: Column, *, bounds: NDArray[np.float64], steps: int = 80
) -> tuple[float, Column]:
    """Smallest mean absolute residual from a start, and where: reweighted Levenberg-Marquardt in a box."""
    x = np.array(start, dtype=np.float64)
    damping = 1e-2
    r = residual(x)
    loss = _loss(r)
    for _ in range(steps):
        weight = 1 / np.sqrt(r * r + _SMOOTH**2)
        jacobian = _jacobian(residual, x, r)
        curvature = jacobian.T @ (weight[:, None] * jacobian)
        slope = jacobian.T @ (weight * r)
        scale = np.diag(np.diag(curvature) + 1e-9 * max(1.0, float(np.trace(curvature))))
        better = None
        for _ in range(12):
            step = np.clip(np.linalg.solve(curvature + damping * scale, -slope), -1, 1)
            trial = np.clip(x + step, bounds[0], bounds[1])
            trial_r = residual(trial)
            if _loss(trial_r) < loss:
                better = trial, trial_r
                break
            damping *= 4
        if better is None:
            break
        gain = loss - _loss(better[1])
        x, r = better
        loss -= gain
        damping = max(damping / 5, 1e-8)
        if gain < 1e-6:
            break
    return loss, x


def _loss(r: Column) -> float:
    found = float(np.mean(np.sqrt(r * r + _SMOOTH**2)))
    return found if np.isfinite(found) else np.inf


def _jacobian(residual: Callable[[Column], Column], x: Column, r: Column) -> Column:
    columns = []
    for i in range(len(x)):
        moved = x.copy()
        moved[i] += 1e-5
        columns.append((residual(moved) - r) / 1e-5)
    return np.stack(columns, axis=1)


def folds_of(site: NDArray[Any], *, folds: int = FOLDS) -> NDArray[np.int64]:
    """Fold of each row: a hash of its site, so that the split never depends on the order of rows."""
    return np.array([int(hashlib.sha256(str(s).encode()).hexdigest(), 16) % folds for s in site])


def cross_validated_s(
    rows: KernelRows, fold: NDArray[np.int64], fit: Callable[[KernelRows], Callable[[KernelRows], Column]]
) -> Column:
    """Prediction of each row by a fit without its fold; NaN where nothing else is left."""
    found = np.full(len(rows), np.nan)
    for k in np.unique(fold):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(rest) >= 4:
            found[held] = fit(rows.take(rest))(rows.take(held))
    return found


def held_out_errors(
    predicted: Column, measured: Column, fold: NDArray[np.int64], *, split: str, miss: float = MISS
) -> HeldOut:
    """Summary of held-out predictions, the coverage of bands made without the row's fold included."""
    error = np.abs(predicted / measured - 1)
    inside = np.zeros(len(measured), dtype=np.bool_)
    for k in np.unique(fold):
        rest, held = fold != k, fold == k
        if rest.sum() < 4:
            continue
        low, high = band_factors(bands_of(predicted[rest], measured[rest], miss=miss), predicted[held])
        inside[held] = (measured[held] >= predicted[held] * low) & (measured[held] <= predicted[held] * high)
    return HeldOut(
        median=float(np.median(error)),
        p90=float(np.quantile(error, 0.9)),
        ratio=float(np.median(predicted / measured)),
        within_10=float(np.mean(error <= 0.1)),
        within_25=float(np.mean(error <= 0.25)),
        coverage=float(np.mean(inside)),
        split=split,
    )


def bands_of(
    predicted: Column, measured: Column, *, edges_s: Sequence[float] = EDGES_S, miss: float = MISS
) -> list[Band]:
    """Quantiles of measured over predicted by size, `miss` left out on either side; sizes with few rows share
    a band."""
    ratio = measured / predicted
    place = np.searchsorted(np.asarray(edges_s), predicted)
    groups: list[tuple[float | None, NDArray[np.int64]]] = []
    waiting = np.empty(0, dtype=np.int64)
    for i in range(len(edges_s) + 1):
        waiting = np.concatenate([waiting, np.flatnonzero(place == i)])
        if len(waiting) >= _FEWEST_IN_BAND and i < len(edges_s):
            groups.append((edges_s[i], waiting))
            waiting = np.empty(0, dtype=np.int64)
    if groups and len(waiting) < _FEWEST_IN_BAND:
        waiting = np.concatenate([groups.pop()[1], waiting])
    groups.append((None, waiting))
    return [
        _band(below, low=_quantile(ratio[rows], miss), high=_quantile(ratio[rows], 1 - miss), rows=len(rows))
        for below, rows in groups
    ]


def _band(below: float | None, *, low: float, high: float, rows: int) -> Band:
    # Numbers of our own need no unit written behind them.
    given = {"below": below, "low": low, "high": high, "rows": rows}
    return Band.model_validate(given, context={"trusted": True})


def _quantile(ratio: Column, share: float) -> float:
    # One place further out than the sample quantile: what the next row will do, not the last ones.
    n = len(ratio)
    outward = share * n - 1 if share < 0.5 else share * n
    place = min(max(outward / max(n - 1, 1), 0.0), 1.0)
    found = float(np.quantile(ratio, place))
    if n * min(share, 1 - share) < 1:
        # Too few rows to have seen the quantile: as far out as Student's t says for the next of so few
        # (Cornish-Fisher to first order), measured from the middle.
        middle = float(np.median(ratio))
        found = middle * (found / middle) ** (np.sqrt(1 + 1 / n) * (1 + 0.93 / max(n - 1, 1)))
    return float(np.clip(found, 1e-2, 1e2))


def band_factors(bands: Sequence[Band], predicted: Column) -> tuple[Column, Column]:
    """Low and high factor of each prediction."""
    edges = [band.below for band in bands if band.below is not None]
    place = np.searchsorted(np.asarray(edges), predicted)
    return np.array([b.low for b in bands])[place], np.array([b.high for b in bands])[place]


def range_of(values: Column) -> Range:
    """Smallest and largest value."""
    return Range(low=float(np.min(values)), high=float(np.max(values)))
