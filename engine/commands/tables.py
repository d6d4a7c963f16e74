"""Predictions as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from engine.metrics import METRICS
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
    lines = []
    for row in rows.to_dict("records"):
        reason = row["reason"] if isinstance(row["reason"], str) else ""  # pandas has NaN for none
        note = reason if row["status"] == "ok" else f"{row['status'].replace('_', ' ')}: {reason}"
        basis = "-" if row["status"] == "skipped" else row["basis"]
        values = {heading: _text(metric, row.get(metric)) for metric, heading in _SHOWN.items()}
        lines.append({**{c: row[c] for c in varied}, **values, "basis": basis, "note": note})
    print_rows(lines)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under their keys as headings, numbers to the right; metrics with a sensible unit."""
    headings = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[heading.replace("_", " ") if heading not in METRICS else heading for heading in headings]]
    cells += [[_text(heading, row.get(heading)) for heading in headings] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(headings))]
    right = [all(_is_number(line[i]) for line in cells[1:]) for i in range(len(headings))]
    for line in cells:
        texts = zip(line, widths, right, strict=True)
        click.echo("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in texts).rstrip())


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit() or (cell[:1] == "-" and cell[1:2].isdigit())


def _text(heading: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    unit = METRICS[heading].unit if heading in METRICS else ""
    if isinstance(value, str) or (isinstance(value, int) and unit not in ("s", "B")):
        return str(value)
    if unit == "s":
        return format_quantity(float(value), "seconds")
    if unit == "B":
        return format_quantity(float(value), "bytes")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
