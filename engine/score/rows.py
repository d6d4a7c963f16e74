"""Which rows of the summary are judged, and their values as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Mask = NDArray[np.bool_]

MEASURED: Final = ("live", "metered", "run_folder", "training")
"""Sources that looked at something real, the most telling first."""

SIMULATED: Final = "simulated"
"""`basis` of rows whose power no device drew."""


@dataclass(frozen=True, eq=False)
class Judged:
    """The rows of `summary` that are judged."""

    summary: pa.Table
    rows: Rows
    """Row numbers within `summary`."""
    phase: str
    source: str | None
    """The one source all rows come from; None when there is no row."""
    lenders: tuple[str, ...]
    """Other sources that may lend a metric this one lacks, such as joules of `metered` for `live`."""

    def places(self, metric: str) -> Rows:
        """The row of `summary` that knows the metric, for each judged row: itself, or the row of another
        source of the same point that has what the judged source lacks."""
        import numpy as np

        known = np.isfinite(numbers(self.summary, metric))
        places = self.rows.copy()
        for source, phases in self._lenders(metric):
            gaps = np.flatnonzero(~known[places])
            if len(gaps):
                places[gaps] = self._lend(places[gaps], known, source, phases)
        return places

    def texts(self, column: str) -> list[str | None]:
        """A text column of the judged rows."""
        import pyarrow as pa

        if column not in self.summary.column_names:
            return [None] * len(self.rows)
        found: list[str | None] = self.summary[column].cast(pa.string()).take(self.rows).to_pylist()
        return found

    def _lenders(self, metric: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Sources that may lend the metric, with the phases in which they may hold it."""
        training = () if metric not in METRICS or METRICS[metric].group != "training" else ("training",)
        if self.source in MEASURED and training and self.phase not in training:
            yield self.source, training
        for source in self.lenders:
            yield source, (self.phase, *training)

    def _lend(self, rows: Rows, known: Mask, source: str, phases: tuple[str, ...]) -> Rows:
        import numpy as np

        mask = is_one_of(self.summary, "source", source) & is_one_of(self.summary, "phase", *phases)
        mask &= ~is_one_of(self.summary, "basis", SIMULATED)
        offered = _by_point(self.summary, np.flatnonzero(mask & is_one_of(self.summary, "status", "ok")))
        filled = rows.copy()
        for place, key in enumerate(_keys(self.summary, rows)):
            row = offered.get(key, offered.get((key[0], None)))
            if row is not None and known[row]:
                filled[place] = row
        return filled


def judged_rows(summary: pa.Table, *, phase: str, source: str | None) -> Judged:
    """The rows of one phase and one source: the source named, else measured before predicted."""
    import numpy as np

    # Power that a program made up is shown, and never ranked.
    in_phase = is_one_of(summary, "phase", phase) & ~is_one_of(summary, "basis", SIMULATED)
    wanted = (source,) if source else (*MEASURED, "predicted")
    for name in wanted:
        rows = np.flatnonzero(in_phase & is_one_of(summary, "source", name))
        if len(rows):
            lenders = tuple(s for s in MEASURED if s != name and source is None and name in MEASURED)
            return Judged(summary, rows, phase, name, lenders)
    return Judged(summary, np.zeros(0, dtype=np.int64), phase, None, ())


def numbers(table: pa.Table, column: str) -> Floats:
    """A numeric column as floats; NaN where nothing is known or the value is not finite."""
    import numpy as np
    import pyarrow as pa

    if column not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = np.array(table[column].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def is_one_of(table: pa.Table, column: str, *wanted: str) -> Mask:
    """Rows whose text column holds one of these."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    values = table[column]
    if pa.types.is_dictionary(values.type):  # a million rows, a handful of texts: look at the texts only
        parts = [
            np.append(pc.is_in(part.dictionary, value_set=pa.array(wanted, pa.string())), False)[
                part.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            ]
            for part in values.chunks
        ]
        return np.concatenate(parts).astype(bool) if parts else np.zeros(0, dtype=bool)
    found = pc.is_in(values.cast(pa.string()), value_set=pa.array(wanted, pa.string()))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def _keys(summary: pa.Table, rows: Any) -> Iterator[tuple[int | None, str | None]]:
    import pyarrow as pa

    points = summary["point"].take(rows).to_pylist()
    if "variant" not in summary.column_names:
        return iter([(point, None) for point in points])
    variants = summary["variant"].cast(pa.string()).take(rows).to_pylist()
    return zip(points, variants, strict=True)


def _by_point(summary: pa.Table, rows: Rows) -> Mapping[tuple[int | None, str | None], int]:
    """Rows by (point, variant), and by (point, None) where the point has only one."""
    found: dict[tuple[int | None, str | None], int] = {}
    count: dict[int, int] = {}
    for row, (point, variant) in zip(rows, _keys(summary, rows), strict=True):
        if point is not None:
            found[point, variant] = int(row)
            count[point] = count.get(point, 0) + 1
    for (point, _), row in list(found.items()):
        if point is not None and count[point] == 1:
            found[point, None] = row
    return found
