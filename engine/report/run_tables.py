"""Tables of a run folder as they are shown: a row a run, a sheet a family of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.metrics import METRICS
from engine.report.clean import clean_text
from engine.report.page import Column, Table, Value
from engine.report.run_analyses import comparison_table, prediction_table, scaling_table, trade_off_table
from engine.report.run_columns import metric_column
from engine.report.run_records import custom_table, diagnostics_table, files_table, origins_table
from engine.score.scaling import Pick, Run, representatives, runs_of

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
_SETTINGS: Final = (
    ("model", "Model"),
    ("hardware", "Device"),
    ("quantization", "Format"),
    ("batch_size", "Batch"),
    ("prompt_tokens", "Prompt tokens"),
    ("settings", "Settings"),
)


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
        files=files_table(tables),
        diagnostics=diagnostics_table(tables),
        origins=origins_table(tables),
    )


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
