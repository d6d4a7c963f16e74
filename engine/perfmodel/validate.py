"""Errors of the model over a table of timings, by operator, device, precision, engine and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.perfmodel.bands import Estimate, Spent, banded
from engine.perfmodel.fit import EDGES_S, Column, KernelRows, predicted_s
from engine.perfmodel.kernel_table import gated_rows
from engine.perfmodel.measured_table import Measured, Outcome, fit_table, subjects
from engine.perfmodel.parameter_sets import Law, choose
from engine.perfmodel.request_law import RequestOutcome
from engine.perfmodel.request_rows import RunRows, gated_runs, predicted_request
from engine.perfmodel.summary import ARRAYS
from engine.spec.calibration import Calibration
from engine.spec.hardware import Hardware

_SIZES: Final = ("below 20 us", "20 to 200 us", "above 200 us")


@dataclass(frozen=True)
class ErrorLine:
    """Errors of one subject and one size of kernel; fractions of the measured time."""

    subject: str
    size: str
    """`all` or a range of measured times."""
    rows: int
    sites: int
    median: float
    p90: float
    ratio: float
    """Median of predicted over measured."""
    within_10: float
    within_25: float
    bound_median: float
    """Median error of the data-sheet bound, for comparison."""
    note: str = ""
    """Why there is no error, or what it is of."""
    covered: float = float("nan")
    """Share of rows inside the 90 % band of the prediction; NaN where bands were not asked for."""

    def __str__(self) -> str:
        head = f"{self.subject}, {self.size}: "
        if self.note and not self.rows:
            return head + self.note
        if self.rows == 1:
            outside = ", outside the band" if self.covered == 0 else ""
            note = f" ({self.note})" if self.note else ""
            return f"{head}{self.ratio - 1:+.1%} of the measured time{outside}{note}"
        return (
            f"{head}{self.rows} rows of {self.sites} shapes, median {self.median:.1%}, p90 {self.p90:.1%}, "
            f"ratio {self.ratio:.2f}, within 25 % {self.within_25:.0%}"
            + (f", in band {self.covered:.0%}" if np.isfinite(self.covered) else "")
            + (f", bound {self.bound_median:.0%}" if np.isfinite(self.bound_median) else "")
            + (f" ({self.note})" if self.note else "")
        )

    def as_data(self) -> dict[str, Any]:
        """The line for programs; None where nothing is known."""
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(self).items()}

    def as_markdown(self) -> str:
        """The line as a row of a table."""
        cells = (
            self.subject, self.size, str(self.rows), str(self.sites), f"{100 * self.median:.1f}",
            f"{100 * self.p90:.1f}", f"{self.ratio:.2f}", f"{100 * self.within_10:.0f}",
            f"{100 * self.within_25:.0f}",
            f"{100 * self.bound_median:.0f}" if np.isfinite(self.bound_median) else "",
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def held_out_table(table: Measured, devices: Mapping[str, Hardware]) -> list[ErrorLine]:
    """Errors of predictions by fits that had not seen a row's site."""
    return lines_of(fit_table(table, devices))


def lines_of(outcome: Outcome) -> list[ErrorLine]:
    """The held-out errors of fits, then what was refused."""
    lines: list[ErrorLine] = []
    for subject, fitted in outcome.fits.items():
        lines += _lines(str(subject), fitted.gated.rows, fitted.predicted_s)
    lines += [_absent(subject, reason) for subject, reason in outcome.refused.items()]
    return lines


def shipped_table(
    table: Measured, devices: Mapping[str, Hardware], sets: Mapping[str, Calibration]
) -> list[ErrorLine]:
    """Errors of the parameters that a prediction for each device would use."""
    lines: list[ErrorLine] = []
    for subject, places in subjects(table, devices, {}):
        hardware = devices[subject.device]
        chosen = choose("auto", hardware, sets)
        law = None
        if chosen is not None:
            law = (
                chosen.collective(subject.devices)
                if subject.devices
                else chosen.law(subject.operator, subject.precision)
            )
        if law is None:
            lines.append(_absent(str(subject), "no parameters: the bound alone"))
            continue
        columns = dict(table.take(places).numbers)
        columns["measured_s"] = columns.pop("time_s")
        try:
            rows = gated_rows(subject.operator, subject.precision, columns, hardware).rows
        except EngineError as err:
            lines.append(_absent(str(subject), err.message))
            continue
        if len(rows):
            predicted = predicted_s(rows, law.form, law.alone)
            inside = _inside(law, predicted, rows.measured_s)
            lines += _lines(str(subject), rows, predicted, note=f"by {law.origin}", inside=inside)
    return lines


def _inside(law: Law, predicted: Column, measured: Column) -> NDArray[np.bool_]:
    """Which rows lie in the band of single kernels."""
    band = banded(ARRAYS, Estimate({id(law): Spent(law, predicted, 1)}))
    found: NDArray[np.bool_] = (measured >= band.low_s) & (measured <= band.high_s)
    return found


