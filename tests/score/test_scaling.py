"""Comparing runs: groups, representatives and errors; the document's own numbers are checked elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import UsageError
from engine.results.tables import make_table
from engine.score.scaling import (
    Run,
    comparisons,
    prediction_errors,
    representatives,
    runs_of,
    scaling_efficiency,
    scalings,
)


def run(label: str, point: int = 0, **values: Any) -> Run:
    """A run by hand: numbers but batch_size are metrics."""
    metrics = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "batch_size"}
    return Run(point, label, "ok", None, {k: v for k, v in values.items() if k not in metrics}, metrics)


def tables(summary: dict[str, list[Any]]) -> dict[str, Any]:
    """A point and its summary."""
    points = {"point": [0, 1], "model": ["m", "m"], "batch_size": [1, 4]}
    return {"points": make_table("points", points), "summary": make_table("summary", summary)}


def test_a_run_that_states_no_format_is_compared_with_those_that_agree() -> None:
    runs = [
        run("a", model="m", quantization="f16", batch_size=1, throughput_tokens_per_s=1.0),
        run("b", model="m", batch_size=4, throughput_tokens_per_s=3.0),
    ]
    ((text, group),) = comparisons(runs, "batch_size")
    assert (text, [r.label for r in group]) == ("model m, quantization f16 where stated", ["a", "b"])
    other = run("c", model="m", quantization="q4", batch_size=8, throughput_tokens_per_s=3.0)
    assert comparisons([*runs, other], "batch_size") == []  # now nobody knows which format `b` is


def test_failed_runs_are_not_compared() -> None:
    failed = Run(1, "b", "failed", "empty", {"batch_size": 4})
    assert comparisons([run("a", batch_size=1), failed], "batch_size") == []


def test_repeats_stand_for_their_configuration_once() -> None:
    runs = [run(str(w), average_power_w=w, batch_size=1) for w in (4, 1, 3, 2)] + [run("x", 1, batch_size=4)]
    assert [r.label for r in representatives(runs)] == ["2", "x"]
    assert [r.label for r in representatives(runs, pick="max")] == ["4", "x"]
    assert len(representatives(runs, pick="all")) == 5


def test_no_resource_no_efficiency() -> None:
    with pytest.raises(UsageError, match="the resource ratio is 0"):
        scaling_efficiency(1.0, 0.0)
    with pytest.raises(UsageError, match="no axis `colour`"):
        scalings([], "colour")


def test_tests_of_one_phase_are_runs_too() -> None:
    rows = {
        "point": [0, 0, 1], "source": ["run_folder"] * 3, "phase": ["request", "decode", "decode"],
        "variant": ["a", "a", "b"], "status": ["ok"] * 3, "throughput_tokens_per_s": [1.0, 2.0, 3.0],
    }  # fmt: skip
    assert [r.label for r in runs_of(tables(rows))] == ["a", "b (decode)"]


def test_errors_are_relative_to_the_measurement() -> None:
    rows = {
        "point": [0, 0, 1], "source": ["run_folder", "predicted", "run_folder"], "phase": ["decode"] * 3,
        "variant": ["a", None, "b"], "status": ["ok"] * 3, "tpot_s": [0.020, 0.015, 0.5],
    }  # fmt: skip
    (found,) = prediction_errors(tables(rows))
    assert (found.metric, found.error) == ("tpot_s", pytest.approx(-0.25))  # (15 - 20) / 20
