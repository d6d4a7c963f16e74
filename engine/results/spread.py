"""What is known of the noise of a measured value: repeats, rows, intervals, requests, counted events."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from engine.results.significance import Side
from engine.results.student import t_quantile

if TYPE_CHECKING:
    import pyarrow as pa

_Z90: Final = 1.6448536269514722
_PERCENTILES: Final = {"_p50": 50.0, "_p90": 90.0, "_p95": 95.0, "_p99": 99.0}
_LEAST_BLOCKS: Final = 8
_RESAMPLES: Final = 1000
_MOST_DRAWS: Final = 20_000_000
_COLUMNS: Final = (
    "point", "variant", "repeat", "request", "run_phase", "outcome", "scheduled_s", "sent_s", "first_token_s",
    "first_answer_s", "last_token_s", "done_s", "output_tokens", "first_tokens", "first_tokens_source",
)  # fmt: skip
_OF_ONE_RUN: Final = ("repeats", "interval", "requests")
"""What knows nothing of how much runs differ from each other."""
_TIMES: Final = "token_times_s"
GAPS: Final = ("itl_s", "inter_chunk_s")
"""Metrics whose values are the times between tokens."""
_MOST_TIMES_BYTES: Final = 2**28
"""Text of token times that is read; a larger run has no noise of its gaps."""
_COMPUTED: Final = (
    "bound_time_s",
    "estimated_time_s",
    "predicted_kv_cache_bytes",
    "predicted_energy_j",
    "parameters",
)
"""Metrics that are computed, in whatever row they stand."""
_OVER_TIME: Final = ("time_over_bound", "time_over_estimate")
_UNDER_TIME: Final = ("mfu", "mbu")
"""Metrics of a live row that are its time over, or under, something without noise."""
Requests = Mapping[tuple[int, str | None], Mapping[int, Sequence[Mapping[str, Any]]]]
"""(point, variant) -> repeat -> its good requests in the order they were sent."""


def good_requests(table: pa.Table | None, *, gaps: bool = False) -> Requests:
    """The measured requests that ended well, by load and repeat; for `gaps` with their token times."""
    if table is None or not table.num_rows:
        return {}
    names = [name for name in _COLUMNS if name in table.column_names]
    if gaps and _TIMES in table.column_names and table[_TIMES].nbytes <= _MOST_TIMES_BYTES:
        names.append(_TIMES)
    found: dict[tuple[int, str | None], dict[int, list[dict[str, Any]]]] = {}
    for row in table.select(names).to_pylist():
        if row["outcome"] == "ok" and row["run_phase"] in ("measured", "drain"):
            loads = found.setdefault((row["point"], row["variant"]), {})
            loads.setdefault(row["repeat"] or 0, []).append(row)
    for loads in found.values():
        for requests in loads.values():
            requests.sort(key=lambda row: (row["sent_s"] or 0.0, row["request"] or 0))
    return found


@dataclass(frozen=True)
class Reading:
    """The rows that one run has of one point, and how to see their noise."""

    rows: Sequence[Mapping[str, Any]]
    """Rows of `summary` that are ok; more than one where the run has the point several times."""
    requests: Requests
    noise: float | None = None
    """Relative standard deviation between runs; added to what repeats of one run show."""
    bands: bool = True
    """Whether the band of a prediction is its uncertainty; among predictions it is an error they share."""

    def side(self, column: str) -> Side | None:
        """A column of `summary` with its noise; None where no row has a value."""
        rows = [row for row in self.rows if _is_number(row.get(column))]
        if not rows:
            return None
        if rows[0]["source"] == "predicted" and (
            len(rows) == 1 or all(row[column] == rows[0][column] for row in rows)
        ):
            return _predicted(rows[0], column, band=self.bands)
        if len(rows) > 1:
            return from_values([float(row[column]) for row in rows], how="rows")
        return self._measured(rows[0], column)

    def _measured(self, row: Mapping[str, Any], column: str) -> Side:
        value = float(row[column])
        if column in _COMPUTED:
            return Side(value, "predicted")
        found = (
            self._share(row, column, value)
            or _stored(row, column, value, self._repeats(row))
            or self._of_requests(row, column, value)
            or self._of_time(row, column, value)
        )
        if self.noise is not None and (found is None or found.how in _OF_ONE_RUN):
            return _between_runs(found, value, self.noise * abs(value))
        return found or Side(value, "once", n=1)

    def _repeats(self, row: Mapping[str, Any]) -> int | None:
        """Repeats behind the intervals of a live row; `_n` of a latency counts requests."""
        if row["source"] != "live":
            return None
        loads = self.requests.get((row["point"], row.get("variant")))
        told: int | None = row.get("wall_output_tokens_per_s_n")
        return len(loads) if loads else told

    def _share(self, row: Mapping[str, Any], column: str, value: float) -> Side | None:
        """Failed requests of all: Agresti and Caffo 2000 add a failure and a success, so that none of 50 is
        not taken for never."""
        done, failed = row.get("completed_requests"), row.get("failed_requests")
        if column != "error_rate" or done is None or failed is None:
            return None
        n = int(done + failed)
        share = (failed + 1) / (n + 2)
        side = _symmetric(value, math.sqrt(share * (1 - share) / (n + 2)), math.inf, how="share", n=n)
        return replace(side, low=max(0.0, side.low or 0.0), high=min(1.0, side.high or 1.0))

    def _of_time(self, row: Mapping[str, Any], column: str, value: float) -> Side | None:
        """Noise of what follows from the time of the row: as large, relatively, as the time's own."""
        if column not in (*_OVER_TIME, *_UNDER_TIME) or not row.get("time_s"):
            return None
        time = self._measured(row, "time_s")
        if time.exact or time.below is None or time.above is None:
            return None
        factor = abs(value / time.value)
        ends = (time.below, time.above) if column in _OVER_TIME else (time.above, time.below)
        below, above = (factor * error for error in ends)
        wide = t_quantile(time.degrees)
        return replace(
            time, value=value, below=below, above=above, low=value - wide * below, high=value + wide * above
        )

    def _of_requests(self, row: Mapping[str, Any], column: str, value: float) -> Side | None:
        """Noise from single requests: percentiles repeat by repeat, anything of one repeat in blocks."""
        suffix = next((s for s in _PERCENTILES if column.endswith(s)), "")
        read = _VALUES.get(column.removesuffix(suffix))
        loads = self.requests.get((row["point"], row.get("variant")))
        if read is None or not loads or row["phase"] != "request":
            return None
        series = [[v for r in loads[k] for v in read(r) if v is not None] for k in sorted(loads)]
        series = [values for values in series if values]
        if len(series) > 1:
            import numpy as np

            percent = _PERCENTILES.get(suffix)
            each = [float(np.mean(v) if percent is None else np.percentile(v, percent)) for v in series]
            spread = from_values(each, how="repeats")
            return _symmetric(value, spread.below or 0.0, spread.degrees, how="repeats", n=len(each))
        if not series:
            return None
        return _in_blocks(series[0], value, percent=_PERCENTILES.get(suffix))


