"""The list of runs as files: pages, reports and documents that work without a server or a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.commands.view_render import reason_of, report_command
from engine.commands.view_server import ADVICE
from engine.errors import ReportError, StoreError, UsageError
from engine.report.run_list import Page, Row, list_page, row_of, run_page
from engine.results.atomic import write_failed
from engine.results.documents import EXPERIMENT, RESOLVED
from engine.results.listing import REPORT, RunEntry, RunList, plain_id, verdict_of

_COPIED: Final = (EXPERIMENT, RESOLVED)
_SHEETS: Final = ("report/report.pdf", "report/report.xlsx")
_RENDER_S: Final = 600
_AT_ONCE: Final = 2


def export(
    listed: RunList, target: Path, *, share: bool, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Write everything into a new folder, whole or not at all, and return its `index.html`.

    Raises `UsageError` where the folder holds something, and `ReportError` after everything else is written
    when a report could not be made.
    """
    _require_free(target)
    partial = target.absolute().with_name(f".{target.absolute().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        failed = _write_all(listed, partial, share=share, say=say)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as err:
        raise write_failed(target, err) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise ReportError(
            f"everything is in `{target}` but {len(failed)} of the reports: {failed[0]}{more}",
            hint="`engine report RUN` tells what is wrong with one",
        )
    return target / "index.html"


def _require_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        what = "is not empty" if target.is_dir() else "is no folder"
        raise UsageError(
            f"`{target}` {what}, and an export overwrites nothing",
            hint="name a new folder, or remove it",
        )


def _write_all(listed: RunList, folder: Path, *, share: bool, say: Callable[[str], None]) -> list[str]:
    """Write every page; returns what went wrong with reports."""
    entries = [_safely_named(entry, share) for entry in listed.entries()]
    failed: list[str] = []

    def one(entry: RunEntry) -> Row:
        place = folder / "runs" / entry.id
        place.mkdir(parents=True)
        made = _report(entry, place, share=share, failed=failed)
        say(f"{entry.name}: {'report' if made.report == 'there' else 'no report'}")
        files = [] if share else _copy_files(made, place)
        has_report = made.report == "there"
        _put(place / "index.html", run_page(made, files, mode="exported", share=share, has_report=has_report))
        return replace(row_of(made, share=share), has_report=has_report)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = list(pool.map(one, entries))
    name = listed.folder.resolve().name or "runs"
    _put(folder / "index.html", list_page(rows, name=name, mode="exported", share=share, advice=ADVICE))
    return sorted(failed)


def _safely_named(entry: RunEntry, share: bool) -> RunEntry:
    """The run under an address that tells no more than its printed name."""
    return entry if row_of(entry, share=share).name == entry.name else replace(entry, id=plain_id(entry.name))


def _report(entry: RunEntry, place: Path, *, share: bool, failed: list[str]) -> RunEntry:
    """The run with the report that was put into `place`, if one can be had."""
    target = place / "report.html"
    if entry.report == "there" and not share:
        shutil.copyfile(entry.folder / REPORT, target)
    elif entry.done + entry.failed:
        made = place / ".made"
        command = [sys.executable, *report_command(entry, made, share=share)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RENDER_S, check=False
            )
        except subprocess.TimeoutExpired:
            failed.append(f"`{entry.name}`: it took longer than {_RENDER_S} s")
        else:
            if done.returncode:
                failed.append(f"`{entry.name}`: {reason_of(done.stderr)[0]}")
            if (made / "report.html").exists():
                (made / "report.html").rename(target)
        shutil.rmtree(made, ignore_errors=True)
    if not target.exists():
        return replace(entry, report="absent", verdict=None)
    return replace(entry, report="there", verdict=verdict_of(target))


def _copy_files(entry: RunEntry, place: Path) -> list[tuple[str, int]]:
    """Copy what a reader may want beside the report: the spec, and PDF and workbook as they lie there."""
    copied: list[tuple[str, int]] = []
    for name in _wanted(entry):
        source, target = entry.folder / name, place / "files" / name
        if source.is_symlink() or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copied.append((name, target.stat().st_size))
    return copied


def _wanted(entry: RunEntry) -> Sequence[str]:
    page = entry.folder / REPORT
    # A PDF from before the results would contradict the page beside it.
    fresh = [name for name in _SHEETS if page.exists() and not _older(entry.folder / name, page)]
    return (*_COPIED, *fresh)


def _older(file: Path, page: Path) -> bool:
    """Whether a file was made well before the page; the formats of one report lie seconds apart."""
    return not file.exists() or file.stat().st_mtime < page.stat().st_mtime - 600


def _put(path: Path, page: Page) -> None:
    try:
        path.write_text(page.text, encoding="utf-8")
    except OSError as err:
        raise StoreError(f"cannot write `{path.name}`: {err.strerror or err}") from err
