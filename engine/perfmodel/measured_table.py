"""A table of timings, split into what one law describes and fitted; the rest is refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, UsageError
from engine.perfmodel.kernel_table import DIMENSIONS
from engine.perfmodel.operator_fit import Fitted, fit_operator
from engine.spec.calibration import OperatorKind
from engine.spec.hardware import Hardware, Precision

KINDS: Final[dict[str, OperatorKind]] = {
    **{kind: kind for kind in get_args(OperatorKind)},
    "attn_prefill": "prefill_attention",
    "attn_decode": "decode_attention",
    "comm_allreduce": "all_reduce",
    "moe": "experts",
}
"""Names of operators in tables -> ours."""
OTHER: Final = ("copy", "launch", "decode_step", "between_products")
"""Rows that no law is fitted on; steps of stacks give the time of the framework, see `host_fit`."""
_PRECISIONS: Final = frozenset(get_args(Precision))
_MOST_REFUSED: Final = 1 / 3
"""Share of rows faster than the data sheet from which the whole kind is refused."""


@dataclass(frozen=True)
class Measured:
    """A table of timings as columns of one length; texts are `None` and numbers NaN where unknown."""

    texts: Mapping[str, NDArray[Any]]
    """`device`, `engine`, `engine_version`, `operator` and `precision`."""
    numbers: Mapping[str, NDArray[np.float64]]
    """Dimensions, and `time_s`."""

    def __len__(self) -> int:
        return len(self.texts["operator"])

    def take(self, rows: NDArray[Any]) -> Measured:
        """Some of the rows."""
        return Measured(
            {name: column[rows] for name, column in self.texts.items()},
            {name: column[rows] for name, column in self.numbers.items()},
        )


@dataclass(frozen=True)
class Subject:
    """What one fit is about."""

    device: str
    engine: str
    engine_version: str
    operator: OperatorKind
    precision: Precision
    devices: int | None = None

    def __str__(self) -> str:
        group = f" over {self.devices} devices" if self.devices else ""
        kind = self.operator.replace("_", " ")
        engine = " ".join(part for part in (self.engine, self.engine_version) if part)
        about = f"{kind} in {self.precision}{group}"
        return ", ".join(part for part in (about, self.device, engine) if part)


@dataclass(frozen=True)
class Outcome:
    """Fits by subject, and everything that was left out."""

    fits: dict[Subject, Fitted] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Subject -> reason."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Reason -> rows that belong to no subject."""


def fit_table(table: Measured, devices: Mapping[str, Hardware]) -> Outcome:
    """Every fit that a table carries; `devices` are the known ones under the names the table uses."""
    outcome = Outcome()
    for subject, rows in subjects(table, devices, outcome.ignored):
        columns = {**table.take(rows).numbers}
        columns["measured_s"] = columns.pop("time_s")
        columns, repeated = _each_shape_once(subject.operator, columns)
        try:
            fitted = fit_operator(
                subject.operator,
                subject.precision,
                columns,
                devices[subject.device],
                devices=subject.devices,
                version=subject.engine_version,
            )
            _refuse_other_units(fitted)
        except EngineError as err:
            outcome.refused[str(subject)] = f"{err.message}; {err.hint}" if err.hint else err.message
            continue
        _warn(fitted)
        if repeated:
            fitted.gated.dropped["repeated shape, median taken"] = repeated
        outcome.fits[subject] = fitted
    return outcome


def _warn(fitted: Fitted) -> None:
    """What a reader must see although it breaks no law of physics."""
    rows, errors = fitted.gated.rows, fitted.fit.held_out
    best = float(np.max(rows.bound_s / rows.measured_s))
    if best < _HARDLY_ANY:
        fitted.warnings.append(
            f"the fastest row reaches {best:.2%} of the data sheet: are the times in another unit?"
        )
    if errors.median > _LOST:
        fitted.warnings.append(
            f"half of the rows are more than {errors.median:.0%} off: mixed units, several devices under one "
            "name, or a busy machine?"
        )


_HARDLY_ANY: Final = 1e-3
_LOST: Final = 0.35


def subjects(
    table: Measured, devices: Mapping[str, Hardware], ignored: dict[str, int]
) -> Iterator[tuple[Subject, NDArray[np.int64]]]:
    """The rows of each subject; what belongs to none is counted in `ignored`."""
    found: dict[Subject, list[int]] = {}
    counts = table.numbers.get("num_gpus", np.full(len(table), np.nan))
    for i in range(len(table)):
        device, engine, version, operator, precision = (str(table.texts[n][i] or "") for n in _TEXTS)
        if operator in OTHER:
            continue
        reason = _why_not(device, operator, precision, devices)
        if reason:
            ignored[reason] = ignored.get(reason, 0) + 1
            continue
        kind = KINDS[operator]
        group = int(counts[i]) if kind == "all_reduce" and counts[i] > 1 else None
        subject = Subject(device, engine, version, kind, cast("Precision", precision), group)
        found.setdefault(subject, []).append(i)
    for subject, rows in found.items():
        yield subject, np.array(rows, dtype=np.int64)


_TEXTS: Final = ("device", "engine", "engine_version", "operator", "precision")


def _why_not(device: str, operator: str, precision: str, devices: Mapping[str, Hardware]) -> str | None:
    if operator not in KINDS:
        return f"no operator `{operator}` (known: {', '.join(KINDS)})"
    if precision not in _PRECISIONS:
        return f"no precision `{precision}` (known: {', '.join(sorted(_PRECISIONS))})"
    return None if device in devices else f"no device `{device}` in the catalogue"


def _each_shape_once(
    kind: OperatorKind, columns: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], int]:
    """One row a shape: repeated ones would weigh double and leak from fold to fold."""
    names = [name for name in DIMENSIONS[kind] if name in columns]
    times = np.asarray(columns["measured_s"], dtype=np.float64)
    usable = np.isfinite(times) & (times > 0)
    groups: dict[tuple[float, ...], list[int]] = {}
    for i in range(len(times)):
        # What is broken stays a row of its own, to be counted with its reason.
        key = tuple(float(columns[name][i]) for name in names) if usable[i] else (float(i), -1.0, -1.0)
        groups.setdefault(key, []).append(i)
    first = np.array([rows[0] for rows in groups.values()], dtype=np.int64)
    found = {name: np.asarray(column)[first] for name, column in columns.items()}
    found["measured_s"] = np.array([np.median(times[rows]) for rows in groups.values()])
    return found, len(times) - len(first)


def _refuse_other_units(fitted: Fitted) -> None:
    fast = fitted.gated.dropped.get("faster than the data sheet allows", 0)
    rows = len(fitted.gated.rows) + fast
    if fast > _MOST_REFUSED * rows:
        raise UsageError(
            f"{fast} of {rows} rows are faster than the data sheet allows",
            hint="are the times in another unit, the counts for several devices, or is it another device?",
        )
