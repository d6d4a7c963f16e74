"""The one way from results to files: view, pictures, then HTML, workbook and PDF side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError, ReportError
from engine.report import pdf
from engine.report.clean import clean_text
from engine.report.draw import chart_svg, script_bundle
from engine.report.excel import write_workbook
from engine.report.html import render_page
from engine.report.inputs import ReportInputs
from engine.report.own import OwnSection, own_sections
from engine.report.page import Notice, View
from engine.report.view import build_view

if TYPE_CHECKING:
    from engine.spec.report import Format

SUFFIXES: Final[Mapping[Format, str]] = {"html": ".html", "pdf": ".pdf", "xlsx": ".xlsx"}


def render_report(
    inputs: ReportInputs, folder: Path, *, formats: Sequence[Format], share: bool = False
) -> dict[Format, Path]:
    """Write the report of a run into `folder` and return the file of each format.

    A format that fails does not stop the others: its error is raised when they are written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ReportError(
            f"the report cannot be written: {err.strerror or err}", hint=f"look at `{folder}`"
        ) from err
    targets: dict[Format, Path] = {name: folder / f"report{SUFFIXES[name]}" for name in formats}
    with tempfile.TemporaryDirectory(prefix="engine-report-") as scratch:
        # Two children load what they need while the charts are drawn here.
        paper = Path(scratch) / "report.pdf"
        printer = pdf.start(paper) if "pdf" in targets else None
        bundler = _start_bundle() if "html" in targets else None
        try:
            view, added = _with_own_sections(build_view(inputs, share=share), inputs)
            svgs = {chart.name: chart_svg(chart.name, chart.spec) for chart in view.charts}
            pending = (
                pdf.Pending(printer, render_page(view, svgs, mode="pdf", added=added), svgs)
                if printer
                else None
            )
            makers: dict[Format, Callable[[Path], None]] = {
                "xlsx": lambda target: write_workbook(view, svgs, target),
                "html": lambda target: _put(target, _screen(view, svgs, bundler, added)),
                "pdf": lambda target: _put(target, _printed(pending, paper)),
            }
            _write_all(makers, targets)
        finally:
            for child in (printer, bundler):
                if child is not None and child.poll() is None:
                    child.kill()
                    child.wait()
    return targets


def _with_own_sections(view: View, inputs: ReportInputs) -> tuple[View, list[OwnSection]]:
    """The user's own sections; where they fail the report says so and goes on without them."""
    named = inputs.experiment.report.templates
    if named is None:
        return view, []
    try:
        return view, own_sections(view, _inside(named, inputs.folder))
    except (ReportError, OSError, UnicodeDecodeError) as err:
        reason = clean_text(getattr(err, "message", None) or str(err))
        notice = Notice("templates", "Own sections left out", 1, reason, tone="bad")
        return replace(view, notices=(*view.notices, notice)), []


def _inside(named: str, folder: Path | None) -> Path:
    """The folder of templates, below the spec's folder or the current one; a spec may not name any other."""
    path = Path(named)
    if path.is_absolute() or ".." in path.parts:
        raise ReportError(f"`report.templates` is `{named}`, but must lie below the folder of the spec")
    roots = [root for root in (folder, Path.cwd()) if root is not None]
    return next((root / path for root in roots if (root / path).is_dir()), roots[0] / path)


def _write_all(makers: Mapping[Format, Callable[[Path], None]], targets: Mapping[Format, Path]) -> None:
    """Every format in turn, the one that somebody else makes last; the first error after all of them."""
    failures: list[EngineError] = []
    for name, make in makers.items():
        if name in targets:
            try:
                make(targets[name])
            except EngineError as err:
                failures.append(err)
    if failures:
        raise failures[0]


def _screen(
    view: View,
    svgs: Mapping[str, str],
    bundler: subprocess.Popen[bytes] | None,
    added: Sequence[OwnSection],
) -> bytes:
    return render_page(view, svgs, mode="screen", bundle=_bundle(bundler), added=added).encode("utf-8")


def _printed(pending: pdf.Pending | None, paper: Path) -> bytes:
    if pending is None:
        raise ReportError("no PDF was asked for")
    pending.finish()
    return paper.read_bytes()


def _start_bundle() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "engine.report.draw"]
    return subprocess.Popen(
        command, env=pdf.child_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _bundle(child: subprocess.Popen[bytes] | None) -> str:
    """What the child wrote; made here when it failed, so that the error is a proper one."""
    text = child.communicate()[0] if child is not None else b""
    return text.decode("utf-8") if text and child is not None and child.returncode == 0 else script_bundle()


def _put(target: Path, content: bytes) -> None:
    """Write under a temporary name and rename, so that a half-written report is never seen."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as err:
        partial.unlink(missing_ok=True)
        reason = err.strerror or str(err)
        raise ReportError(
            f"the report cannot be written: {reason}", hint=f"look at `{target.parent}`"
        ) from err
