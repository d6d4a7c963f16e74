"""`ReportInputs` -> `View`: everything a report shows, prepared once and read by all three writers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import engine
from engine.report.charts.best import best_points
from engine.report.charts.energy import energy_charts
from engine.report.charts.measured import measured_charts
from engine.report.charts.memory import memory_fit
from engine.report.charts.operator_tables import operator_tables
from engine.report.charts.pareto import trade_offs
from engine.report.charts.roofline import rooflines, time_split
from engine.report.charts.scaling import scaling
from engine.report.charts.score_pictures import score_pictures
from engine.report.charts.scores import score_charts, score_sheet_of, score_tables
from engine.report.charts.story import Story, label_of
from engine.report.charts.style import Style
from engine.report.charts.training import training_sections
from engine.report.choose import Choice, choose
from engine.report.clean import Redactor, clean_tables, identifying_values
from engine.report.findings import merged
from engine.report.judging import judge
from engine.report.labels import NAMED, renamed_label, with_short_labels
from engine.report.operators import Predictor, operators_of
from engine.report.page import Chart, Finding, Section, View
from engine.report.phases import phase_times
from engine.report.points import best_of_workloads, best_table, points_table
from engine.report.provenance import assumptions, definitions, facts, made_at
from engine.report.raw import raw_tables
from engine.report.records import Records, records
from engine.report.run_section import run_data, run_sections
from engine.report.verdict import notices, ranked_noun, status_counts, tiles, unscored, verdict
from engine.report.workloads import workloads_of
from engine.results.tables import empty
from engine.units import counted

if TYPE_CHECKING:
    from engine.report.inputs import ReportInputs
    from engine.score.weights import ScoreResult
    from engine.spec.hardware import Hardware

_SETTINGS: Final = (
    "model", "hardware", "quantization", "tensor", "pipeline", "expert", "data", "settings", "prompt_tokens",
    "output_tokens", "batch_size", "shared_prefix_tokens", "prefill_chunk_tokens", "prefill_tokens_per_step",
)  # fmt: skip
_MOST_LABELS: Final = 400
_MOST_OPERATOR_POINTS: Final = 24


def build_view(inputs: ReportInputs, *, share: bool = False) -> View:
    """Everything the report of a run shows; `share` leaves out what identifies a host or a person."""
    redact = Redactor(share=share, known=identifying_values(inputs.environment))
    tables = clean_tables(inputs.tables, redact)
    points, renamed = with_short_labels(tables.get("points", empty("points")))
    inputs = replace(inputs, tables={**tables, "points": points})
    scoring = inputs.experiment.scoring
    found = records(inputs.tables, phase=scoring.phase if scoring else "request")
    if not found.size:
        found = _any_phase(inputs)
    scored = judge(inputs, scoring)
    scores = scored.scores if scored else None
    choice = choose(found, scoring=scoring, scores=scores, own=_own_lengths(inputs))
    judged = scored.of(choice) if scored else None
    story = _with_operators(inputs, _story(inputs, found, choice or _nothing(found), redact, renamed))
    shown = _operator_points(story, inputs.experiment.report.operators_of)
    operators = [*phase_times(story, shown), *operator_tables(story, shown)]
    listed = [*_sections(story, judged, operators), *training_sections(inputs.tables)]
    listed += run_sections(inputs.tables)
    sections = tuple(section for section in listed if section.charts or section.tables)
    sentence, basis, tone = verdict(story)
    table = points_table(story)
    title = redact.text(inputs.experiment.report.title or inputs.experiment.name)
    return View(
        title=title,
        name=redact.text(inputs.experiment.name),
        description=redact.text(inputs.experiment.description or ""),
        subtitle=_subtitle(inputs, story),
        verdict=sentence,
        verdict_basis=basis,
        verdict_tone=tone,
        tiles=tiles(story),
        notices=(*notices(story), *unscored(scored.problems if scored else (), redact)),
        counts=status_counts(story),
        counted_as=f"{ranked_noun(story).capitalize()}s",
        fixed=_fixed(story, story.winner or {}),
        sections=sections,
        points=table,
        best=best_table(story, table),
        data=(*operators, *raw_tables(inputs.tables, redact), *run_data(inputs.tables)),
        findings=_findings(inputs, story),
        definitions=definitions(_metrics_shown(table, sections)),
        assumptions=assumptions(inputs, story.devices, redact),
        provenance=facts(inputs, redact),
        spec_text=redact.text(inputs.spec_text),
        resolved_text=redact.text(inputs.resolved_text),
        page=inputs.experiment.report.page,
        made=made_at(inputs.environment),
        share=share,
        fingerprint=inputs.plan.fingerprint,
        version=engine.__version__,
        extra={"score": score_sheet_of(story, judged)},
    )


def _own_lengths(inputs: ReportInputs) -> tuple[int, int]:
    """The lengths that the spec's workload itself names."""
    workload = inputs.experiment.workload
    return workload.prompt_tokens, workload.output_tokens


