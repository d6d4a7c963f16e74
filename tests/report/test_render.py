"""From a run to files: complete, repeatable, and honest about what failed."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import EnvironmentMissing, ReportError
from engine.report import pdf, render
from engine.report.inputs import ReportInputs
from engine.report.render import render_report
from engine.report.reuse import RECORD
from tests.report.samples import ROOT

# Renders the small run and prints a checksum of each file.
SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from engine.report.render import render_report
from engine.report.reuse import RECORD
from tests.report.samples import measured_inputs
found = render_report(measured_inputs(), Path(sys.argv[1]), formats=["html", "pdf", "xlsx"])
print(json.dumps({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}))
"""


def checksums(folder: Path, **environment: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_whatever_the_surroundings(tmp_path: Path) -> None:
    first = checksums(tmp_path / "a", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C")
    second = checksums(tmp_path / "b", PYTHONHASHSEED="2", TZ="Asia/Kathmandu", LC_ALL="C.UTF-8")
    assert first == second
    assert set(first) == {"html", "pdf", "xlsx"}


def test_only_the_formats_asked_for_are_written(sweep: ReportInputs, tmp_path: Path) -> None:
    found = render_report(sweep, tmp_path / "report", formats=["xlsx"])
    assert found == {"xlsx": tmp_path / "report" / "report.xlsx"}
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [RECORD, "report.xlsx"]


def test_what_is_current_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, sweep: ReportInputs, tmp_path: Path
) -> None:
    render_report(sweep, tmp_path, formats=["xlsx"])
    monkeypatch.setattr(render, "build_view", lambda *_, **__: pytest.fail("rendered again"))
    render_report(replace(sweep, run_summary={"kept": 9}), tmp_path, formats=["xlsx"], reuse=True)
    (tmp_path / "report.xlsx").write_bytes(b"cut")
    with pytest.raises(pytest.fail.Exception, match="rendered again"):
        render_report(sweep, tmp_path, formats=["xlsx"], reuse=True)


def test_a_format_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, sweep: ReportInputs, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise ReportError("the workbook cannot be written: no space left")

    monkeypatch.setattr(render, "write_workbook", refuse)
    with pytest.raises(ReportError, match="no space left"):
        render_report(sweep, tmp_path, formats=["xlsx", "html"])
    assert (tmp_path / "report.html").exists()


def test_without_pango_the_page_is_made_and_the_way_out_named(
    monkeypatch: pytest.MonkeyPatch, sweep: ReportInputs, tmp_path: Path
) -> None:
    def broken(target: Path) -> subprocess.Popen[bytes]:
        code = "import sys; sys.stdin.read(); sys.exit(3)"
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    monkeypatch.setattr(pdf, "start", broken)
    with pytest.raises(EnvironmentMissing, match="WeasyPrint finds no Pango") as caught:
        render_report(sweep, tmp_path, formats=["html", "pdf"])
    assert "libpango" in str(caught.value.hint)
    assert (tmp_path / "report.html").exists()
    assert not (tmp_path / "report.pdf").exists()


def test_a_folder_that_cannot_be_written_is_told(sweep: ReportInputs, tmp_path: Path) -> None:
    target = tmp_path / "report"
    target.write_text("a file stands where the folder should be")
    with pytest.raises(ReportError, match="the report cannot be written"):
        render_report(replace(sweep), target, formats=["html"])


def test_rendering_leaves_the_inputs_alone(sweep: ReportInputs, tmp_path: Path) -> None:
    before = hashlib.sha256(repr(sweep.tables["summary"].to_pylist()).encode()).hexdigest()
    render_report(sweep, tmp_path, formats=["xlsx"])
    assert hashlib.sha256(repr(sweep.tables["summary"].to_pylist()).encode()).hexdigest() == before
