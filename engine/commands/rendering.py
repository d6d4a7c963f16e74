"""From a stored run to its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.results.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.run.execute import RunSummary
    from engine.run.stored import StoredRun
    from engine.spec.report import Format

_WHOLE_SUMMARY: Final = 50_000
"""Points up to which every phase is handed to the report."""


def write_reports(
    stored: StoredRun,
    *,
    formats: Sequence[str] | None = None,
    share: bool = False,
    done: RunSummary | None = None,
) -> dict[Format, Path]:
    """Write the reports of a run into its folder; nothing is measured or predicted again."""
    from engine.report.inputs import ReportInputs
    from engine.report.render import render_report
    from engine.results.documents import RESOLVED

    plan = stored.plan
    inputs = ReportInputs(
        experiment=plan.experiment,
        plan=plan,
        tables={name: _read(stored, name) for name in TABLES},
        spec_text=stored.text or "",
        resolved_text=(stored.folder / RESOLVED).read_text(encoding="utf-8"),
        environment=stored.environment,
        run_summary=_counts(done),
        folder=stored.folder,
    )
    chosen = list(formats or plan.experiment.report.formats)
    return render_report(inputs, stored.folder / "report", formats=chosen, share=share)


def _read(stored: StoredRun, table: str) -> pa.Table:
    """A table of the run; of a very large summary only whole requests, which is what a report can show."""
    whole = table != "summary" or stored.plan.size <= _WHOLE_SUMMARY
    return stored.store.read(stored.plan, table, phases=() if whole else ("request",))


def _counts(done: RunSummary | None) -> dict[str, Any]:
    if done is None:
        return {}
    return {key: value for key, value in asdict(done).items() if key not in ("failures", "seconds")}