def _with_operators(inputs: ReportInputs, story: Story) -> Story:
    points = [
        row["point"] for row in _operator_points(story, _MOST_OPERATOR_POINTS) if row["point"] is not None
    ]
    return replace(story, operators=operators_of(inputs, points))


def _any_phase(inputs: ReportInputs) -> Records:
    """Rows of the phase that occurs most: run folders and training logs know no `request`."""
    phases = Records(inputs.tables.get("summary", empty("summary"))).texts("phase")
    if not phases:
        return records(inputs.tables, phase="request")
    most = max(dict.fromkeys(phases), key=phases.count)
    return records(inputs.tables, phase=most)


def _nothing(found: Records) -> Choice:
    import numpy as np

    source = next(iter(found.texts("source")), "predicted")
    ok = int(found.mask("status", "ok").sum())
    return Choice(
        found,
        source,
        "output_tokens_per_s",
        True,
        (),
        None,
        np.zeros(found.size, dtype=bool),
        0,
        ok,
        (),
        (),
        None,
        workloads_of(found),
        (),
    )


def _story(
    inputs: ReportInputs,
    found: Records,
    choice: Choice,
    redact: Redactor,
    renamed: Mapping[str, Mapping[str, str]],
) -> Story:
    devices: dict[str, Hardware] = {}
    formats: dict[str, None] = {}
    models: dict[str, None] = {}
    for block in inputs.plan.blocks:
        labels = {
            name: renamed_label(renamed, name, redact.text(block.combination.labels[name])) for name in NAMED
        }
        devices.setdefault(labels["hardware"], block.combination.hardware)
        formats.setdefault(labels["quantization"])
        models.setdefault(labels["model"])
    # Run folders and logs name devices and formats that no plan knows.
    for known, name in ((formats, "quantization"), (models, "model")):
        known.update(dict.fromkeys(choice.rows.labels(name)))
    others = dict.fromkeys([*devices, *choice.rows.labels("hardware")])
    style = Style(
        _as_written(inputs, "hardware", others), _as_written(inputs, "quantization", formats),
        _as_written(inputs, "model", models),
    )  # fmt: skip
    return Story(
        choice,
        found,
        inputs.tables,
        devices,
        style,
        inputs.tables.get("operators", empty("operators")),
        redact,
        _varied(choice.rows),
        Predictor(inputs),
    )


