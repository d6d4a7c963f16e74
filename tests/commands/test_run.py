from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Engine = Callable[..., Any]


def rows(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_plan_run_and_run_again(engine: Engine, spec: Path) -> None:
    planned = engine("plan", spec)
    assert planned.code == 0
    assert planned.out.startswith("tiny: 2 axes, 4 combinations, 0 dropped, 4 points\n")
    assert "  +         4  new\n" in planned.out
    first = engine("run", spec)
    assert first.code == 0
    assert first.out == "runs/tiny/report/report.html\n"
    assert (spec.parent / first.out.strip()).stat().st_size > 10_000
    again = engine("run", spec, "--no-report")
    assert (again.code, again.err) == (0, "4 points, all kept from earlier runs\n")
    assert "  =         4  kept from earlier runs\n" in engine("plan", spec).out


def test_exported_numbers_are_the_golden_ones(engine: Engine, spec: Path) -> None:
    names = ["--set", "model=llama-3-8b", "--set", "hardware=a100-sxm-80gb"]
    engine("run", spec, "--no-report", *names, "--set", "measurements.0.calibration=none")
    summary = rows(engine("export", "tiny", "summary"))
    decode = {r["point"]: r for r in summary if r["phase"] == "decode"}
    # Llama-3-8B on an A100 after 2048 tokens: 7.499 ms at batch 1, 8.464 ms at batch 8 (bound by memory).
    points = {(p["hardware"], p["batch_size"]): p["point"] for p in rows(engine("export", "tiny", "points"))}
    assert float(decode[points["a100-sxm-80gb", "1"]]["time_s"]) == pytest.approx(7.499e-3, rel=1e-4)
    assert float(decode[points["a100-sxm-80gb", "8"]]["time_s"]) == pytest.approx(8.464e-3, rel=1e-4)


def test_exit_code_of_pending_work_is_opt_in(engine: Engine, spec: Path) -> None:
    assert engine("plan", spec, "--exit-code").code == 10
    engine("run", spec, "--no-report")
    assert engine("plan", spec, "--exit-code").code == 0


def test_adding_a_device_keeps_the_others(engine: Engine, spec: Path) -> None:
    engine("run", spec, "--no-report")
    spec.write_text(spec.read_text().replace("a100-sxm-80gb]", "a100-sxm-80gb, l4]"))
    planned = json.loads(engine("plan", spec, "--format", "json").out)
    assert planned["tasks"] == {"kept": 2, "new": 1}
    assert planned["points"] == 6


def test_only_an_absent_kind_selects_nothing(engine: Engine, spec: Path) -> None:
    answer = engine("run", spec, "--only", "live")
    assert answer.code == 5
    assert "no measurement of kind `live`" in answer.err


def test_points_that_do_not_fit_have_no_times(engine: Engine, spec: Path) -> None:
    engine("run", spec, "--no-report", "--set", "model=llama-3.1-70b")
    for row in rows(engine("export", "tiny", "summary")):
        assert row["status"] == "does_not_fit"
        assert row["time_s"] == row["ttft_s"] == row["output_tokens_per_s"] == ""
        assert "GB" in row["reason"]


def test_unknown_table_and_run(engine: Engine, spec: Path) -> None:
    answer = engine("export", "tiny", "sumary")
    assert (answer.code, "no table `sumary`" in answer.err) == (2, True)
    answer = engine("export", "tiny", "summary")
    assert (answer.code, "there is no run `tiny`" in answer.err) == (3, True)


def test_read_only_folder_is_a_plain_error(engine: Engine, spec: Path) -> None:
    Path("runs").write_text("not a folder")
    answer = engine("run", spec)
    assert answer.code == 3
    assert "Traceback" not in answer.err


def test_a_defect_is_said_plainly_and_debug_shows_it(
    engine: Engine, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("engine.commands.plan.load_checked", broken)
    answer = engine("plan", spec)
    assert answer.code == 4
    assert answer.err.startswith("error: RuntimeError: boom\n")
    from engine.cli import main

    with pytest.raises(RuntimeError, match="boom"):
        main(["plan", str(spec), "--debug"])


def test_a_lost_resolved_spec_is_made_from_the_plan(engine: Engine, spec: Path) -> None:
    engine("run", spec, "--no-report")
    Path("runs/tiny/resolved.yaml").unlink()
    answer = engine("report", "tiny", "--formats", "html")
    assert (answer.code, answer.out) == (0, "runs/tiny/report/report.html\n")


def test_setting_what_the_sweep_varies_is_pointed_out(engine: Engine, spec: Path) -> None:
    answer = engine("plan", spec, "--set", "workload.batch_size=4")
    assert answer.code == 0
    assert answer.err == (
        "warning: the sweep varies `workload.batch_size`, "
        "so that `--set workload.batch_size` changes nothing\n"
        "  `--set 'sweep.axes.workload.batch_size=[...]'` sets its values\n"
    )
    assert engine("plan", spec, "--set", "sweep.axes.workload.batch_size=[2, 4]").err == ""
    assert engine("plan", spec, "--set", "workload.prompt_tokens=4").err == ""
