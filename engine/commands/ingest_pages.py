"""The report of ingested runs as HTML and PDF, beside their workbook."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.results.tables import Tables
    from engine.spec.experiment import Experiment
    from engine.spec.report import Format


def write_pages(
    experiment: Experiment, tables: Tables, *, text: str, workbook: Path, formats: Sequence[Format]
) -> list[Path]:
    """Write `runs.html` or `runs.pdf` beside `runs.xlsx`; returns the files."""
    from engine.plan.compile import compile_plan
    from engine.report.inputs import ReportInputs
    from engine.report.render import SUFFIXES, render_report
    from engine.results.environment import environment
    from engine.results.points import points_table
    from engine.results.tables import concatenate, empty

    plan = compile_plan(experiment)
    # As in a stored run: points that only logs know come after those of the plan.
    shown = {name: _counted_on(table, plan.size) for name, table in tables.items()}
    shown["points"] = concatenate("points", [points_table(plan), shown["points"]])
    shown.setdefault("operators", empty("operators"))
    inputs = ReportInputs(
        experiment=experiment,
        plan=plan,
        tables=shown,
        spec_text=text,
        resolved_text=text,
        environment=environment(),
    )
    written = []
    with tempfile.TemporaryDirectory(prefix="engine-ingest-") as scratch:
        for name, made in render_report(inputs, Path(scratch), formats=formats).items():
            target = workbook.with_suffix(SUFFIXES[name])
            target.write_bytes(made.read_bytes())
            written.append(target)
    return written


def _counted_on(table: pa.Table, first: int) -> pa.Table:
    import pyarrow.compute as pc

    at = table.column_names.index("point")
    return table.set_column(at, "point", pc.add(table["point"], first))
