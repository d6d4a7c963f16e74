"""Terms of whole requests from measured runs: interference of prefills, and the device's energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.perfmodel.fit import Column, least_absolute

_COEFFICIENTS: Final = np.array([100.0, 5e-11, 1e-12])
MOST_STATIC_W: Final = 150.0
"""Limit of static power: what scales with work must not hide in it. A free fit on serving runs calls 400 W of
an H100 static, because busy devices look alike, and is worse on models it has not seen."""


def fit_interference(decode_s: Column, prefill_s: Column, measured_s: Column) -> tuple[float, float]:
    """Step overhead in seconds and interference that bring decode + overhead + interference x prefill closest
    to measured times per token."""

    def residual(logs: Column) -> Column:
        step, share = np.exp(logs)
        found: Column = np.log((decode_s + step + share * prefill_s) / measured_s)
        return found

    bounds = np.log(np.array([[1e-7, 1e-2], [1e-2, 10.0]])).T
    _, found = least_absolute(residual, np.log([1e-4, 1.0]), bounds=bounds)
    return float(np.exp(found[0])), float(np.exp(found[1]))


def fit_energy(
    time_s: Column, moved_bytes: Column, flops: Column, measured_j: Column, *, limit_j: Column
) -> NDArray[np.float64]:
    """Static power in watts, joules per byte and per operation, from energies of any unit of work.

    `time_s` is device-seconds per unit of work; `limit_j` what the boards can draw in that time.
    """
    parts = np.stack([time_s, moved_bytes, flops], axis=1) * _COEFFICIENTS

    def residual(logs: Column) -> Column:
        found: Column = np.log(np.minimum(parts @ np.exp(logs), limit_j) / measured_j)
        return found

    bounds = np.log(np.array([[1e-3, MOST_STATIC_W / 100], [1e-3, 1e3], [1e-3, 1e3]])).T
    _, logs = least_absolute(residual, np.zeros(3), bounds=bounds)
    coefficients: NDArray[np.float64] = np.exp(logs) * _COEFFICIENTS
    return coefficients


def held_out_by(
    groups: NDArray[Any], predict: Callable[[NDArray[np.int64], NDArray[np.int64]], Column]
) -> Column:
    """Predictions of each group by a fit on all others; `predict` gets positions to fit and to predict."""
    found = np.full(len(groups), np.nan)
    for group in np.unique(groups):
        rest, held = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
        if len(rest):
            found[held] = predict(rest, held)
    return found
