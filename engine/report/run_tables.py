"""Tables of a run folder as they are shown: a row a run, a sheet a family of metrics, and the analyses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.clean import clean_text
from engine.report.numbers import Scale, scale_for
from engine.report.page import Column, Table, Value
from engine.score.scaling import (
    PERFORMANCE,
    Pick,
    Run,
    comparisons,
    label_of,
    prediction_errors,
    ratio,
    representatives,
    runs_of,
    scalings,
    trade_offs,
)

if TYPE_CHECKING:
    from engine.results.tables import Tables

FAMILIES: Final = {
    "Performance": (
        "throughput_tokens_per_s",
        "tpot_s",
        "ttft_s",
        "generation_s",
        "output_tokens",
        "e2e_s",
        "prompt_tokens_per_s",
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "itl_s",
        "load_s",
        "sum_of_request_tokens_per_s",
        "completed_requests",
        "failed_requests",
        "error_rate",
    ),
    "Power": (
        "average_power_w",
        "peak_power_w",
        "energy_j",
        "energy_per_output_token_j",
        "tokens_per_s_per_w",
        "tokens_per_joule",
        "window_s",
        "gap_energy_share",
        "whole_log_power_w",
        "whole_log_energy_j",
        "idle_power_w",
        "net_energy_j",
        "output_tokens",
        "throughput_tokens_per_s",
    ),
    "Memory": (
        "parameters",
        "weights_bytes",
        "memory_used_bytes",
        "bandwidth_utilization",
        "cache_hit_rate",
        "device_allocated_peak_bytes",
        "device_reserved_peak_bytes",
        "host_rss_peak_bytes",
    ),
    "Thermal": (
        "peak_temperature_c",
        "average_temperature_c",
        "throttle_events",
        "throttled_samples",
        "thermal_headroom_c",
        "whole_log_peak_temperature_c",
        "whole_log_average_temperature_c",
        "whole_log_throttle_events",
    ),
}
"""Sheet -> its metrics, the document's own first."""
DOCUMENT: Final = (
    "throughput_tokens_per_s",
    "tpot_s",
    "ttft_s",
    "generation_s",
    "output_tokens",
    "average_power_w",
    "peak_power_w",
    "energy_per_output_token_j",
    "tokens_per_s_per_w",
    "parameters",
    "memory_used_bytes",
    "bandwidth_utilization",
    "cache_hit_rate",
    "peak_temperature_c",
    "average_temperature_c",
    "throttle_events",
    "thermal_headroom_c",
)
"""The metrics of the document, always shown, filled or not."""
COMPARED: Final = (
    PERFORMANCE,
    "tpot_s",
    "ttft_s",
    "average_power_w",
    "tokens_per_s_per_w",
    "energy_per_output_token_j",
)
AXES: Final = {
    "batch_size": "Batch size",
    "parameters": "Model size",
    "quantization": "Number format",
    "hardware": "Platform",
    "settings": "Software, options and roots",
    "tensor": "Devices",
}
_SETTINGS: Final = (
    ("model", "Model"),
    ("hardware", "Device"),
    ("quantization", "Format"),
    ("batch_size", "Batch"),
    ("prompt_tokens", "Prompt tokens"),
    ("settings", "Settings"),
)
# A window of one token's latency reads in ms, memory in GiB as the logs write it.
_FIXED: Final = {
    "tpot_s": Scale("ms/token", 1e-3, 2),
    "ttft_s": Scale("ms", 1e-3, 2),
    "itl_s": Scale("ms", 1e-3, 2),
    "generation_s": Scale("ms", 1e-3, 2),
    "memory_used_bytes": Scale("GiB", 2.0**30, 2),
    "weights_bytes": Scale("GiB", 2.0**30, 2),
    "parameters": Scale("1e9", 1e9, 2),
    "throughput_tokens_per_s": Scale("tokens/s", 1.0, 2),
    "tokens_per_s_per_w": Scale("tokens/s/W", 1.0, 4),
    "energy_per_output_token_j": Scale("J/token", 1.0, 4),
}


@dataclass(frozen=True)
class RunTables:
    """Everything a workbook or a page of a run folder shows."""

    runs: tuple[Run, ...]
    """Every run, repeats too."""
    compared: tuple[Run, ...]
    """One run of each configuration."""
    attributes: Table
    families: tuple[Table, ...]
    comparison: Table
    trade_offs: Table
    scaling: Table
    prediction: Table
    custom: Table
    files: Table
    diagnostics: Table
    origins: Table


def run_tables(tables: Tables, *, pick: Pick = "median") -> RunTables:
    """The tables that are shown, from the tables that were read; `pick` says which repeat is compared."""
    runs = runs_of(tables)
    compared = representatives(runs, pick=pick)
    how = _origins(tables)
    return RunTables(
        runs=tuple(runs),
        compared=tuple(compared),
        attributes=_attributes(runs),
        families=tuple(_family(name, metrics, runs, how) for name, metrics in FAMILIES.items()),
        comparison=comparison_table(compared),
        trade_offs=trade_off_table(compared),
        scaling=scaling_table(compared),
        prediction=prediction_table(tables),
        custom=custom_table(tables),
        files=_listed(tables, "files", _FILES),
        diagnostics=_listed(tables, "findings", _FINDINGS),
        origins=origins_table(tables),
    )


