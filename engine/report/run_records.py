"""What was read of a run folder: the user's own metrics, files, findings, and where values come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.clean import clean_text
from engine.report.page import Column, Table, Value
from engine.report.run_columns import number_column

if TYPE_CHECKING:
    from engine.results.tables import Tables


def custom_table(tables: Tables) -> Table:
    """The user's own metrics: one row a run, one column a metric."""
    rows = tables["custom"].to_pylist() if "custom" in tables else []
    titles: dict[str, str] = {}
    runs: dict[tuple[Any, Any], dict[str, Any]] = {}
    reasons: dict[tuple[Any, Any], list[str]] = {}
    for row in rows:
        titles[row["metric"]] = f"{row['title']} ({row['unit']})" if row["unit"] else row["title"]
        key = (row["point"], row["variant"])
        runs.setdefault(key, {})[row["metric"]] = row["value"]
        if row["reason"]:
            reasons.setdefault(key, []).append(f"{row['title']}: {row['reason']}")
    columns = [
        Column("run", "Run"),
        *(number_column(m, clean_text(t), decimals=4) for m, t in titles.items()),
    ]
    lines = [
        (clean_text(key[1]), *(values.get(m) for m in titles), "; ".join(reasons.get(key, [])) or None)
        for key, values in runs.items()
    ]
    columns.append(Column("reason", "Why a value is absent"))
    note = (
        "" if lines else "No metrics of your own: give some under `metrics:` in the spec or with --metrics."
    )
    return Table("custom", "Custom", tuple(columns), tuple(lines), len(lines), note)


def origins_table(tables: Tables) -> Table:
    """How values came about and why others are absent: each statement once, with the runs it holds for."""
    counts: dict[tuple[Any, ...], list[Any]] = {}
    origins = tables["origins"]
    names = ("metric", "origin", "how", "variant")
    for metric, origin, how, variant in zip(*(origins[n].to_pylist() for n in names), strict=True):
        found = counts.setdefault((metric, origin, how), [0, variant])
        found[0] += 1
    rows = [
        (
            METRICS[key[0]].label,
            key[1],
            clean_text(key[2]) if key[2] else "as printed",
            count,
            clean_text(first),
        )
        for key, (count, first) in sorted(counts.items(), key=lambda item: (str(item[0][0]), -item[1][0]))
    ]
    columns = (
        Column("metric", "Metric"),
        Column("origin", "Origin"),
        Column("how", "How, or why it is absent"),
        number_column("count", "Values", decimals=0),
        Column("run", "For example"),
    )
    return Table("origins", "Origins", columns, tuple(rows), len(rows))


_FILES: Final = (
    ("run", "Run", None),
    ("file", "File", None),
    ("format", "Format found", None),
    ("status", "Status", None),
    ("rows_read", "Rows read", 0),
    ("rows_dropped", "Rows dropped", 0),
    ("size_bytes", "Size (B)", 0),
    ("encoding", "Encoding", None),
    ("interval_s", "Sampling interval (s)", 3),
    ("devices", "Devices", 0),
    ("reason", "Reason", None),
    ("warnings", "Warnings", None),
)
_FINDINGS: Final = (
    ("severity", "Severity", None),
    ("rule", "Rule", None),
    ("finding", "Finding", None),
    ("evidence", "File or run", None),
    ("change", "What to change", None),
)


def files_table(tables: Tables) -> Table:
    """Every file that was met: what it was taken for and what was read of it."""
    return _listed(tables, "files", _FILES)


def diagnostics_table(tables: Tables) -> Table:
    """What was noticed while reading."""
    return _listed(tables, "findings", _FINDINGS)


def _listed(tables: Tables, name: str, shown: Sequence[tuple[str, str, int | None]]) -> Table:
    """A table as it was read, text made fit to print."""
    columns = tuple(
        Column(key, label) if decimals is None else number_column(key, label, decimals=decimals)
        for key, label, decimals in shown
    )
    made: list[list[Value]] = []
    for key, _, decimals in shown:
        values = tables[name][key].to_pylist()
        made.append(values if decimals is not None else _cleaned(values))
    rows = tuple(zip(*made, strict=True)) if made else ()
    return Table(name, name.capitalize(), columns, rows, len(rows))


def _cleaned(values: Sequence[Any]) -> list[Value]:
    known = {value: clean_text(value) for value in set(values) if value is not None}  # texts repeat a lot
    return [None if value is None else known[value] for value in values]
