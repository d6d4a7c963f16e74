"""From a stored run to its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.results.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.report.inputs import ReportInputs
    from engine.run.execute import RunSummary
    from engine.run.stored import StoredRun
    from engine.spec.report import Format

_WHOLE_SUMMARY: Final = 50_000
"""Points up to which every phase is handed to the report."""


def write_reports(
    stored: StoredRun,
    *,
    formats: Sequence[Format] | None = None,
    share: bool = False,
    done: RunSummary | None = None,
    spec_folder: Path | None = None,
    output: Path | None = None,
    reuse: bool = False,
) -> dict[Format, Path]:
    """Write the reports of a run into its folder, or into `output`; nothing is measured or predicted again.

    `spec_folder` is where `report.templates` is looked for, the run folder when None. With `reuse`, reports
    that were made from the same are left as they are.
    """
    from engine.report.render import render_report

    plan = stored.plan
    chosen = list(formats or plan.experiment.report.formats)
    inputs = report_inputs(stored, done=done)
    if spec_folder is not None:
        inputs = replace(inputs, folder=spec_folder)
    target = output or stored.folder / "report"
    return render_report(inputs, target, formats=chosen, share=share, reuse=reuse)


def report_inputs(stored: StoredRun, *, done: RunSummary | None = None) -> ReportInputs:
    """Everything a report of a run is made from, advice on its energy included."""
    from engine.plan.document import resolved_experiment
    from engine.report.inputs import ReportInputs
    from engine.results.documents import RESOLVED, yaml_text
    from engine.results.tables import concatenate, make_table
    from engine.score.energy_advice import energy_findings

    tables = {name: _read(stored, name) for name in TABLES}
    advice = energy_findings(tables)
    if advice:
        columns = {name: [row[name] for row in advice] for name in advice[0]}
        tables["findings"] = concatenate("findings", [tables["findings"], make_table("findings", columns)])
    resolved = stored.folder / RESOLVED
    if resolved.exists():
        resolved_text = resolved.read_text(encoding="utf-8")
    else:  # lost: the plan holds the same
        resolved_text = yaml_text(resolved_experiment(stored.plan))
    return ReportInputs(
        experiment=stored.plan.experiment,
        plan=stored.plan,
        tables=tables,
        spec_text=stored.text or "",
        resolved_text=resolved_text,
        environment=stored.environment,
        run_summary=_counts(done),
        folder=stored.folder,
    )


def _read(stored: StoredRun, table: str) -> pa.Table:
    """A table of the run; of a very large summary only whole requests, which is what a report can show."""
    whole = table != "summary" or stored.plan.size <= _WHOLE_SUMMARY
    return stored.store.read(stored.plan, table, phases=() if whole else ("request",))


def _counts(done: RunSummary | None) -> dict[str, Any]:
    if done is None:
        return {}
    return {key: value for key, value in asdict(done).items() if key not in ("failures", "seconds")}
