"""The report of a comparison: the page, the paper and the workbook of any report, with changes for points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import engine
from engine.report.charts.story import label_of
from engine.report.clean import Redactor
from engine.report.comparison_charts import change_charts
from engine.report.comparison_tables import (
    changes_table,
    differences_tables,
    sources_of,
    unmatched_table,
    varied_fields,
    worst_table,
)
from engine.report.comparison_words import (
    basis,
    comparison_notices,
    comparison_tiles,
    headline,
    method,
    redactor,
    run_facts,
)
from engine.report.page import Section, View
from engine.report.provenance import definitions, made_at
from engine.results.judging import metric_of
from engine.results.matching import FIELDS
from engine.units import counted

if TYPE_CHECKING:
    from engine.results.compared import Comparison
    from engine.spec.report import Format

_STEM: Final = "compare"


def comparison_view(comparison: Comparison, *, share: bool = False) -> View:
    """Everything the report of a comparison shows; `share` leaves out what identifies a host or a person."""
    redact = redactor(comparison, share=share)
    sentence, tone = headline(comparison, redact)
    table = changes_table(comparison, redact)
    charts = change_charts(comparison, redact)
    metrics = {metric_of(c.metric) for a in comparison.against for p in a.points for c in p.changes}
    title = _title(comparison, redact)
    return View(
        title=title,
        name=title,
        description="",
        subtitle=_subtitle(comparison),
        verdict=sentence,
        verdict_basis=basis(comparison),
        verdict_tone=tone,
        tiles=comparison_tiles(comparison),
        notices=comparison_notices(comparison, redact),
        counts=_counts(comparison),
        fixed=tuple(_fixed(comparison, redact)),
        sections=tuple(_sections(comparison, charts, redact)),
        points=table,
        best=worst_table(table),
        data=(),
        findings=(),
        definitions=definitions(metrics),
        assumptions=method(comparison),
        provenance=run_facts(comparison, redact),
        spec_text="",
        resolved_text="",
        page="A4",
        made=_made(comparison),
        share=share,
        fingerprint="",
        version=engine.__version__,
        kind="Comparison of runs",
        points_title="Changes",
    )


def render_comparison_html(comparison: Comparison, *, share: bool = False) -> str:
    """The whole page of a comparison as text: one file without network."""
    from engine.report.draw import chart_svg, script_bundle
    from engine.report.html import render_page

    view = comparison_view(comparison, share=share)
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    return render_page(view, svgs, mode="screen", bundle=script_bundle() if view.charts else "")


def write_comparison(
    comparison: Comparison, folder: Path, *, formats: Sequence[Format], share: bool = False
) -> dict[Format, Path]:
    """Write `compare.html`, `.pdf` and `.xlsx` into a folder; returns the file of each format."""
    from engine.report.comparison_workbook import write_comparison_workbook
    from engine.report.render import render_view

    return render_view(
        lambda: comparison_view(comparison, share=share),
        folder,
        formats=formats,
        stem=_STEM,
        workbook=write_comparison_workbook,
    )


def _title(comparison: Comparison, redact: Redactor) -> str:
    others = [redact.text(against.run.name) for against in comparison.against]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f"{shown} against {redact.text(comparison.baseline.name)}"


def _subtitle(comparison: Comparison) -> str:
    points = max(len(against.points) for against in comparison.against)
    words = sorted({sources_of(point) for against in comparison.against for point in against.points})
    return f"{counted(points, 'point')} in common: {', '.join(words).replace('_', ' ')}"


def _counts(comparison: Comparison) -> tuple[tuple[str, int], ...]:
    found = [("compared", max(len(against.points) for against in comparison.against))]
    for against in comparison.against:
        for letter in ("A", against.run.letter):
            count = sum(one.letter == letter for one in against.unmatched)
            if count:
                other = against.run.letter if letter == "A" else "A"
                found.append((f"in {letter} and not in {other}", count))
    return tuple(found)


def _fixed(comparison: Comparison, redact: Redactor) -> Iterator[tuple[str, str]]:
    """Fields that all compared points share, unless nobody asked for them."""
    quiet = {"shared_prefix_tokens", "prefill_chunk_tokens", "prefill_tokens_per_step"}
    varied = {*varied_fields(comparison), *quiet}
    first = next((p for a in comparison.against for p in a.points), None)
    for name in FIELDS if first else ():
        value = first.identity.get(name) if first else None
        if name not in varied and value not in (None, 1):
            yield label_of(name), f"{value:,}" if isinstance(value, int) else redact.text(value)


def _sections(comparison: Comparison, charts: Sequence[Any], redact: Redactor) -> Iterator[Section]:
    if charts:
        yield Section("largest", "Largest changes", charts=tuple(charts))
    spec = differences_tables(comparison, redact, which="spec")
    if spec:
        yield Section(
            "spec", "What was asked otherwise", "Settings as resolved, defaults included.", tables=spec
        )
    places = differences_tables(comparison, redact, which="environment")
    if places:
        lead = "Host, devices, drivers, versions, source state, and what was observed while it ran."
        yield Section("environment", "Where it ran otherwise", lead, tables=places)
    alone = unmatched_table(comparison, redact)
    if alone.rows:
        yield Section(
            "unmatched",
            "Points without a partner",
            "They are part of no verdict. With --ignore FIELD points match that differ in a field.",
            tables=(alone,),
        )


def _made(comparison: Comparison) -> Any:
    """When the latest of the results was made."""
    runs = (comparison.baseline, *(against.run for against in comparison.against))
    times = sorted(time for run in runs if (time := run.ended or run.started))
    return made_at({"ended": times[-1]} if times else {})
