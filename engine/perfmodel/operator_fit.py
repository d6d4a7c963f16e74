"""One kind of operator from measured rows to parameters, held-out errors and bands; or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError
from engine.perfmodel.fit import (
    PLAIN,
    STREAMING,
    USES,
    Column,
    KernelRows,
    bands_of,
    cross_validated_s,
    fit_law,
    folds_of,
    held_out_errors,
    predicted_s,
    range_of,
)
from engine.perfmodel.forms import Form
from engine.perfmodel.kernel_table import DIMENSIONS, Gated, gated_rows
from engine.spec.calibration import HeldOut, LawParameters, OperatorFit, OperatorKind
from engine.spec.hardware import Hardware, Precision

FORMS: Final[dict[OperatorKind, Form]] = {
    "gemm": "overlapped",
    "prefill_attention": "added",
    "decode_attention": "waves",
    "experts": "overlapped",
    "elementwise": "overlapped",
    "all_reduce": "overlapped",
}
_USES: Final[dict[OperatorKind, tuple[str, ...]]] = {
    "gemm": USES["overlapped"],
    "prefill_attention": USES["added"],
    "decode_attention": USES["waves"],
    "experts": PLAIN,
    "elementwise": STREAMING,
    "all_reduce": STREAMING,
}
# Switches that reduce on the way move less than a ring, so a link may seem faster than it is.
_FAST_LINK: Final = {"memory_efficiency": (1e-3, 2.0)}
FEWEST_ROWS: Final = 12
FEWEST_SITES: Final = 3
_FEWEST_SINGLE: Final = 5
"""Rows of either kind from which products of a single row get an efficiency of their own. Devices with
multiprocessors run them like others; one parameter less transfers better."""
_NEVER_ALONE: Final = 20.0
"""Shares of the bandwidth from which one multiprocessor is no limit: the kernels cut the cache."""
_SPLIT: Final = "5 folds by site"


@dataclass(frozen=True)
class Fitted:
    """A fit with the rows behind it and their held-out predictions."""

    fit: OperatorFit
    gated: Gated
    predicted_s: Column
    """By fits that had not seen the row's site."""
    warnings: list[str] = field(default_factory=list)
    """What a reader must know although every row is possible."""


def form_of(kind: OperatorKind) -> tuple[Form, tuple[str, ...], dict[str, tuple[float, float]] | None]:
    """The form of a kind, the parameters it fits and limits of its own."""
    return FORMS[kind], _USES[kind], _FAST_LINK if kind == "all_reduce" else None


def fit_operator(
    kind: OperatorKind,
    precision: Precision,
    columns: Mapping[str, NDArray[Any]],
    hardware: Hardware,
    *,
    devices: int | None = None,
    version: str = "",
) -> Fitted:
    """Parameters of one kind of operator; raises `UsageError` with the reason where rows carry none."""
    gated = gated_rows(kind, precision, columns, hardware)
    rows = gated.rows
    limits = form_of(kind)[2]
    laws = [(form, _uses_of(rows, uses)) for form, uses in _candidates(kind, rows)]
    _require_enough(kind, gated, max(len(uses) for _, uses in laws))
    form, uses = laws[0] if len(laws) == 1 else min(laws, key=lambda law: _loss(rows, *law))
    fit = fitter(form, uses, limits)
    gated = _without_strays(kind, gated, fit, len(uses))
    rows = gated.rows
    fold = folds_of(rows.site)
    predicted = cross_validated_s(rows, fold, fit)
    seen = np.isfinite(predicted)
    usual = rows.usual & seen
    parameters = fit_law(rows.take(np.flatnonzero(rows.usual)), form, uses=uses, limits=limits)
    if parameters.alone_rate is not None and parameters.alone_rate > _NEVER_ALONE:
        parameters = parameters.model_copy(update={"alone_rate": None})
    found = OperatorFit.model_validate(
        {
            "operator": kind,
            "precision": precision,
            "devices": devices,
            "form": form,
            "parameters": parameters.model_dump(),
            "rows": int(rows.usual.sum()),
            "sites": len(np.unique(rows.site[rows.usual])),
            "dropped": sum(gated.dropped.values()),
            "held_out": _errors(predicted, rows, fold, usual).model_dump(),
            "held_out_all": None if rows.usual.all() else _errors(predicted, rows, fold, seen).model_dump(),
            "bands": [b.model_dump() for b in bands_of(predicted[usual], rows.measured_s[usual])],
            "time_range": range_of(rows.measured_s[rows.usual]).model_dump(),
            "ranges": _ranges(kind, columns, gated),
            "source_version": version,
        },
        context={"trusted": True},
    )
    return Fitted(found, gated, predicted)


