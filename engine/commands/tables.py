"""Predictions as a table on the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from engine.units import format_quantity

if TYPE_CHECKING:
    from engine.commands.analysis import Analysis

_VARIED: Final = (
    "model", "hardware", "quantization", "batch_size", "prompt_tokens", "output_tokens",
    "tensor", "pipeline", "expert", "data",
)  # fmt: skip
_SHOWN: Final = {
    "ttft_s": "first token",
    "tpot_s": "per token",
    "output_tokens_per_s": "tokens/s",
    "memory_needed_bytes": "memory",
    "max_batch_size": "largest batch",
}


def print_predictions(analysis: Analysis) -> None:
    """One line a point: what varies, then the numbers one looks at first; what is not known is `-`."""
    rows = analysis.points.merge(analysis.summary, on="point")
    rows = rows[rows["phase"] == "request"]
    varied = [c for c in _VARIED if rows[c].nunique() > 1] or ["model", "hardware"]
    cells = [[*(c.replace("_", " ") for c in varied), *_SHOWN.values(), "basis", "note"]]
    for row in rows.to_dict("records"):
        note = "" if row["status"] == "ok" else f"{row['status'].replace('_', ' ')}: {row['reason'] or ''}"
        values = [_text(metric, row.get(metric)) for metric in _SHOWN]
        cells.append([*(str(row[c]) for c in varied), *values, str(row["basis"] or "-"), note])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    first_number = len(varied)
    for line in cells:
        texts = [
            cell.rjust(width) if first_number <= i < first_number + len(_SHOWN) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(texts).rstrip())


def _text(metric: str, value: Any) -> str:
    if value is None or math.isnan(value):
        return "-"
    if metric in ("ttft_s", "tpot_s"):
        return format_quantity(float(value), "seconds")
    if metric.endswith("_bytes"):
        return format_quantity(float(value), "bytes")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
