"""Columns of the tables of run folders, in the units their logs are read in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine.metrics import METRICS
from engine.report.numbers import Scale, scale_for
from engine.report.page import Column

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


def metric_column(name: str, values: Iterable[Any], *, label: str | None = None) -> Column:
    """The column of a metric, in the unit people read it in."""
    metric = METRICS[name]
    found = [float(v) for v in values if isinstance(v, int | float)]
    scale = _FIXED.get(name) or scale_for(name, metric.unit, found)
    return Column(name, label or metric.label, metric.definition, "number", scale, name)


def number_column(name: str, label: str, *, decimals: int = 2, unit: str = "", factor: float = 1.0) -> Column:
    """A column of plain numbers."""
    return Column(name, label, "", "number", Scale(unit, factor, decimals))
