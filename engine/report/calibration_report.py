"""The report of a calibration: held-out errors, predicted against measured, residuals, what was left out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.report.charts.style import PALETTE, WIDTH, description
from engine.report.draw import chart_svg, png
from engine.spec.calibration_file import calibration_text
from engine.spec.catalog import packaged_root
from engine.units import format_quantity

if TYPE_CHECKING:
    from engine.perfmodel.assemble import FittedRequests
    from engine.perfmodel.measured_table import Outcome
    from engine.perfmodel.operator_fit import Fitted
    from engine.perfmodel.request_law import RequestOutcome
    from engine.perfmodel.validate import ErrorLine
    from engine.spec.calibration import Calibration

_MOST_DOTS: Final = 500
_TITLE: Final = "Calibration"


@dataclass(frozen=True)
class Part:
    """One fit of the report."""

    title: str
    summary: str
    parameters: str
    pictures: tuple[str, ...]
    """Names of its charts."""


def write_calibration_report(
    outcome: Outcome, requests: FittedRequests, made: Mapping[str, Calibration], folder: Path
) -> list[Path]:
    """Write calibration.html, .pdf and .xlsx into a folder; the PDF only where its libraries are."""
    from engine.errors import EnvironmentMissing
    from engine.perfmodel.validate import lines_of, request_lines_of

    lines = lines_of(outcome)
    for key, fitted in requests.fits.items():
        lines += request_lines_of(str(key), fitted)
    parts, dots = _parts(outcome, requests)
    svgs = {name: chart_svg(name, spec) for pictured in dots for name, spec in _charts(pictured)}
    left_out = _left_out(outcome, requests)
    document = _document(lines, parts, svgs, left_out, made, mode="screen")
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "calibration.html"
    page.write_text(document, encoding="utf-8")
    book = folder / "calibration.xlsx"
    _workbook(lines, parts, svgs, left_out, book)
    written = [page, book]
    try:
        paper = folder / "calibration.pdf"
        _print(_document(lines, parts, svgs, left_out, made, mode="pdf"), svgs, paper)
        written.append(paper)
    except EnvironmentMissing:
        pass  # the page has everything; `engine doctor` says what the PDF needs
    return written


@dataclass(frozen=True)
class _Dots:
    """Measured times with their held-out predictions."""

    number: int
    measured_s: Any
    predicted_s: Any


def _parts(outcome: Outcome, requests: FittedRequests) -> tuple[list[Part], list[_Dots]]:
    """The fits in order with what their charts show."""
    parts: list[Part] = []
    dots: list[_Dots] = []
    for subject, found in outcome.fits.items():
        dots.append(_Dots(len(parts), found.gated.rows.measured_s, found.predicted_s))
        parts.append(_part(len(parts), str(subject), found))
    for key, fitted in requests.fits.items():
        dots.append(_Dots(len(parts), fitted.gated.rows.tpot_s, fitted.tpot_s))
        parts.append(_request_part(len(parts), str(key), fitted))
    return parts, dots


def _part(number: int, title: str, found: Fitted) -> Part:
    fit, errors = found.fit, found.fit.held_out
    summary = (
        f"{fit.rows} rows of {fit.sites} sites. Median {errors.median:.1%}, nine of ten within "
        f"{errors.p90:.1%}, median ratio {errors.ratio:.2f}, covered {errors.coverage:.0%}."
    )
    p = fit.parameters
    values = [f"launch {format_quantity(p.launch, 'seconds')}"]
    if p.compute_efficiency is not None:
        values.append(f"compute efficiency {p.compute_efficiency:.3g}")
    values.append(f"memory efficiency {p.memory_efficiency:.3g}")
    values += [f"of a single row {p.single_row:.3g}"] if p.single_row is not None else []
    values += [f"root {format_quantity(p.root, 'seconds')}"] if p.root else []
    values += [f"wave share {p.wave_share:.3g}"] if p.wave_share else []
    values += [f"depth cost {format_quantity(p.depth_cost, 'seconds')}"] if p.depth_cost else []
    values += [f"rate of a lone head {p.alone_rate:.3g}"] if p.alone_rate is not None else []
    values += [f"wave cost {format_quantity(p.wave_cost, 'seconds')}"] if p.wave_cost else []
    return Part(title, summary, f"Form {fit.form}: {', '.join(values)}.", _names(number))


def _request_part(number: int, title: str, found: RequestOutcome) -> Part:
    errors = found.request.held_out
    summary = (
        f"{found.request.rows} runs, time per token. Median {errors.median:.1%}, nine of ten within "
        f"{errors.p90:.1%}, median ratio {errors.ratio:.2f}, covered {errors.coverage:.0%}."
    )
    return Part(title, summary, f"Terms: {found.terms}.", _names(number))


def _names(number: int) -> tuple[str, ...]:
    return f"scatter-{number}", f"residuals-{number}"


def _charts(found: _Dots) -> list[tuple[str, dict[str, Any]]]:
    import numpy as np

    number, measured, predicted = found.number, found.measured_s, found.predicted_s
    seen = np.flatnonzero(np.isfinite(predicted) & np.isfinite(measured))
    # An even choice, so that a large table stays a readable picture.
    seen = seen[:: max(1, len(seen) // _MOST_DOTS)]
    dots = [
        {
            "measured": float(f"{measured[i] * 1e6:.5g}"),
            "predicted": float(f"{predicted[i] * 1e6:.5g}"),
            "ratio": float(f"{predicted[i] / measured[i]:.4g}"),
        }
        for i in seen
    ]
    low, high = min(d["measured"] for d in dots), max(d["measured"] for d in dots)
    farthest = max(2.0, *(max(d["ratio"], 1 / d["ratio"]) for d in dots))
    ends = [{"measured": value, "predicted": value, "ratio": 1.0} for value in (low, high)]
    return [
        (f"scatter-{number}", _against(dots, ends, "predicted", "Predicted, held out (us)", {})),
        (
            f"residuals-{number}",
            _against(dots, ends, "ratio", "Predicted / measured", {"domain": [1 / farthest, farthest]}),
        ),
    ]


def _against(
    dots: Sequence[dict[str, Any]],
    ends: Sequence[dict[str, Any]],
    field: str,
    title: str,
    scale: Mapping[str, Any],
) -> dict[str, Any]:
    plain = {"type": "log", "nice": False}
    axis = {"labelOverlap": "greedy", "labelSeparation": 6}
    x = {"field": "measured", "type": "quantitative", "scale": plain, "axis": axis, "title": "Measured (us)"}
    y = {"field": field, "type": "quantitative", "scale": {**plain, **scale}, "axis": axis, "title": title}
    body = {
        "width": WIDTH,
        "height": 260,
        "layer": [
            {
                "mark": {"type": "point", "size": 12, "filled": True, "opacity": 0.5, "color": PALETTE[0]},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": list(ends)},
                "mark": {"type": "line", "color": PALETTE[1], "strokeWidth": 1.2},
                "encoding": {"x": x, "y": y},
            },
        ],
    }
    return description(body, list(dots), alt=f"{title} against measured time, one dot a row")


def _left_out(outcome: Outcome, requests: FittedRequests) -> list[str]:
    found = [
        f"{subject}: warning: {text}" for subject, fitted in outcome.fits.items() for text in fitted.warnings
    ]
    found += [
        f"{subject}: {count} rows, {reason}"
        for subject, fitted in outcome.fits.items()
        for reason, count in fitted.gated.dropped.items()
    ]
    found += [f"{subject}: refused, {reason}" for subject, reason in outcome.refused.items()]
    found += [f"{count} rows: {reason}" for reason, count in outcome.ignored.items()]
    found += [
        f"{key}: {count} runs, {reason}"
        for key, fitted in requests.fits.items()
        for reason, count in fitted.gated.dropped.items()
    ]
    found += [f"{subject}: refused, {reason}" for subject, reason in requests.refused.items()]
    return found + [f"{count} runs: {reason}" for reason, count in requests.ignored.items()]


def _document(
    lines: Sequence[ErrorLine],
    parts: Sequence[Part],
    svgs: Mapping[str, str],
    left_out: Sequence[str],
    made: Mapping[str, Calibration],
    *,
    mode: str,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    templates = packaged_root() / "templates"
    environment = Environment(loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined)
    css = (templates / "report" / "report.css").read_text(encoding="utf-8")
    return environment.get_template("calibration/page.html").render(
        title=_title(list(made)),
        mode=mode,
        css=Markup(css),  # noqa: S704 - a packaged file
        lines=lines,
        parts=parts,
        sources={name: _source(name, svg, mode) for name, svg in svgs.items()},
        left_out=left_out,
        texts=[(name, calibration_text(found)) for name, found in made.items()],
    )


def _title(names: Sequence[str]) -> str:
    shown = f"{len(names)} parameter sets" if len(names) > 2 else " and ".join(names) or "nothing fitted"
    return f"{_TITLE}: {shown}"


def _source(name: str, svg: str, mode: str) -> str:
    """Where the page finds a chart: inside itself, or handed to the printer beside it."""
    if mode == "pdf":
        return f"chart:{name}"
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _workbook(
    lines: Sequence[ErrorLine],
    parts: Sequence[Part],
    svgs: Mapping[str, str],
    left_out: Sequence[str],
    target: Path,
) -> None:
    from io import BytesIO

    import openpyxl
    from openpyxl.drawing.image import Image

    from engine.report.clean import clean_text

    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("Errors")
    sheet.append(
        ["Operator", "Size", "Rows", "Sites", "Median", "p90", "Median ratio", "Within 10 %", "Within 25 %",
         "Bound, median", "Note"]
    )  # fmt: skip
    for line in lines:
        values = list(line.as_data().values())
        sheet.append([_cell(clean_text(v) if isinstance(v, str) else v) for v in values])
    for column in "EFHIJ":
        for cell in sheet[column][1:]:
            cell.number_format = "0.0%"
    sheet.column_dimensions["A"].width = 70
    fits = book.create_sheet("Fits")
    fits.append(["Fit", "Held-out errors", "Parameters"])
    for part in parts:
        fits.append([_cell(clean_text(text)) for text in (part.title, part.summary, part.parameters)])
    for column in "ABC":
        fits.column_dimensions[column].width = 70
    out = book.create_sheet("Left out")
    for text in left_out or ["nothing: every row was used"]:
        out.append([_cell(clean_text(text))])
    pictures = book.create_sheet("Charts")
    titles = {picture: part.title for part in parts for picture in part.pictures}
    for i, (name, svg) in enumerate(svgs.items()):
        pictures.cell(1 + i * 24, 1, _cell(clean_text(titles[name])))
        pictures.add_image(Image(BytesIO(png(svg))), f"A{2 + i * 24}")
    book.properties.creator = "engine"
    book.properties.created = book.properties.modified = datetime.now(UTC).replace(tzinfo=None)
    book.save(target)


def _cell(value: Any) -> Any:
    """A value a spreadsheet shows and never runs; what is not a number stays empty."""
    if isinstance(value, float) and value != value:
        return None
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _print(document: str, svgs: Mapping[str, str], target: Path) -> None:
    from engine.report import pdf

    child = pdf.start(target)
    pdf.Pending(child, document, svgs).finish()