def request_lines_of(subject: str, fitted: RequestOutcome) -> list[ErrorLine]:
    """The held-out errors of whole requests: time per token by size, time of a prefill, joules."""
    rows = fitted.gated.rows
    bound = predicted_request(rows, None)
    lines = _request_lines(f"time per token, {subject}", rows, rows.tpot_s, fitted.tpot_s, bound["tpot_s"])
    lines += _request_lines(f"prefill, {subject}", rows, rows.prefill_s, fitted.ttft_s, bound["ttft_s"])[:1]
    if len(fitted.energy_j):
        nothing = np.full(len(rows), np.nan)
        lines += _request_lines(
            f"joules per token, {subject}", rows, rows.energy_j, fitted.energy_j, nothing
        )[:1]
    return lines


def shipped_requests(subject: str, runs: RunRows, sets: Mapping[str, Calibration]) -> list[ErrorLine]:
    """Errors of what a prediction would say of whole requests; a line for each where they are few."""
    rows = gated_runs(runs).rows
    if not len(rows):
        return [_absent(subject, "no usable run")]
    chosen = choose("auto", rows.deployments[0].hardware, sets)
    if chosen is None:
        return [_absent(subject, "no parameters: the bound alone")]
    bound, found = predicted_request(rows, None), predicted_request(rows, chosen, bands=True)
    served = rows.continuous & np.isfinite(found["serving_tpot_s"])
    tpot, low, high = (
        np.where(served, found[f"serving_tpot_s{end}"], found[f"tpot_s{end}"])
        for end in ("", "_low", "_high")
    )
    first = found["ttft_s"], found["ttft_s_low"], found["ttft_s_high"]
    lines: list[ErrorLine] = []
    for name, measured, (predicted, least_s, most_s), least in (
        ("prefill", rows.prefill_s, first, bound["ttft_s"]),
        ("time per token", rows.tpot_s, (tpot, low, high), bound["tpot_s"]),
    ):
        title = f"{name}, {subject}"
        inside = (measured >= least_s) & (measured <= most_s)
        note = f"by {chosen.name}"
        lines += _request_lines(title, rows, measured, predicted, least, note=note, inside=inside)[:1]
        seen = np.flatnonzero(np.isfinite(measured) & np.isfinite(predicted))
        if len(seen) <= _FEW:
            lines += [
                _line(
                    title,
                    _shape(rows, int(i)),
                    measured[[i]],
                    predicted[[i]],
                    least[[i]],
                    rows.site[[i]],
                    inside=inside[[i]],
                )
                for i in seen
            ]
    return lines


_FEW: Final = 12


def _shape(rows: RunRows, i: int) -> str:
    model = rows.deployments[rows.which[i]].model
    return (
        f"{model.name} of width {model.hidden_size}, "
        f"{rows.prompt_tokens[i]} + {rows.output_tokens[i]} tokens, batch {rows.batch_size[i]}"
    )


_STEPS_S: Final = (10e-3, 50e-3)
_STEP_SIZES: Final = ("below 10 ms", "10 to 50 ms", "above 50 ms")


def _request_lines(
    subject: str,
    rows: RunRows,
    measured: Column,
    predicted: Column,
    bound: Column,
    *,
    note: str = "",
    inside: NDArray[np.bool_] | None = None,
) -> list[ErrorLine]:
    seen = np.isfinite(measured) & np.isfinite(predicted)
    place = np.searchsorted(np.asarray(_STEPS_S), measured)
    groups = {"all": seen} | {size: seen & (place == i) for i, size in enumerate(_STEP_SIZES)}
    return [
        _line(
            subject,
            size,
            measured[which],
            predicted[which],
            bound[which],
            rows.site[which],
            note=note,
            inside=None if inside is None else inside[which],
        )
        for size, which in groups.items()
        if which.any()
    ]


def _absent(subject: str, reason: str) -> ErrorLine:
    nan = float("nan")
    return ErrorLine(subject, "all", 0, 0, nan, nan, nan, nan, nan, nan, reason)


def _lines(
    subject: str,
    rows: KernelRows,
    predicted: Column,
    *,
    note: str = "",
    inside: NDArray[np.bool_] | None = None,
) -> list[ErrorLine]:
    """All rows, only the usual shapes where some are not, then by size."""
    seen = np.isfinite(predicted)
    place = np.searchsorted(np.asarray(EDGES_S), rows.measured_s)
    groups = {"all": seen}
    if not rows.usual.all():
        groups["usual shapes"] = seen & rows.usual
    groups |= {size: seen & (place == i) for i, size in enumerate(_SIZES)}
    found = []
    for size, which in groups.items():
        if not which.any():
            continue
        found.append(
            _line(
                subject,
                size,
                rows.measured_s[which],
                predicted[which],
                rows.bound_s[which],
                rows.site[which],
                note=note,
                inside=None if inside is None else inside[which],
            )
        )
    return found


def _line(
    subject: str,
    size: str,
    measured: Column,
    times: Column,
    bound_s: Column,
    site: NDArray[Any],
    *,
    note: str = "",
    inside: NDArray[np.bool_] | None = None,
) -> ErrorLine:
    error, bound = np.abs(times / measured - 1), np.abs(bound_s / measured - 1)
    return ErrorLine(
        subject,
        size,
        len(measured),
        len(np.unique(site)),
        float(np.median(error)),
        float(np.quantile(error, 0.9)),
        float(np.median(times / measured)),
        float(np.mean(error <= 0.1)),
        float(np.mean(error <= 0.25)),
        float(np.median(bound)),
        note,
        float("nan") if inside is None else float(np.mean(inside)),
    )
