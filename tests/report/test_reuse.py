"""A report is rendered again only when something about it changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.report.inputs import ReportInputs
from engine.report.reuse import RECORD, fingerprint, is_current, remember


@pytest.fixture
def made(sweep: ReportInputs) -> str:
    return fingerprint(sweep, share=False, own=None)


def test_the_same_inputs_have_the_same_fingerprint(sweep: ReportInputs, made: str) -> None:
    assert fingerprint(replace(sweep, run_summary={"kept": 3}), share=False, own=None) == made


@pytest.mark.parametrize("field", ["spec_text", "resolved_text"])
def test_other_texts_have_another(sweep: ReportInputs, made: str, field: str) -> None:
    assert fingerprint(replace(sweep, **{field: "other"}), share=False, own=None) != made


def test_other_rows_facts_and_wishes_have_another(sweep: ReportInputs, made: str, tmp_path: Path) -> None:
    fewer = {name: table.slice(1) for name, table in sweep.tables.items()}
    assert fingerprint(replace(sweep, tables=fewer), share=False, own=None) != made
    assert fingerprint(replace(sweep, environment={"host": "other"}), share=False, own=None) != made
    assert fingerprint(sweep, share=True, own=None) != made
    (tmp_path / "mine.html").write_text("<p>mine</p>", encoding="utf-8")
    assert fingerprint(sweep, share=False, own=tmp_path) != made


def test_touched_missing_and_foreign_files_are_made_again(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("page", encoding="utf-8")
    assert not is_current(tmp_path, [page], "a")
    remember(tmp_path, [page], "a")
    assert is_current(tmp_path, [page], "a")
    assert not is_current(tmp_path, [page], "b")
    assert not is_current(tmp_path, [page, tmp_path / "report.pdf"], "a")
    page.write_text("edited", encoding="utf-8")
    assert not is_current(tmp_path, [page], "a")
    (tmp_path / RECORD).write_text("no json", encoding="utf-8")
    assert not is_current(tmp_path, [page], "a")


def test_formats_made_one_after_the_other_are_all_remembered(tmp_path: Path) -> None:
    targets = {name: tmp_path / f"report.{name}" for name in ("html", "xlsx")}
    for name, path in targets.items():
        path.write_text(name, encoding="utf-8")
        remember(tmp_path, [path], "a")
    assert is_current(tmp_path, targets.values(), "a")
