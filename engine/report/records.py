"""Summary rows joined with the settings of their points, columnar: a million rows stay arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.results.tables import POINTS, empty

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MEASURED: Final = ("live", "metered", "run_folder", "training")
"""Sources that looked at something real, the most telling first."""
_SETTINGS: Final = tuple(column.name for column in POINTS if column.name != "point")
# Where a metric of the whole request stands when only the phase itself was written.
_LENT: Final = (
    ("prefill", "time_s", "ttft_s"),
    ("decode", "time_s", "tpot_s"),
)


@dataclass(frozen=True, eq=False)
class Records:
    """Rows of the summary with their point's settings, as one Arrow table."""

    table: pa.Table

    @property
    def size(self) -> int:
        """Rows."""
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether the column exists and holds at least one value."""
        return name in self.table.column_names and self.table[name].null_count < self.size

    def numbers(self, name: str) -> Floats:
        """A numeric column as floats; NaN where nothing is known, all NaN when there is no such column."""
        import numpy as np
        import pyarrow as pa

        if name not in self.table.column_names:
            return np.full(self.size, np.nan)
        values = self.table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(values, dtype=np.float64)

    def texts(self, name: str) -> list[str]:
        """A text column; empty text where nothing is known."""
        import pyarrow as pa

        if name not in self.table.column_names:
            return [""] * self.size
        return [value or "" for value in self.table[name].cast(pa.string()).to_pylist()]

    def labels(self, name: str) -> list[str]:
        """The distinct texts of a column, in order of appearance."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if name not in self.table.column_names:
            return []
        return [text for text in pc.unique(self.table[name].cast(pa.string())).to_pylist() if text]

    def mask(self, name: str, *wanted: str) -> NDArray[np.bool_]:
        """Which rows hold one of these texts."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if name not in self.table.column_names:
            return np.zeros(self.size, dtype=bool)
        found = pc.is_in(self.table[name].cast(pa.string()), value_set=pa.array(wanted, pa.string()))
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Records:
        """These rows, in this order."""
        import pyarrow as pa

        return Records(self.table.take(pa.array(rows, pa.int64())))

    def where(self, keep: NDArray[np.bool_]) -> Records:
        """The rows for which `keep` holds."""
        import pyarrow as pa

        return self if keep.all() else Records(self.table.filter(pa.array(keep)))

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A text column as places in the list of its distinct texts; an unknown text is the empty one."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if name not in self.table.column_names or not self.size:
            return np.zeros(self.size, dtype=np.int64), [""]
        filled = pc.fill_null(self.table[name].cast(pa.string()), "")
        found = filled.combine_chunks().dictionary_encode()
        return np.asarray(
            found.indices.to_numpy(zero_copy_only=False), dtype=np.int64
        ), found.dictionary.to_pylist()

    def rows(self) -> list[dict[str, Any]]:
        """Every row as a mapping; for the few that are shown."""
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics with at least one value, in declared order."""
        return tuple(name for name in METRICS if self.has(name))


def records(tables: Mapping[str, pa.Table], *, phase: str) -> Records:
    """Rows of a phase from every source, each with its point's settings and the metrics that only another
    phase of the same row holds."""
    summary = tables.get("summary", empty("summary"))
    chosen = Records(summary)
    rows = chosen.where(chosen.mask("phase", phase)).table
    for other, theirs, ours in (*_same_name(summary, rows), *_LENT):
        rows = _lend(rows, chosen, other, theirs, ours)
    # Taking single rows from a table in pieces joins the pieces every time: join them once.
    return Records(_with_settings(rows, tables.get("points", empty("points"))).combine_chunks())


def of_phases(tables: Mapping[str, pa.Table], *phases: str) -> Records:
    """Rows of these phases with their point's settings, nothing filled in."""
    chosen = Records(tables.get("summary", empty("summary")))
    return Records(
        _with_settings(
            chosen.where(chosen.mask("phase", *phases)).table, tables.get("points", empty("points"))
        )
    )


def _same_name(summary: pa.Table, rows: pa.Table) -> list[tuple[str, str, str]]:
    """Metrics of the memory, work, energy and cost groups that are empty here, and the phases to ask."""
    lacking = [
        name for name in METRICS
        if name in summary.column_names and rows[name].null_count == rows.num_rows
        and METRICS[name].group == "memory"
    ]  # fmt: skip
    return [(phase, name, name) for name in lacking for phase in ("decode", "decode_last", "prefill")] + [
        ("prefill", "prompt_tokens_per_s", "prompt_tokens_per_s")
    ]


def _lend(rows: pa.Table, summary: Records, phase: str, theirs: str, ours: str) -> pa.Table:
    """`rows` with empty column `ours` filled from `theirs` of another phase of the same point and source."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if theirs not in summary.table.column_names:
        return rows
    if ours in rows.column_names and rows[ours].null_count < rows.num_rows:
        return rows
    lenders = summary.where(summary.mask("phase", phase)).table
    if not lenders.num_rows or not rows.num_rows:
        return rows
    position = pc.index_in(row_keys(rows), value_set=row_keys(lenders).combine_chunks())
    values = lenders[theirs].take(position)
    if ours in rows.column_names:
        return rows.set_column(rows.column_names.index(ours), ours, values)
    return rows.append_column(pa.field(ours, values.type), values)


def row_keys(rows: pa.Table) -> pa.ChunkedArray:
    """A text per row that is the same for the phases of one point, source and variant."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def text(name: str) -> pa.ChunkedArray:
        return pc.fill_null(rows[name].cast(pa.string()), "")

    return pc.binary_join_element_wise(text("point"), text("source"), text("variant"), "\x1f")


def _with_settings(rows: pa.Table, points: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    if not points.num_rows:
        position = None
    else:
        position = pc.index_in(rows["point"], value_set=points["point"].combine_chunks())
    for name in _SETTINGS:
        if name not in points.column_names:
            continue
        if name in rows.column_names:
            # `output_tokens` is a setting (per sequence) and a count of a window; the setting is meant.
            rows = rows.drop_columns([name])
        if position is None:
            import pyarrow as pa

            rows = rows.append_column(name, pa.nulls(rows.num_rows, points[name].type))
        else:
            rows = rows.append_column(name, points[name].take(position))
    return rows
