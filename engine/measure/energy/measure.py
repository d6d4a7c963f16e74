"""One point metered: replayed from a file, or run here with whatever sensors there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EnvironmentMissing
from engine.measure.energy.analysis import tables_of
from engine.measure.energy.phases import Subject

if TYPE_CHECKING:
    from engine.measure.registry import Tools
    from engine.plan.point import Point
    from engine.results.tables import Tables
    from engine.spec.energy import EnergySettings


def measure(settings: EnergySettings, point: Point, tools: Tools) -> Tables:
    """Tables of one point."""
    subject = subject_of(point)
    try:
        if settings.source == "replay":
            from engine.measure.energy.replay import read_trace

            trace = read_trace(_trace_path(settings, tools.spec_folder))
        else:
            from engine.measure.energy.campaign import run_campaign

            trace = run_campaign(settings, point, tools)
    except EnvironmentMissing as err:
        if settings.on_missing == "error":
            raise
        return skipped(err.message)
    return tables_of(trace, subject, settings)


def subject_of(point: Point) -> Subject:
    """What a point runs, as far as energy per token needs to know."""
    from engine.measure.energy.predictions import predicted_energies
    from engine.perfmodel.parameters import count_parameters

    c, w = point.combination, point.workload
    predicted_j, calibration = predicted_energies(point)
    return Subject(
        prompt_tokens=w.prompt_tokens,
        output_tokens=w.output_tokens,
        batch_size=w.batch_size,
        parameters=float(count_parameters(c.model).total),
        slowdown_c=c.hardware.slowdown_temperature,
        predicted_j=predicted_j,
        calibration=calibration,
    )


def skipped(reason: str) -> Tables:
    """The tables of a point that nothing could meter: one row that says why."""
    from engine.results.tables import make_table

    row: dict[str, Any] = {
        "point": 0, "source": "metered", "phase": "request", "status": "skipped", "reason": reason
    }  # fmt: skip
    return {"summary": make_table("summary", {name: [value] for name, value in row.items()})}


def _trace_path(settings: EnergySettings, folder: Path) -> Path:
    return folder / Path(settings.trace or "")
