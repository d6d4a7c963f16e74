"""`engine ingest`: a tree of logs in, a workbook out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import CliRunner, Result

from engine.cli import app
from engine.errors import NothingSelected, SpecError, UsageError
from engine.measure.run_folder.example import write_example_runs
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from tests.measure.run_folder.trees import constant, put, timings


def ingest(*arguments: object) -> Result:
    """The command's result; its own errors are raised."""
    return CliRunner().invoke(app, ["ingest", *map(str, arguments)], catch_exceptions=False)


def failure(*arguments: object) -> Any:
    """The error a command ends with."""
    result = CliRunner().invoke(app, ["ingest", *map(str, arguments)])
    assert result.exception is not None
    return result.exception


def sheets(path: Path) -> Any:
    """The workbook, formulas as text."""
    return openpyxl.load_workbook(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return put(
        tmp_path / "runs",
        {
            "llama_7b/batch_1/a.txt": timings(),
            "llama_7b/batch_1/p.csv": constant(45.0, 10.0),
            "llama_7b/batch_4/a.txt": timings(time_ms=2475.0),
            "llama_7b/batch_4/p.csv": constant(60.0, 10.0),
        },
    )


def test_the_workbook_is_written_into_a_new_folder(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "new" / "a.xlsx"
    result = ingest("-i", f"{tree}/", "-o", target)
    assert result.exit_code == 0
    assert result.stdout == f"{target}\n"
    book = sheets(target)
    assert {"Summary", "Runs", "Scaling", "Power", "Thermal", "Diagnostics"} <= set(book.sheetnames)
    assert book["Summary"]["A1"].value == "Attribute"
    assert [cell.value for cell in book["Summary"][1]] == [
        "Attribute",
        "llama_7b/batch_1",
        "llama_7b/batch_4",
    ]


def test_the_spec_behind_the_command_can_be_printed_and_is_valid(tree: Path, tmp_path: Path) -> None:
    result = ingest("-i", tree, "--hardware", "h100-sxm-80gb", "--interval", "1 s", "--print-spec")
    document = read_document("printed.yaml", data=result.stdout.encode())
    experiment = validate(document, Experiment)
    (settings,) = experiment.measurements
    assert settings.kind == "run_folder"
    assert (settings.path, settings.hardware, settings.interval) == (str(tree), "h100-sxm-80gb", 1.0)


def test_a_rail_map_renames_columns_and_changes_no_number(tmp_path: Path) -> None:
    rows = "timestamp,P_SOC\n" + "".join(f"2026-03-04 10:00:0{i},{15 + i}\n" for i in range(5))
    put(tmp_path, {"runs/llama_7b/batch_1/rail_power.csv": rows.replace("P_SOC", "P_SOC power [W]")})
    (tmp_path / "map.json").write_text('{"P_SOC power": "package rail", "P_GT": -1}')
    plain, mapped = tmp_path / "plain.xlsx", tmp_path / "mapped.xlsx"
    ingest("-i", tmp_path / "runs", "-o", plain)
    ingest("-i", tmp_path / "runs", "-o", mapped, "-d", tmp_path / "map.json")
    first, second = (sheets(path)["Power"] for path in (plain, mapped))
    assert [c.value for c in first[2]][:8] == [c.value for c in second[2]][:8]


def test_custom_metrics_of_the_document(tree: Path, tmp_path: Path) -> None:
    metrics = {
        "metrics": {
            "throughput": {"name": "tokens/second", "unit": "tokens/sec"},
            "latency": {"name": "milliseconds/token", "unit": "ms/tok"},
            "efficiency": {"name": "tokens/watt", "unit": "tok/W"},
            "ratio": {"name": "own", "unit": "", "formula": "tok_per_s/avg_w"},
        }
    }
    (tmp_path / "m.json").write_text(json.dumps(metrics))
    ingest("-i", tree, "-o", tmp_path / "a.xlsx", "--metrics", tmp_path / "m.json")
    rows = list(sheets(tmp_path / "a.xlsx")["Custom"].iter_rows(min_row=1, max_row=2, values_only=True))
    assert rows[0][:5] == (
        "Run",
        "tokens/second (tokens/sec)",
        "milliseconds/token (ms/tok)",
        "tokens/watt (tok/W)",
        "own",
    )
    assert rows[1][1:5] == (
        pytest.approx(20.0),
        pytest.approx(50.0),
        pytest.approx(20 / 45),
        pytest.approx(20 / 45),
    )


def test_two_roots_are_compared_without_a_manual_step(tree: Path, tmp_path: Path) -> None:
    put(tmp_path, {"other/llama_7b/batch_1/a.txt": timings(time_ms=9900.0)})
    ingest("-i", tree, "-i", tmp_path / "other", "-o", tmp_path / "a.xlsx")
    rows = list(sheets(tmp_path / "a.xlsx")["Comparison"].iter_rows(values_only=True))
    heads = rows[0]
    found = [row for row in rows if row[0] == "Software, options and roots"]
    assert [row[2] for row in found] == ["root=other", "root=runs"]
    assert found[1][heads.index("Generation speed, ratio to first")] == pytest.approx(
        2.0
    )  # 20 over 10 tokens/s


def test_scaling_is_printed_for_a_resource(tree: Path, tmp_path: Path) -> None:
    result = ingest("-i", tree, "-o", tmp_path / "a.xlsx", "--resource", "average_power_w")
    # 20 -> 40 tokens/s, 45 -> 60 W
    assert "batch_size: llama_7b/batch_1 -> llama_7b/batch_4: 2 / 1.333 = 1.5" in result.stderr


def test_mistakes_are_told_before_anything_is_read(tree: Path, tmp_path: Path) -> None:
    assert "no folder to read" in str(failure("-o", "x.xlsx"))
    assert "no workbook to write" in str(failure("-i", tree))
    assert "is no workbook" in str(failure("-i", tree, "-o", "x.csv"))
    assert isinstance(failure("-i", tmp_path / "nowhere", "-o", tmp_path / "x.xlsx"), UsageError)
    assert isinstance(failure("-i", tree, "-o", tmp_path / "x.xlsx", "--interval", "1"), SpecError)
    (tmp_path / "m.json").write_text('{"metrics": {"a": {"name": "a", "formula": "volts * 2"}}}')
    wrong = failure("-i", tree, "-o", tmp_path / "x.xlsx", "--metrics", tmp_path / "m.json")
    assert str(wrong) == "metric `a`: unknown symbol `volts`"
    wrong = failure("-i", tree, "-o", tmp_path / "x.xlsx", "--resource", "memory_used_byte")
    assert (str(wrong), wrong.hint) == (
        "`memory_used_byte` is no metric",
        "did you mean `memory_used_bytes`?",
    )
    (tmp_path / "st.json").write_text('{"key": "a"}')
    wrong = failure("-i", tree, "-o", tmp_path / "x.xlsx", "-st", tmp_path / "st.json")
    assert str(wrong) == f"`{tmp_path / 'st.json'}` holds no list"
    put(tmp_path, {"junk/llama_7b/a.txt": "junk"})
    assert isinstance(failure("-i", tmp_path / "junk", "-o", tmp_path / "x.xlsx"), NothingSelected)


def test_options_of_the_reference_are_in_the_printed_spec(tree: Path, tmp_path: Path) -> None:
    """-st and -hb are settings like any others: the spec behind the command holds them."""
    (tmp_path / "st.json").write_text('[{"key": "PKG", "lookup": "Package C-State", "buckets": ["1-2"]}]')
    result = ingest("-i", tree, "-st", tmp_path / "st.json", "-hb", "--print-spec")
    assert "verdicts: true" in result.output
    assert "lookup: Package C-State" in result.output


def test_formats_are_listed() -> None:
    assert "llama.cpp timings" in ingest("--list-formats").stdout


def test_the_example_tree_fills_every_sheet(tmp_path: Path) -> None:
    write_example_runs(tmp_path / "runs")
    ingest("-i", tmp_path / "runs", "-o", tmp_path / "a.xlsx")
    book = sheets(tmp_path / "a.xlsx")
    for name in (
        "Performance",
        "Power",
        "Memory",
        "Thermal",
        "Comparison",
        "Trade-offs",
        "Scaling",
        "Runs",
        "Origins",
    ):
        assert book[name].max_row > 5, name
        assert book[name].freeze_panes is not None, name


def test_pages_stand_beside_the_workbook(tree: Path, tmp_path: Path) -> None:
    result = ingest("-i", tree, "-o", tmp_path / "a.xlsx", "--pages", "html")
    assert result.stdout.splitlines() == [str(tmp_path / "a.xlsx"), str(tmp_path / "a.html")]
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Runs found in folders" in page
    assert "llama_7b/batch_4" in page
