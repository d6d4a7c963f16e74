"""The one way from results to files: view, pictures, then HTML, workbook and PDF side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError, ReportError
from engine.report import pdf
from engine.report.draw import chart_svg
from engine.report.excel import write_workbook
from engine.report.html import render_page
from engine.report.inputs import ReportInputs
from engine.report.view import build_view

if TYPE_CHECKING:
    from engine.report.page import View
    from engine.spec.report import Format

_SUFFIX: Mapping[Format, str] = {"html": ".html", "pdf": ".pdf", "xlsx": ".xlsx"}


def render_report(
    inputs: ReportInputs, folder: Path, *, formats: Sequence[Format], share: bool = False
) -> dict[Format, Path]:
    """Write the report of a run into `folder` and return the file of each format.

    A format that fails does not stop the others; its error is raised after they are written.
    """
    view = build_view(inputs, share=share)
    svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
    targets = {name: folder / f"report{_SUFFIX[name]}" for name in formats}
    folder.mkdir(parents=True, exist_ok=True)
    failure: EngineError | None = None
    with tempfile.TemporaryDirectory(prefix="engine-report-") as scratch:
        child = None
        if "pdf" in targets:
            static = Path(scratch) / "print.html"
            static.write_text(render_page(view, svgs, mode="pdf"), encoding="utf-8")
            child = pdf.start(static, Path(scratch) / "report.pdf")
        try:
            if "html" in targets:
                _put(targets["html"], render_page(view, svgs, mode="screen").encode("utf-8"))
            if "xlsx" in targets:
                write_workbook(view, svgs, targets["xlsx"])
        except EngineError as err:
            failure = err
        finally:
            if child is not None and failure is not None:
                child.kill()
                child.communicate()
        if child is not None and failure is None:
            pdf.finish(child)
            _put(targets["pdf"], (Path(scratch) / "report.pdf").read_bytes())
    if failure is not None:
        raise failure
    return targets


def _put(target: Path, content: bytes) -> None:
    """Write under a temporary name and rename, so that a half-written report is never seen."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise ReportError(
            f"the report cannot be written: {err.strerror or err}", hint=f"look at `{target.parent}`"
        ) from err


def view_only(inputs: ReportInputs, *, share: bool = False) -> View:
    """What the report would show, without drawing it."""
    return build_view(inputs, share=share)