def metric_column(name: str, values: Iterable[Any], *, label: str | None = None) -> Column:
    """The column of a metric, in the unit people read it in."""
    metric = METRICS[name]
    found = [float(v) for v in values if isinstance(v, int | float)]
    scale = _FIXED.get(name) or scale_for(name, metric.unit, found)
    return Column(name, label or metric.label, metric.definition, "number", scale, name)


def number_column(name: str, label: str, *, decimals: int = 2, unit: str = "", factor: float = 1.0) -> Column:
    """A column of plain numbers."""
    return Column(name, label, "", "number", Scale(unit, factor, decimals))


def _origins(tables: Tables) -> dict[tuple[Any, Any], list[tuple[str, str, str]]]:
    """(point, variant) -> (metric, origin, how) of its whole-request rows."""
    found: dict[tuple[Any, Any], list[tuple[str, str, str]]] = {}
    for row in tables["origins"].to_pylist():
        if row["how"]:
            key = (row["point"], row["variant"])
            found.setdefault(key, []).append((row["metric"], row["origin"], row["how"]))
    return found


def _how(run: Run, metrics: Sequence[str], how: Mapping[Any, Sequence[tuple[str, str, str]]]) -> str:
    """Derivations and reasons behind the cells of a row, in one text."""
    label = run.label.removesuffix(" (decode)").removesuffix(" (prefill)")
    said = {metric: (origin, text) for metric, origin, text in how.get((run.point, label), ())}
    parts = []
    for metric in metrics:
        if metric in said and (said[metric][0] == "absent") == (run.get(metric) is None):
            origin, text = said[metric]
            parts.append(
                f"{METRICS[metric].label}: {'absent, ' if origin == 'absent' else ''}{clean_text(text)}"
            )
    return "; ".join(parts)


def _settings_columns(runs: Sequence[Run]) -> list[Column]:
    columns = [Column("run", "Run")]
    for name, label in _SETTINGS:
        values = [run.settings.get(name) for run in runs]
        if any(value is not None for value in values):
            number = any(isinstance(value, int | float) for value in values)
            columns.append(Column(name, label, "", "number" if number else "text"))
    return columns


_SPREAD: Final = "_spread"


def _spread(run: Run, metric: str) -> float | None:
    """Half the width of the interval of a value; None where it has none."""
    low, high = run.get(f"{metric}_low"), run.get(f"{metric}_high")
    return (high - low) / 2 if isinstance(low, float) and isinstance(high, float) else None


def _spread_column(of: Column) -> Column:
    """How far the values of a column may be off, in the same unit."""
    title = "Half the width of the interval: sampling of the log and ends of the window."
    return Column(f"{of.name}{_SPREAD}", f"{of.label}, ±", title, "number", of.scale)


def _cell(run: Run, name: str) -> Value:
    if name.endswith(_SPREAD):
        return _spread(run, name.removesuffix(_SPREAD))
    value = run.label if name == "run" else run.status if name == "status" else run.get(name)
    return clean_text(value) if isinstance(value, str) else value


def _family(title: str, metrics: Sequence[str], runs: Sequence[Run], how: Mapping[Any, Any]) -> Table:
    shown = [m for m in metrics if m in DOCUMENT or any(run.get(m) is not None for run in runs)]
    columns = _settings_columns(runs)
    for metric in shown:
        columns.append(metric_column(metric, [run.get(metric) for run in runs]))
        if any(_spread(run, metric) is not None for run in runs):
            columns.append(_spread_column(columns[-1]))
    rows = [(*(_cell(run, c.name) for c in columns), _how(run, shown, how)) for run in runs]
    columns.append(Column("how", "How the values came about"))
    return Table(title.lower(), title, tuple(columns), tuple(rows), len(rows))


def _attributes(runs: Sequence[Run]) -> Table:
    """Attributes down, runs across: the layout in which few runs are read at a glance."""
    columns = (
        Column("attribute", "Attribute"),
        *(Column(f"run{i}", clean_text(r.label), "", "number") for i, r in enumerate(runs)),
    )
    rows: list[tuple[Value, ...]] = []
    for name, label in (*_SETTINGS, ("output_tokens", "Output tokens"), ("status", "Status")):
        if name != "output_tokens":
            rows.append((label, *(_cell(run, name) for run in runs)))
    for metric in dict.fromkeys(name for metrics in FAMILIES.values() for name in metrics):
        values = [run.get(metric) for run in runs]
        if metric in DOCUMENT or any(value is not None for value in values):
            column = metric_column(metric, values)
            factor = column.scale.factor if column.scale.unit != "%" else 0.01
            shown = [v / factor if isinstance(v, int | float) else None for v in values]
            rows.append((column.heading, *shown))
    return Table("summary", "Summary", columns, tuple(rows), len(rows))


