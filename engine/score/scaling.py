"""Comparing runs: scaling efficiency, batch impact, comparisons along one axis, dominated runs, errors.

Works on the tables `points` and `summary` whatever made them, so that logs, live runs and predictions are
compared by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import UsageError
from engine.metrics import METRICS

if TYPE_CHECKING:
    from engine.results.tables import Tables

Pick = Literal["min", "median", "max", "all"]
AXES: Final = ("batch_size", "parameters", "hardware", "quantization", "model", "tensor", "settings")
"""What runs may differ in, and be compared along."""
NUMBER_AXES: Final = ("batch_size", "parameters", "tensor")
RESOURCES: Final = ("memory_used_bytes", "average_power_w", "parameters", "batch_size", "tensor")
"""What a gain may be held against."""
_OWN_AXIS: Final = ("parameters", "batch_size", "tensor")
"""Settings that are a resource only along their own axis."""
PERFORMANCE: Final = "throughput_tokens_per_s"
_SETTINGS: Final = ("model", "hardware", "quantization", "settings", "batch_size", "tensor", "prompt_tokens")


@dataclass(frozen=True)
class Run:
    """One row of results with the settings of its point."""

    point: int | None
    label: str
    """Where it comes from: the folder of a run, or the variant of a point."""
    status: str
    reason: str | None
    settings: Mapping[str, Any]
    """model, hardware, quantization, settings, batch_size, tensor, prompt_tokens, output_tokens."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value in base units, percentiles and ends of intervals included."""

    def get(self, name: str) -> Any:
        """A setting or a metric; None when it is not known. `parameters` is a metric."""
        return self.values.get(name, self.settings.get(name))


@dataclass(frozen=True)
class Scaling:
    """From one run to another: how much performance grew against a resource."""

    axis: str
    resource: str
    group: str
    """Settings both runs share."""
    start: Run
    end: Run
    performance_ratio: float
    resource_ratio: float

    @property
    def efficiency(self) -> float:
        """Performance ratio over resource ratio; above 1 performance grew faster than the resource."""
        return scaling_efficiency(self.performance_ratio, self.resource_ratio)

    @property
    def efficiency_of_rounded(self) -> float:
        """The same from ratios rounded to two decimals first, as reports by hand often do."""
        return scaling_efficiency(round(self.performance_ratio, 2), round(self.resource_ratio, 2))

    @property
    def note(self) -> str:
        """Says when rounding first would show another number."""
        exact, rounded = f"{self.efficiency:.2f}", f"{self.efficiency_of_rounded:.2f}"
        if exact == rounded:
            return ""
        ratios = f"{self.performance_ratio:.2f} / {self.resource_ratio:.2f}"
        return f"{exact} from exact ratios; ratios rounded first ({ratios}) would give {rounded}"


def scaling_efficiency(performance_ratio: float, resource_ratio: float) -> float:
    """Performance increase over resource increase; raises `UsageError` for a resource ratio of 0."""
    if resource_ratio == 0:
        raise UsageError("the resource ratio is 0: scaling efficiency is not defined")
    return performance_ratio / resource_ratio


def runs_of(tables: Tables, *, source: str = "run_folder", phase: str = "request") -> list[Run]:
    """Rows of a source and phase with settings; tests of one phase, such as `tg128`, come too."""
    points = {row["point"]: row for row in tables["points"].to_pylist()}
    rows = [row for row in tables["summary"].to_pylist() if row["source"] == source]
    whole = {(row["point"], row["variant"]) for row in rows if row["phase"] == phase}
    kept = [row for row in rows if row["phase"] == phase or (row["point"], row["variant"]) not in whole]
    return [_run(row, points.get(row["point"], {}), phase) for row in kept]


def _run(row: Mapping[str, Any], point: Mapping[str, Any], phase: str) -> Run:
    values = {
        k: float(v) for k, v in row.items() if isinstance(v, int | float) and k != "point" and v is not None
    }
    settings = {k: v for k, v in point.items() if k != "point" and v is not None}
    label = str(row.get("variant") or f"point {row['point']}")
    return Run(
        row["point"],
        label if row["phase"] == phase else f"{label} ({row['phase']})",
        str(row["status"]),
        row.get("reason"),
        settings,
        values,
    )


