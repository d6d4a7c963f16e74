"""Questions one asks of results: the best point under limits, where one choice overtakes another, the
largest batch a latency limit admits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import UsageError
from engine.results.tables import POINTS
from engine.score.pareto import is_higher
from engine.score.rows import is_one_of, judged_rows, numbers
from engine.spec.condition import parse_condition

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from engine.score.rows import Floats, Judged, Mask, Rows

SETTINGS: Final = tuple(column.name for column in POINTS if column.name != "point")
# Devices in all follow from the other parallel settings.
_FOLLOWS: Final = {"tensor": "devices", "pipeline": "devices", "expert": "devices", "data": "devices"}


@dataclass(frozen=True)
class BreakEven:
    """Where two choices are equally good, for one combination of the other settings."""

    settings: Mapping[str, Any]
    """The settings that both have in common."""
    along: str
    at: float | None
    """Value of `along` at which both are equal, interpolated; None where one is better all along."""
    between: tuple[float, float] | None
    """Compared values of `along` on either side of the crossing."""
    better_below: str | None
    """The better choice below the crossing, or all along; None when both are equal all along."""
    better_above: str | None
    metric_value: float | None
    """The metric at the crossing, in its unit."""


@dataclass(frozen=True)
class LargestBatch:
    """The largest compared batch that meets every limit, for one combination of the other settings."""

    settings: Mapping[str, Any]
    batch_size: int | None
    """None when no compared batch meets the limits."""
    row: int | None
    """Row of `summary` with that batch."""
    next_batch_size: int | None
    """The next larger compared batch, which misses a limit; None when there is none."""
    limited_by: str
    """What the next larger (or the smallest) batch misses; empty when nothing stopped it."""


def best_under(
    summary: pa.Table,
    metric: str,
    *,
    require: Mapping[str, str] | None = None,
    direction: str | None = None,
    phase: str = "request",
    source: str | None = None,
) -> int | None:
    """Row of `summary` with the best value of a metric among those that meet every limit; None when none
    does. Of equal rows the first one."""
    import numpy as np

    higher = is_higher(metric, {metric: direction} if direction else None)
    judged = judged_rows(summary, phase=phase, source=source)
    values = numbers(summary, metric)[judged.places(metric)]
    usable = _met(judged, require or {}) & np.isfinite(values)
    if not usable.any():
        return None
    merit = np.where(usable, values if higher else -values, -np.inf)
    return int(judged.rows[int(np.argmax(merit))])


def largest_batch(
    points: pa.Table,
    summary: pa.Table,
    *,
    require: Mapping[str, str],
    phase: str = "request",
    source: str | None = None,
) -> tuple[LargestBatch, ...]:
    """For each combination of the other settings, the largest compared batch that meets every limit."""
    import numpy as np

    judged = judged_rows(summary, phase=phase, source=source)
    settings = _settings_of(points, judged)
    met = _met(judged, require)
    batch = np.asarray(settings["batch_size"].to_numpy(zero_copy_only=False), dtype=np.float64)
    found = []
    for rows in _groups(settings, without=("batch_size",)):
        rows = rows[np.argsort(batch[rows], kind="stable")]
        good = np.flatnonzero(met[rows])
        place = int(good[-1]) if len(good) else None
        following = 0 if place is None else place + 1
        stop = rows[following] if following < len(rows) else None
        found.append(
            LargestBatch(
                _common(settings, rows, without=("batch_size",)),
                None if place is None else int(batch[rows[place]]),
                None if place is None else int(judged.rows[rows[place]]),
                None if stop is None or place is None else int(batch[stop]),
                "" if stop is None else _missed(judged, int(stop), require),
            )
        )
    return tuple(found)


def break_even(
    points: pa.Table,
    summary: pa.Table,
    *,
    axis: str,
    first: str,
    second: str,
    along: str,
    metric: str,
    phase: str = "request",
    source: str | None = None,
) -> tuple[BreakEven, ...]:
    """Where two values of a setting (devices, number formats, models) change places as another one grows.

    `axis` and `along` are columns of `points`, such as `hardware` and `batch_size`. One answer for each
    combination of the other settings that both have at two common values of `along` at least; each
    crossing is interpolated on logarithmic scales where all numbers are positive.
    """
    import numpy as np

    for name in (axis, along):
        if name not in SETTINGS:
            raise UsageError(f"points have no setting `{name}`", hint="settings: " + ", ".join(SETTINGS))
    sign = 1.0 if is_higher(metric) else -1.0
    judged = judged_rows(summary, phase=phase, source=source)
    settings = _settings_of(points, judged)
    values = np.where(_met(judged, {}), numbers(summary, metric)[judged.places(metric)], np.nan)
    # The device count belongs to a parallel setting: it cannot be held while that one moves.
    varied = tuple(dict.fromkeys(n for name in (axis, along) for n in (name, _FOLLOWS.get(name, name))))
    choice = settings[axis].to_pylist()
    position = np.asarray(settings[along].to_numpy(zero_copy_only=False), dtype=np.float64)
    found = []
    for rows in _groups(settings, without=varied):
        curves = [
            {position[r]: values[r] for r in rows if str(choice[r]) == name and np.isfinite(values[r])}
            for name in (first, second)
        ]
        shared = sorted(set(curves[0]) & set(curves[1]))
        if len(shared) < 2:
            continue
        one, other = (np.array([curve[x] for x in shared]) for curve in curves)
        common = _common(settings, rows, without=varied)
        found += _crossings(common, along, np.array(shared), one, other, sign, (first, second))
    return tuple(found)


def _crossings(
    settings: Mapping[str, Any],
    along: str,
    x: Floats,
    one: Floats,
    other: Floats,
    sign: float,
    names: tuple[str, str],
) -> list[BreakEven]:
    import numpy as np

    logarithmic = bool((x > 0).all() and (one > 0).all() and (other > 0).all())
    across, y1, y2 = (np.log(v) if logarithmic else v for v in (x, one, other))
    lead = sign * (y1 - y2)
    state = np.sign(lead)
    # A tie at a compared value belongs to whoever led before it, so that touching is no crossing.
    for i in range(1, len(state)):
        state[i] = state[i] or state[i - 1]
    for i in reversed(range(len(state) - 1)):
        state[i] = state[i] or state[i + 1]
    name = {1.0: names[0], -1.0: names[1], 0.0: None}
    found = []
    for i in np.flatnonzero(state[1:] != state[:-1]).tolist():
        share = lead[i] / (lead[i] - lead[i + 1]) if lead[i] != lead[i + 1] else 0.0
        at, value = (v[i] + share * (v[i + 1] - v[i]) for v in (across, y1))
        at, value = (float(np.exp(v)) if logarithmic else float(v) for v in (at, value))
        sides = (float(x[i]), float(x[i + 1]))
        found.append(BreakEven(settings, along, at, sides, name[state[i]], name[state[i + 1]], value))
    if not found:
        winner = name[float(state[0])]
        found.append(BreakEven(settings, along, None, None, winner, winner, None))
    return found


def _met(judged: Judged, require: Mapping[str, str]) -> Mask:
    met: Mask = is_one_of(judged.summary, "status", "ok")[judged.rows]
    for metric, text in require.items():
        values: Any = numbers(judged.summary, metric)[judged.places(metric)]
        met = met & parse_condition(metric, str(text)).holds(values)
    return met


def _missed(judged: Judged, place: int, require: Mapping[str, str]) -> str:
    """Why a row does not qualify, for people."""
    row = int(judged.rows[place])
    status = judged.summary["status"][row].as_py()
    if status != "ok":
        return str(judged.summary["reason"][row].as_py() or status)
    missed = []
    for metric, text in require.items():
        value = numbers(judged.summary, metric)[judged.places(metric)[place]]
        if not parse_condition(metric, str(text)).holds(value):
            missed.append(f"{metric} {text}")
    return ", ".join(missed)


def _settings_of(points: pa.Table, judged: Judged) -> dict[str, Any]:
    """Each setting of the judged rows; a variant counts as a setting too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = pc.index_in(
        judged.summary["point"].take(judged.rows).combine_chunks(), value_set=points["point"].combine_chunks()
    )
    found = {}
    for name in SETTINGS:
        values = points[name].combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.cast(pa.string())
        found[name] = values.take(place)
    if "variant" in judged.summary.column_names:
        found["variant"] = judged.summary["variant"].cast(pa.string()).take(judged.rows).combine_chunks()
    return found


def _groups(settings: Mapping[str, Any], *, without: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Rows that agree in every setting but some, in order of first appearance."""
    import numpy as np
    import pyarrow.compute as pc

    size = len(settings["batch_size"])
    code = np.zeros(size, dtype=np.int64)
    for name, values in settings.items():
        if name not in without:
            indices = pc.dictionary_encode(values).indices.fill_null(-1).to_numpy(zero_copy_only=False)
            _, code = np.unique(code * (int(indices.max(initial=0)) + 2) + indices + 1, return_inverse=True)
    order = np.argsort(code, kind="stable")
    parts: list[Rows] = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if size else []
    return iter(sorted(parts, key=lambda rows: int(rows[0])))


def _common(settings: Mapping[str, Any], rows: Rows, *, without: Sequence[str]) -> dict[str, Any]:
    values = {name: column[int(rows[0])].as_py() for name, column in settings.items() if name not in without}
    return {name: value for name, value in values.items() if value is not None}