def comparison_table(runs: Sequence[Run]) -> Table:
    """Groups of runs that differ in one thing, each run with its ratios to the first of its group."""
    measured = [m for m in COMPARED if any(run.get(m) is not None for run in runs)]
    rows: list[tuple[Value, ...]] = []
    for axis, title in AXES.items():
        for group, members in comparisons(runs, axis):
            base = members[0]
            for run in members:
                cells: list[Value] = [title, group, _shown(axis, run), clean_text(run.label)]
                for metric in measured:
                    cells += [run.get(metric), ratio(run.get(metric), base.get(metric))]
                rows.append(tuple(cells))
    columns = [
        Column(n, t)
        for n, t in (("axis", "Compared"), ("group", "All else equal"), ("value", "Value"), ("run", "Run"))
    ]
    for metric in measured:
        columns.append(metric_column(metric, [run.get(metric) for run in runs]))
        columns.append(
            number_column(f"{metric}_ratio", f"{METRICS[metric].label}, ratio to first", decimals=3)
        )
    note = "" if rows else "No two runs differ in one setting only."
    return Table("comparison", "Comparison", tuple(columns), tuple(rows), len(rows), note)


def _shown(axis: str, run: Run) -> Value:
    value = run.get(axis)
    if axis == "parameters" and isinstance(value, int | float):
        return f"{value / 1e9:g} B ({clean_text(run.get('model') or '?')})"
    return clean_text(value) if value is not None else None


def trade_off_table(runs: Sequence[Run]) -> Table:
    """Power against performance; a dominated run has one beside it that is as fast at no more power."""
    found = trade_offs(runs)
    rows = [
        (
            clean_text(t.run.label),
            t.run.get("model"),
            t.run.get("batch_size"),
            t.power_w,
            t.performance,
            t.performance / t.power_w if t.power_w else None,
            "dominated" if t.dominated_by else "on the front",
            clean_text(t.dominated_by.label) if t.dominated_by else None,
        )
        for t in sorted(found, key=lambda t: t.power_w)
    ]
    columns = (
        Column("run", "Run"),
        Column("model", "Model"),
        Column("batch_size", "Batch", "", "number"),
        metric_column("average_power_w", [t.power_w for t in found]),
        metric_column(PERFORMANCE, [t.performance for t in found]),
        metric_column("tokens_per_s_per_w", []),
        Column("verdict", "Verdict"),
        Column("by", "Beaten by"),
    )
    note = "" if rows else "No run has both a power and a generation speed."
    return Table("trade-offs", "Power against performance", columns, tuple(rows), len(rows), note)


def scaling_table(runs: Sequence[Run]) -> Table:
    """Performance ratio over resource ratio, from the first run of each group to the others."""
    rows: list[tuple[Value, ...]] = []
    for axis in AXES:
        for s in scalings(runs, axis):
            first, last = (_shown(axis, run) for run in (s.start, s.end))
            rows.append(
                (
                    AXES[axis],
                    s.group,
                    first,
                    last,
                    label_of(s.resource),
                    s.performance_ratio,
                    s.resource_ratio,
                    s.efficiency,
                    s.efficiency_of_rounded,
                    s.note or None,
                )
            )
    columns = (
        Column("axis", "Scaled"),
        Column("group", "All else equal"),
        Column("start", "From"),
        Column("end", "To"),
        Column("resource", "Resource"),
        number_column("performance_ratio", "Performance ratio", decimals=4),
        number_column("resource_ratio", "Resource ratio", decimals=4),
        number_column("efficiency", "Scaling efficiency", decimals=4),
        number_column("rounded", "Efficiency of ratios rounded to 2 decimals", decimals=4),
        Column("note", "Rounding"),
    )
    note = "" if rows else "No two runs differ in one setting with performance and a resource known."
    return Table("scaling", "Scaling", columns, tuple(rows), len(rows), note)


def prediction_table(tables: Tables) -> Table:
    """What logs say beside what theory says for the same model and device."""
    found = prediction_errors(tables)
    rows = []
    for e in found:
        scale = metric_column(e.metric, [e.measured]).scale
        rows.append(
            (
                clean_text(e.run.label),
                e.run.get("model"),
                e.run.get("hardware"),
                e.phase,
                METRICS[e.metric].label,
                e.measured / scale.factor,
                e.predicted / scale.factor,
                scale.unit,
                e.error,
            )
        )
    columns = (
        Column("run", "Run"),
        Column("model", "Model"),
        Column("hardware", "Device"),
        Column("phase", "Phase"),
        Column("metric", "Metric"),
        number_column("measured", "From the log", decimals=3),
        number_column("predicted", "Predicted", decimals=3),
        Column("unit", "Unit"),
        number_column("error", "Error", decimals=1, unit="%", factor=0.01),
    )
    note = "" if rows else "No run has a model and a device of the catalogue and known lengths."
    return Table("prediction", "Prediction", columns, tuple(rows), len(rows), note)


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
