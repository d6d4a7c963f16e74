from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engine as package
from engine.errors import SpecError

Engine = Callable[..., Any]
ONE = ("analyze", "--model", "llama-3-8b", "--hardware", "a100-sxm-80gb", "--calibration", "none")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str) -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_prints_the_numbers_one_looks_at_first(engine: Engine) -> None:
    answer = engine(*ONE)
    assert answer.code == 0
    header, line = answer.out.splitlines()
    assert header.split("  ")[0] == "model"
    # Prefill of 2048 tokens 102.038 ms; the mean over 256 tokens lies between 7.499 and 7.516 ms.
    assert "102 ms" in line
    assert "7.507 ms" in line


def test_operators_in_both_layouts(engine: Engine) -> None:
    assert engine(*ONE, "--operators", "ours.csv").code == 0
    rows = read("ours.csv")
    total = sum(float(r["flops"]) * int(r["count"]) for r in rows if r["phase"] == "prefill")
    assert total == 29_707_532_779_520
    assert engine(*ONE, "--operators", "theirs.csv", "--layout", "llm-para").code == 0
    first = read("theirs.csv")[0]
    assert (first["Operation"], first["FLOPs"], first["Density (Op/Byte)"]) == (
        "xW_Q",
        "68719476736.0",
        "1024.0",
    )


def test_spec_it_stands_for_gives_the_same_numbers(engine: Engine) -> None:
    printed = engine(*ONE, "--batch-size", "1,8", "--print-spec").out
    Path("same.yaml").write_text(printed, encoding="utf-8")
    assert engine("run", "same.yaml", "--no-report").code == 0
    stored = json.loads(engine("export", "analysis", "summary", "--format", "json").out)
    direct = json.loads(engine(*ONE, "--batch-size", "1,8", "--format", "json").out)
    times = {(row["point"], row["phase"]): row["time_s"] for row in direct}
    assert times == {(row["point"], row["phase"]): row["time_s"] for row in stored}


def test_roofline_from_the_analysis_and_from_its_csv(engine: Engine) -> None:
    assert engine(*ONE, "--roofline", "a.svg", "--operators", "ops.csv", "--layout", "llm-para").code == 0
    assert {p.name for p in Path().glob("*.svg")} == {"a.svg", "a_legend.svg"}
    answer = engine("roofline", "ops.csv", "--hardware", "document-a100", "-o", "b.svg")
    assert answer.out == "b.svg\nb_legend.svg\n"
    assert "ridge 12.54 FLOP/byte" in answer.err
    answer = engine("roofline", "ops.csv", "--hardware", "a100-sxm-80gb", "--precision", "fp8")
    assert (answer.code, "has no `fp8` peak" in answer.err) == (2, True)


def test_a_name_that_does_not_exist(engine: Engine) -> None:
    answer = engine("analyze", "--model", "llama-3.1-9b", "--hardware", "l4")
    assert answer.code == 2
    assert "there is no model `llama-3.1-9b`" in answer.err


def test_python_call_sweeps_lists_and_agrees_with_the_single_point() -> None:
    found = package.analyze("llama-3-8b", "a100-sxm-80gb", batch_size=[1, 8], calibration="none")
    assert len(found.points) == 2
    requests = found.summary[found.summary["phase"] == "request"]
    one = package.analyze("llama-3-8b", "a100-sxm-80gb", batch_size=8, calibration="none")
    assert one.prediction.phases["request"]["tpot_s"] == requests["tpot_s"].iloc[1]
    assert set(found.operators["point"]) == {0, 1}


def test_python_call_refuses_what_no_spec_could_hold() -> None:
    with pytest.raises(SpecError, match="`batch_size` is 0; it must be at least 1"):
        _ = package.analyze("llama-3-8b", "l4", batch_size=0).plan


def test_notes_of_good_rows_and_no_basis_of_skipped_ones(engine: Engine) -> None:
    asked = ("analyze", "--model", "llama-3.1-8b", "--hardware", "h100-sxm-80gb", "--calibration", "none")
    shared = engine(*asked, "--tensor", "16").out
    assert "bound  16 devices share 8 key/value heads: the heads are replicated" in shared
    impossible = engine(*asked, "--tensor", "3")
    assert "-  skipped: 32 attention heads of `llama-3.1-8b` do not divide over 3 devices" in impossible.out
    assert impossible.code == 5
    assert engine(*asked, "--tensor", "1,3").code == 0
