"""The one way from results to files: view, pictures, then HTML, workbook and PDF side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError, ReportError
from engine.report import pdf
from engine.report.clean import clean_text
from engine.report.drawing import Drawer
from engine.report.excel import write_workbook
from engine.report.html import render_page
from engine.report.inputs import ReportInputs
from engine.report.own import OwnSection, own_sections
from engine.report.page import Notice, View
from engine.report.reuse import fingerprint, is_current, remember
from engine.report.view import build_view

if TYPE_CHECKING:
    from engine.spec.report import Format

WriteWorkbook = Callable[[View, Mapping[str, str], Path], None]
SUFFIXES: Final[Mapping[Format, str]] = {"html": ".html", "pdf": ".pdf", "xlsx": ".xlsx"}


def render_report(
    inputs: ReportInputs,
    folder: Path,
    *,
    formats: Sequence[Format],
    share: bool = False,
    reuse: bool = False,
) -> dict[Format, Path]:
    """Write the report of a run into `folder` and return the file of each format.

    A format that fails does not stop the others: its error is raised when they are written. With `reuse`
    files that were made from the same are left as they are.
    """
    targets = _targets(folder, "report", formats)
    made_from = fingerprint(inputs, share=share, own=_own_folder(inputs))
    if not (reuse and is_current(folder, targets.values(), made_from)):
        _render(lambda: _with_own_sections(build_view(inputs, share=share), inputs), targets, write_workbook)
        remember(folder, targets.values(), made_from)
    return targets


def render_view(
    make: Callable[[], View], folder: Path, *, formats: Sequence[Format], stem: str, workbook: WriteWorkbook
) -> dict[Format, Path]:
    """Write a page that is no report of one run: `make` prepares it while the libraries load, `workbook`
    writes its workbook; returns the file of each format, named after `stem`."""
    targets = _targets(folder, stem, formats)
    _render(lambda: (make(), []), targets, workbook)
    return targets


def _targets(folder: Path, stem: str, formats: Sequence[Format]) -> dict[Format, Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ReportError(
            f"the report cannot be written: {err.strerror or err}", hint=f"look at `{folder}`"
        ) from err
    return {name: folder / f"{stem}{SUFFIXES[name]}" for name in formats}


def _render(
    prepare: Callable[[], tuple[View, list[OwnSection]]],
    targets: Mapping[Format, Path],
    workbook: WriteWorkbook,
) -> None:
    with tempfile.TemporaryDirectory(prefix="engine-report-") as scratch:
        # Two children load what they need while the view is prepared here.
        paper = Path(scratch) / "report.pdf"
        printer = pdf.start(paper) if "pdf" in targets else None
        drawer = Drawer(scripts="html" in targets)
        pending: pdf.Pending | None = None
        try:
            view, added = prepare()
            if printer is not None:
                pending = pdf.Pending(printer, render_page(view, {}, mode="pdf", added=added))
            svgs = drawer.draw(view.charts)
            if pending is not None:
                pending.give(svgs)
            makers: dict[Format, Callable[[Path], None]] = {
                "xlsx": lambda target: workbook(view, svgs, target),
                "html": lambda target: _put(target, _screen(view, svgs, drawer, added)),
                "pdf": lambda target: _put(target, _printed(pending, paper)),
            }
            _write_all(makers, targets)
        finally:
            drawer.close()
            if printer is not None and printer.poll() is None:
                printer.kill()
                printer.wait()
            if pending is not None:
                pending.give({})  # lets its feeder go where drawing failed


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


def _own_folder(inputs: ReportInputs) -> Path | None:
    """The folder of the user's own sections; None without any or where it may not be read."""
    named = inputs.experiment.report.templates
    try:
        return None if named is None else _inside(named, inputs.folder)
    except ReportError:
        return None


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


def _screen(view: View, svgs: Mapping[str, str], drawer: Drawer, added: Sequence[OwnSection]) -> bytes:
    return render_page(view, svgs, mode="screen", bundle=drawer.scripts(), added=added).encode("utf-8")


def _printed(pending: pdf.Pending | None, paper: Path) -> bytes:
    if pending is None:
        raise ReportError("no PDF was asked for")
    pending.finish()
    return paper.read_bytes()


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