def _as_written(inputs: ReportInputs, axis: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Labels in the order of the spec's axis; others after them as they come."""
    listed = [value for value in inputs.experiment.sweep.axes.get(axis, ()) if isinstance(value, str)]
    places = {value: i for i, value in enumerate(listed)}
    found = list(labels)
    ordered = sorted(
        found, key=lambda label: (places.get(label.split("{")[0], len(places)), found.index(label))
    )
    return tuple(ordered[:_MOST_LABELS])


def _varied(rows: Records) -> tuple[str, ...]:
    """Settings with more than one value among the judged rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for name in _SETTINGS:
        if name in rows.table.column_names:
            values = rows.table[name]
            plain = values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values
            if len(pc.unique(plain.drop_null())) > 1:
                found.append(name)
    return tuple(found)


def _subtitle(inputs: ReportInputs, story: Story) -> str:
    words = [counted(inputs.plan.size, "design point")]
    # What is only read has devices and models of its own, whatever the spec names.
    read = all(task.kind in ("run_folder", "training") for task in inputs.plan.tasks)
    planned = {
        "hardware": story.style.devices,
        "quantization": story.style.formats,
        "model": story.style.models,
    }
    for name, noun in (("hardware", "device"), ("quantization", "number format"), ("model", "model")):
        count = len(set(story.rows.labels(name)) if read else planned[name])
        if count > 1:
            words.append(counted(count, noun))
    kinds = list(dict.fromkeys(task.kind for task in inputs.plan.tasks))
    names = {
        "analytical": "predicted",
        "live": "benchmarked",
        "energy": "metered",
        "run_folder": "read from run folders",
        "training": "read from training logs",
    }
    return ", ".join(words) + ": " + ", ".join(names.get(kind, kind) for kind in kinds)


def _fixed(story: Story, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Settings that every point shares, unless they are off."""
    quiet = {
        "tensor": 1,
        "pipeline": 1,
        "expert": 1,
        "data": 1,
        "shared_prefix_tokens": 0,
        "prefill_chunk_tokens": 0,
        "prefill_tokens_per_step": 0,
    }
    found = []
    for name in _SETTINGS:
        value = row.get(name)
        if name not in story.varied and value not in (None, "") and quiet.get(name) != value:
            found.append(
                (label_of(name), f"{value:,}" if isinstance(value, int) else story.redact.text(value))
            )
    return tuple(found)


def _operator_points(story: Story, count: int) -> list[dict[str, Any]]:
    """The winner first, then the best of each other device."""
    found = [story.winner] if story.winner else []
    found += [
        row for row in story.best_per_device if not story.winner or row["point"] != story.winner["point"]
    ]
    return found[:count]


def _sections(story: Story, judged: ScoreResult | None, operators: Sequence[Any]) -> list[Section]:
    """The story in order: what it costs, what grows, where the limit is, where the time goes."""
    return [
        Section(
            "scores",
            "Score",
            "The spec's objectives turned into one number.",
            (*score_pictures(story, judged), *score_charts(story, judged)),
            tuple(score_tables(story, judged)),
        ),
        Section("measured", "Measured", charts=tuple(measured_charts(story))),
        Section(
            "trade-offs",
            "Trade-offs",
            charts=(*best_points(story), *trade_offs(story)),
            tables=best_of_workloads(story),
        ),
        Section("scaling", "Scaling", charts=tuple(scaling(story))),
        Section("memory", "Memory fit", charts=tuple(memory_fit(story))),
        Section("roofline", "Roofline", charts=(*rooflines(story), *time_split(story))),
        Section("energy", "Energy by component", charts=tuple(energy_charts(story))),
        Section(
            "operators",
            "Operators",
            "Every operator of the points shown, with the formula behind its numbers.",
            tables=tuple(operators),
        ),
    ]


def _findings(inputs: ReportInputs, story: Story) -> tuple[Finding, ...]:
    rank = {"error": 0, "warning": 1, "advice": 2, "note": 3}
    text = story.redact.text
    rows = inputs.tables.get("findings", empty("findings")).to_pylist()
    rows.sort(key=lambda row: (rank.get(row["severity"] or "", 4), row["rule"] or ""))
    return merged(
        Finding(
            text(row["rule"] or ""), text(row["severity"] or "note"), text(row["finding"] or ""),
            text(row["evidence"] or ""), text(row["gain"] or ""), text(row["change"] or ""),
            "" if row["point"] is None else f"point {row['point']:,}",
        )
        for row in rows
    )  # fmt: skip


def _metrics_shown(points: Any, sections: Sequence[Section]) -> set[str]:
    found = {column.metric for column in points.columns if column.metric}
    charts: list[Chart] = [chart for section in sections for chart in section.charts]
    for chart in charts:
        found.update(chart.metrics)
        found.update(column.metric for column in chart.table.columns if column.metric)
    return found