def representatives(runs: Sequence[Run], *, pick: Pick = "median", by: str = "average_power_w") -> list[Run]:
    """One run of each configuration: of its repeats the one with the least, middle or most `by`.

    Of an even number the lower middle one is taken: a real run, not a mean of two.
    """
    if pick == "all":
        return list(runs)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.point, *(run.get(name) for name in _SETTINGS)), []).append(run)
    return [picked(group, pick=pick, by=by) for group in groups.values()]


def picked(runs: Sequence[Run], *, pick: Pick = "median", by: str = "average_power_w") -> Run:
    """The run with the least, middle or most of a metric; runs without it stand back."""
    known = sorted((run for run in runs if run.get(by) is not None), key=lambda run: float(run.get(by)))
    if not known:
        return runs[0]
    return known[{"min": 0, "median": (len(known) - 1) // 2, "max": -1, "all": 0}[pick]]


def comparisons(runs: Sequence[Run], axis: str) -> list[tuple[str, list[Run]]]:
    """Groups of runs that differ in one setting only, with what they share; groups of one are left out."""
    shared = [name for name in _SETTINGS if name not in _follows(axis)]
    usable = [run for run in runs if run.get(axis) is not None and run.status == "ok"]
    found = []
    for values, group in _groups(usable, shared, axis).items():
        if len({run.get(axis) for run in group}) > 1:
            text = ", ".join(
                _stated(n, v, group) for n, v in zip(shared, values, strict=True) if v is not None
            )
            found.append((text, sorted(group, key=lambda run: _order(run.get(axis)))))
    return found


_Key = tuple[Any, ...]
_MAY_BE_UNSAID: Final = ("hardware", "quantization")
"""What a log may leave out although it has a value; a label or a count that is not there is none."""


def _groups(runs: Sequence[Run], shared: Sequence[str], axis: str) -> dict[_Key, list[Run]]:
    """Runs by what they share. A run that leaves a setting out joins those that state it, where all of its
    model that state it agree and it has as much to be compared with there as among its own."""
    only = _only_values(runs, [name for name in shared if name in _MAY_BE_UNSAID])
    exact = [tuple(run.get(name) for name in shared) for run in runs]
    filled = [
        tuple(
            value if value is not None else only.get((run.get("model"), name))
            for name, value in zip(shared, key, strict=True)
        )
        for run, key in zip(runs, exact, strict=True)
    ]
    own, joined = (_axis_values(runs, keys, axis) for keys in (exact, filled))
    groups: dict[_Key, list[Run]] = {}
    for run, plain, full in zip(runs, exact, filled, strict=True):
        key = full if len(joined[full]) >= len(own[plain]) else plain
        groups.setdefault(key, []).append(run)
    return groups


def _axis_values(runs: Sequence[Run], keys: Sequence[_Key], axis: str) -> dict[_Key, set[Any]]:
    found: dict[_Key, set[Any]] = {}
    for run, key in zip(runs, keys, strict=True):
        found.setdefault(key, set()).add(run.get(axis))
    return found


def _stated(name: str, value: Any, group: Sequence[Run]) -> str:
    """`quantization F16`, and whether every run says so itself."""
    return f"{name} {value}" + ("" if all(run.get(name) is not None for run in group) else " where stated")


def _only_values(runs: Sequence[Run], names: Sequence[str]) -> dict[tuple[Any, str], Any]:
    """(model, setting) -> its value, where all runs of the model that state it agree."""
    seen: dict[tuple[Any, str], set[Any]] = {}
    for run in runs:
        for name in names:
            if run.get(name) is not None:
                seen.setdefault((run.get("model"), name), set()).add(run.get(name))
    return {key: next(iter(values)) for key, values in seen.items() if len(values) == 1}


def _follows(axis: str) -> tuple[str, ...]:
    """Settings that change with an axis: another size is another model; lengths are results of a run."""
    own = {"parameters": ("model", "parameters"), "model": ("model", "parameters")}.get(axis, (axis,))
    return (*own, "prompt_tokens")


def _order(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, int | float)
    return (0, float(value), "") if number else (1, 0.0, str(value))


def scalings(
    runs: Sequence[Run],
    axis: str,
    *,
    resources: Iterable[str] = RESOURCES,
    performance: str = PERFORMANCE,
) -> list[Scaling]:
    """From the first run of each group to every other one, for each resource that both know."""
    if axis not in AXES:
        raise UsageError(f"no axis `{axis}`", hint="axes: " + ", ".join(AXES))
    found = []
    for group, members in comparisons(runs, axis):
        start = members[0]
        for end in members[1:]:
            gain = ratio(end.get(performance), start.get(performance))
            for resource in resources:
                if resource in _OWN_AXIS and axis != resource:
                    continue  # the same model in two logs may state 7 and 6.74 billion
                cost = ratio(end.get(resource), start.get(resource))
                if gain is not None and cost is not None and cost > 0 and cost != 1:
                    found.append(Scaling(axis, resource, group, start, end, gain, cost))
    return found


def ratio(value: Any, base: Any) -> float | None:
    """Value over base; None where one is unknown or the base is 0."""
    known = isinstance(value, int | float) and isinstance(base, int | float) and base != 0
    return float(value) / float(base) if known else None


@dataclass(frozen=True)
class TradeOff:
    """A run on the plane of power and performance."""

    run: Run
    power_w: float
    performance: float
    dominated_by: Run | None
    """A run that is at least as fast at no more power; None for runs on the front."""


def trade_offs(
    runs: Sequence[Run], *, performance: str = PERFORMANCE, power: str = "average_power_w"
) -> list[TradeOff]:
    """Every run with both numbers, and which other run beats it."""
    import numpy as np

    from engine.score.pareto import dominators

    known = [
        r for r in runs if r.status == "ok" and r.get(performance) is not None and r.get(power) is not None
    ]
    if not known:
        return []
    values = np.array([[float(r.get(performance)), -float(r.get(power))] for r in known])
    beaten = dominators(values)
    return [
        TradeOff(run, -float(row[1]), float(row[0]), known[by] if by >= 0 else None)
        for run, row, by in zip(known, values, beaten, strict=True)
    ]


@dataclass(frozen=True)
class PredictionError:
    """A measured metric beside its prediction."""

    run: Run
    phase: str
    metric: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return (self.predicted - self.measured) / self.measured


_COMPARED: Final = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_tokens_per_s",
    "prompt_tokens_per_s",
    "energy_per_output_token_j",
)


def prediction_errors(tables: Tables, *, source: str = "run_folder") -> list[PredictionError]:
    """Each measured metric of each phase that was predicted for the same point."""
    rows = tables["summary"].to_pylist()
    points = {row["point"]: row for row in tables["points"].to_pylist()}
    predicted = {
        (r["point"], r["phase"]): r for r in rows if r["source"] == "predicted" and r["status"] == "ok"
    }
    found = []
    for row in rows:
        other = predicted.get((row["point"], row["phase"]))
        if row["source"] != source or row["status"] != "ok" or other is None:
            continue
        for metric in _COMPARED:
            measured, theory = row.get(metric), other.get(metric)
            if measured and theory is not None:
                run = _run(row, points.get(row["point"], {}), row["phase"])
                found.append(PredictionError(run, row["phase"], metric, float(measured), float(theory)))
    return found


def label_of(metric: str) -> str:
    """What people call a metric or a setting."""
    names = {
        "batch_size": "Batch size",
        "tensor": "Devices",
        "quantization": "Number format",
        "settings": "Settings",
    }
    return (
        METRICS[metric].label
        if metric in METRICS
        else names.get(metric, metric.replace("_", " ").capitalize())
    )
