"""What the charts are drawn from: the judged rows, the winner and the devices, prepared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from engine.report.charts.style import Style
from engine.report.choose import Choice, best_of_each
from engine.report.clean import Redactor
from engine.report.numbers import Scale
from engine.report.operators import Predictor
from engine.report.page import Column, Table, Value
from engine.report.records import Records
from engine.results.tables import POINTS

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.spec.hardware import Hardware

_POINT_COLUMNS: Final = {column.name: column for column in POINTS}
_LABELS: Final = {
    "model": "Model", "hardware": "Device", "quantization": "Number format", "prompt_tokens": "Prompt",
    "output_tokens": "Output", "batch_size": "Batch", "devices": "Devices", "tensor": "Tensor parallel",
    "pipeline": "Pipeline stages", "expert": "Expert parallel", "data": "Replicas",
    "settings": "Other settings", "shared_prefix_tokens": "Shared prefix",
    "prefill_chunk_tokens": "Prefill chunk", "prefill_tokens_per_step": "Prefill per step",
    "variant": "Load", "source": "Source", "status": "Status", "bound": "Limited by", "reason": "Reason",
    "basis": "Basis", "point": "Point", "calibration": "Calibration", "phase": "Phase", "score": "Score",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Story:
    """The judged rows and what the charts need to know about them."""

    choice: Choice
    found: Records
    """Rows of every source, judged phase."""
    tables: Mapping[str, pa.Table]
    devices: Mapping[str, Hardware]
    """Label of a device in the points -> its data sheet."""
    style: Style
    operators: pa.Table
    redact: Redactor
    varied: tuple[str, ...]
    """Settings that differ between points."""
    predictor: Predictor

    @property
    def rows(self) -> Records:
        """The judged rows."""
        return self.choice.rows

    @cached_property
    def winner(self) -> dict[str, Any] | None:
        """The best row, or the best of those that miss a requirement; None when no row is ok."""
        return self.choice.row(self.choice.order[0]) if self.choice.order else None

    @cached_property
    def best_per_device(self) -> list[dict[str, Any]]:
        """The best row of each device, among those that qualify."""
        picked = best_of_each(
            self.rows, self.choice.metric, "hardware", higher=self.choice.higher, among=self.choice.among
        )
        found = self.rows.take(picked).rows()
        return sorted(found, key=lambda row: self.device_rank(row["hardware"]))

    def device_rank(self, label: str | None) -> int:
        """Place of a device in the plan's order."""
        return self.style.devices.index(label) if label in self.style.devices else len(self.style.devices)

    def name(self, row: Mapping[str, Any], *, without: Sequence[str] = (), full: bool = False) -> str:
        """What tells this point from the others, for people: `h200-sxm, fp8, batch 64, 2,048 + 256 tokens`.

        Settings that all points share are left out, unless `full`.
        """
        parts: list[str] = []
        for setting in _NAMED:
            shared = setting not in self.varied and not (full and setting != "model")
            if setting in without or shared or row.get(setting) in (None, ""):
                continue
            parts.append(_phrase(setting, row))
        if row.get("variant") and "variant" not in without:
            parts.append(str(row["variant"]))
        if not parts:
            return f"point {row['point']}" if row.get("point") is not None else "the run"
        return self.redact.text(", ".join(part for part in parts if part))

    def design_name(self, row: Mapping[str, Any]) -> str:
        """The point of a row as it was planned, whatever load a measurement put on it."""
        return self.name(row, without=("variant",), full=bool(row.get("variant")))


def filtered_by(tables: Mapping[str, pa.Table], point: int | None) -> dict[str, str]:
    """Device and number format of a point, by which a page narrows its charts; empty where unknown."""
    import pyarrow.compute as pc

    table = tables.get("points")
    if table is None or point is None:
        return {}
    rows = table.filter(pc.equal(table["point"], point)).select(list(FILTERS)).to_pylist()
    return {name: value for row in rows[:1] for name, value in row.items() if value}


FILTERS: Final = ("hardware", "quantization")
"""Settings that a page can be narrowed by."""
_NAMED: Final = (
    "model",
    "hardware",
    "quantization",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "tensor",
    "pipeline",
    "expert",
    "data",
    "settings",
)
SPLITS: Final = {"tensor": "TP", "pipeline": "PP", "expert": "EP", "data": "DP"}
"""Ways to split a model over devices, as people abbreviate them."""


def _phrase(setting: str, row: Mapping[str, Any]) -> str:
    """One setting of a point; the two lengths are one phrase, given with the first of them."""
    value = row[setting]
    if setting == "batch_size":
        return f"batch {value:,}"
    if setting == "prompt_tokens":
        outputs = row.get("output_tokens")  # a training run has none
        return f"{value:,} tokens" if outputs is None else f"{value:,} + {outputs:,} tokens"
    if setting == "output_tokens":
        return ""
    if setting in SPLITS:
        return f"{SPLITS[setting]} {value}" if value > 1 else ""
    return str(value)


def label_of(name: str) -> str:
    """Heading of a settings column."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def setting_column(name: str, *, optional: bool = False) -> Column:
    """A column of a point's setting."""
    declared = _POINT_COLUMNS.get(name)
    number = declared is not None and declared.kind == "int"
    unit = "tokens" if declared is not None and declared.unit == "tokens" else ""
    return Column(
        name, label_of(name), declared.meaning if declared else "", "number" if number else "text",
        Scale(unit), optional=optional,
    )  # fmt: skip


def chart_table(
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Value]],
    *,
    total: int | None = None,
) -> Table:
    """The numbers behind a chart."""
    return Table(name, title, tuple(columns), tuple(tuple(row) for row in rows), total or len(rows))