def _candidates(kind: OperatorKind, rows: KernelRows) -> list[tuple[Form, tuple[str, ...]]]:
    """Forms with the parameters they fit. Where no multiprocessors are known the device may be a CPU, whose
    products copy the weights into tiles and then multiply, one after the other: unseen sites decide."""
    found = [(FORMS[kind], _USES[kind])]
    if kind == "gemm" and rows.waves is None:
        found.append(("added", (*PLAIN, "single_row_root")))
    return found


def _uses_of(rows: KernelRows, uses: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters that these rows can tell apart."""
    if rows.waves is None:
        uses = tuple(name for name in uses if not name.startswith(("wave", "depth")))
        if min(rows.single.sum(), (~rows.single).sum()) >= _FEWEST_SINGLE:
            return (*uses, "single_row")
        uses = tuple(name for name in uses if name != "single_row_root")
    elif rows.alone_s is not None and _lone(rows) >= _FEWEST_SINGLE:
        uses = (*uses, "alone_rate")
    return uses


def _loss(rows: KernelRows, form: Form, uses: tuple[str, ...]) -> float:
    """Mean |log(predicted / measured)| of sites that a fit has not seen."""
    predicted = cross_validated_s(rows, folds_of(rows.site), fitter(form, uses, None))
    return float(np.nanmean(np.abs(np.log(predicted / rows.measured_s))))


_STRAY: Final = 20.0
"""Factor from what others of its kind say at which a row is no measurement of the same thing."""
_MOST_STRAYS: Final = 1 / 3


def _without_strays(
    kind: OperatorKind, gated: Gated, fit: Callable[[KernelRows], Callable[[KernelRows], Column]], most: int
) -> Gated:
    """The rows that are of one kind: a fit to them says which are not, and the fit that counts is without."""
    rows = gated.rows
    off = np.abs(np.log(fit(rows)(rows) / rows.measured_s)) > np.log(_STRAY)
    stray = off & rows.usual
    if not stray.any():
        return gated
    if stray.sum() > _MOST_STRAYS * rows.usual.sum():
        raise UsageError(
            f"{stray.sum()} of {rows.usual.sum()} rows are more than {_STRAY:.0f} times off any law",
            hint="are times in mixed units, or rows of several devices under one name?",
        )
    kept = np.flatnonzero(~stray)
    reason = f"more than {_STRAY:.0f} times off all others: another unit?"
    found = Gated(rows.take(kept), gated.kept[kept], {**gated.dropped, reason: int(stray.sum())})
    _require_enough(kind, found, most)
    return found


def _lone(rows: KernelRows) -> int:
    """Rows whose ungrouped heads leave multiprocessors idle."""
    return 0 if rows.alone_s is None else int((rows.usual & (rows.alone_s > rows.memory_s)).sum())


def fitter(
    form: Form, uses: tuple[str, ...], limits: dict[str, tuple[float, float]] | None
) -> Callable[[KernelRows], Callable[[KernelRows], Column]]:
    """What fits the usual ones of some rows and then predicts others."""

    def fit(rows: KernelRows) -> Callable[[KernelRows], Column]:
        usual = np.flatnonzero(rows.usual)
        parameters: LawParameters = fit_law(rows.take(usual), form, uses=uses, limits=limits)
        return lambda others: predicted_s(others, form, parameters)

    return fit


def _require_enough(kind: OperatorKind, gated: Gated, parameters: int) -> None:
    usual = gated.rows.usual
    sites = len(np.unique(gated.rows.site[usual]))
    rows = int(usual.sum())
    least = max(FEWEST_ROWS, 2 * parameters)
    if rows >= least and sites >= FEWEST_SITES:
        return
    lost = ", ".join(f"{count} {reason}" for reason, count in gated.dropped.items())
    raise UsageError(
        f"`{kind}` has {rows} usable rows of {sites} shapes, a fit needs {least} of {FEWEST_SITES}",
        hint=f"left out: {lost}" if lost else "measure more shapes",
    )


def _errors(
    predicted: Column, rows: KernelRows, fold: NDArray[np.int64], which: NDArray[np.bool_]
) -> HeldOut:
    return held_out_errors(predicted[which], rows.measured_s[which], fold[which], split=_SPLIT)


def _ranges(
    kind: OperatorKind, columns: Mapping[str, NDArray[Any]], gated: Gated
) -> dict[str, dict[str, float]]:
    kept = gated.kept[gated.rows.usual]
    return {
        name: range_of(np.asarray(columns[name], dtype=np.float64)[kept]).model_dump()
        for name in DIMENSIONS[kind]
    }
