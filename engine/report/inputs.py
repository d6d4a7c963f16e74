"""What a report is made from: one run, complete, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.spec.experiment import Experiment


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """One run as it lies in its folder. Nothing here is measured or predicted again."""

    experiment: Experiment
    plan: Plan
    tables: Mapping[str, pa.Table]
    """By name as in `engine.results.tables`: points, summary and whatever else the run produced."""
    spec_text: str
    """The spec as its author wrote it."""
    resolved_text: str
    """The spec with every name and default resolved."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, host, devices, clocks, command, times: nested mappings of plain values."""
    run_summary: Mapping[str, Any] = field(default_factory=dict)
    """What the run did: counts of tasks kept, new and failed, by name."""
    folder: Path | None = None
    """Where the spec lies; `report.templates` is relative to it."""