def _between_runs(side: Side | None, value: float, error: float) -> Side:
    """A value whose next run may differ by `error` (standard deviation), on top of what repeats show."""
    if side is None or side.below is None or side.above is None:
        return _symmetric(value, error, math.inf, how="assumed")
    below, above = math.hypot(side.below, error), math.hypot(side.above, error)
    # The variance between runs is given, not estimated: it has all degrees of freedom.
    spent = (max(side.below, side.above) / max(below, above)) ** 4 / side.degrees if above or below else 0.0
    return replace(side, below=below, above=above, degrees=1 / spent if spent else math.inf)


def from_values(values: Sequence[float], *, how: Any) -> Side:
    """The mean of independent values with its Student-t interval."""
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return _symmetric(mean, spread / math.sqrt(n), n - 1, how=how, n=n)


def block_length(n: int) -> int:
    """Requests of one block: n^(1/3) of them, the order that serves means best (Hall and others 1995)."""
    return max(1, round(math.cbrt(n)))


def _in_blocks(values: Sequence[float], value: float, *, percent: float | None) -> Side | None:
    """Noise within one repeat by the circular block bootstrap (Politis and Romano 1992): neighbouring
    requests share batches, so they are drawn together. None for too few requests."""
    import numpy as np

    n = len(values)
    length = block_length(n)
    blocks = n // length
    if blocks < _LEAST_BLOCKS:
        return None
    series = np.asarray(values)
    if percent is None:
        # Of a mean the bootstrap's standard error is a closed form: no drawing, no seed.
        around = np.concatenate([series, series[: length - 1]])
        sums = np.convolve(around, np.ones(length), mode="valid") / length
        error = float(np.sqrt(np.mean((sums - series.mean()) ** 2) * length / n))
        return _symmetric(value, error, blocks - 1, how="requests", n=n)
    draws = max(200, min(_RESAMPLES, _MOST_DRAWS // n))
    starts = np.random.default_rng(n).integers(0, n, size=(draws, math.ceil(n / length)))
    places = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :n] % n
    found = np.percentile(series[places], percent, axis=1)
    return _symmetric(value, float(found.std(ddof=1)), blocks - 1, how="requests", n=n)


def _symmetric(value: float, error: float, degrees: float, *, how: Any, n: int | None = None) -> Side:
    half = t_quantile(degrees) * error
    return Side(value, how, error, error, degrees, n, value - half, value + half)


def _predicted(row: Mapping[str, Any], column: str, *, band: bool) -> Side:
    """A computed value: exact among predictions, as sure as its 90 % band beside measurements."""
    value, ends = float(row[column]), _ends(row, column)
    if ends is None:
        return Side(value, "predicted")
    low, high = ends
    if not band:
        return Side(value, "predicted", low=low, high=high)
    return Side(
        value,
        "band",
        max(0.0, value - low) / _Z90,
        max(0.0, high - value) / _Z90,
        low=low,
        high=high,
    )


def _stored(row: Mapping[str, Any], column: str, value: float, repeats: int | None) -> Side | None:
    """The interval that a measurement stored; its standard error follows from the repeats behind it."""
    ends = _ends(row, column)
    if ends is None:
        return None
    low, high = ends
    n = repeats if row["source"] == "live" else row.get(f"{column}_n")
    known = n is not None and n > 1
    degrees = float(n - 1) if known and n is not None else math.inf
    # Where the repeats are not known, the normal factor makes the error too large rather than too small.
    factor = t_quantile(degrees)
    above = max(0.0, high - value) / factor
    # Ends below zero are cut off where a quantity cannot be negative: the other half is the true one.
    below = above if low == 0 < value else max(0.0, value - low) / factor
    how: Any = "repeats" if known else "interval"
    return Side(value, how, below, above, degrees, n if known else None, low, high)


def _ends(row: Mapping[str, Any], column: str) -> tuple[float, float] | None:
    """Both ends of a stored interval; None without one."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    return (low, high) if low is not None and high is not None else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _between(row: Mapping[str, Any], first: str, last: str) -> float | None:
    start, end = row.get(first), row.get(last)
    if end is None and last == "last_token_s":
        end = row.get("done_s")
    return None if start is None or end is None else end - start


def _tpot(row: Mapping[str, Any]) -> float | None:
    decode, tokens = _between(row, "first_token_s", "last_token_s"), row.get("output_tokens")
    if not decode or not tokens or row.get("first_tokens_source") == "not known":
        return None
    later = tokens - (row.get("first_tokens") or 1)  # not noted by runs of older versions
    return decode / later if later > 0 else None


def _ntpot(row: Mapping[str, Any]) -> float | None:
    whole, tokens = _between(row, "sent_s", "last_token_s"), row.get("output_tokens")
    return whole / tokens if whole is not None and tokens else None


def _rate(row: Mapping[str, Any]) -> float | None:
    each = _tpot(row)
    return 1 / each if each else None


def _gaps(row: Mapping[str, Any]) -> list[float | None]:
    """Times between pieces; none where they were not kept."""
    times = json.loads(row.get(_TIMES) or "[]")
    return [later - sooner for sooner, later in itertools.pairwise(times)]


def _one(read: Callable[[Mapping[str, Any]], float | None]) -> Callable[..., list[float | None]]:
    return lambda row: [read(row)]


def _span(first: str, last: str) -> Callable[..., list[float | None]]:
    return lambda row: [_between(row, first, last)]


# The same arithmetic as the measurement's own; see `engine explain METRIC`.
_VALUES: Final[Mapping[str, Callable[[Mapping[str, Any]], list[float | None]]]] = {
    "ttft_s": _span("sent_s", "first_token_s"),
    "ttft_from_schedule_s": _span("scheduled_s", "first_token_s"),
    "ttft_answer_s": _span("sent_s", "first_answer_s"),
    "e2e_s": _span("sent_s", "last_token_s"),
    "time_s": _span("sent_s", "last_token_s"),
    "e2e_from_schedule_s": _span("scheduled_s", "last_token_s"),
    "queue_s": _span("scheduled_s", "sent_s"),
    "tpot_s": _one(_tpot),
    "ntpot_s": _one(_ntpot),
    "output_tokens_per_s_per_user": _one(_rate),
    **dict.fromkeys(GAPS, _gaps),
}
