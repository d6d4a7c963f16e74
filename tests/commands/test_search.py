from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Engine = Callable[..., Any]

SPEC = """\
version: 1
name: tiny
model: llama-3-8b
hardware: h100-sxm-80gb
workload: {prompt_tokens: 512, output_tokens: 128}
sweep:
  axes:
    hardware: [h100-sxm-80gb, a100-sxm-80gb]
    quantization: [bf16, w4a16-g128]
    workload.batch_size: [1, 8, 64, 256]
measurements:
  - {kind: analytical, calibration: none}
"""


@pytest.fixture
def run(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A finished run, and a call that asks it for JSON."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SPEC, encoding="utf-8")
    assert engine("run", "tiny.yaml", "--no-report").code == 0
    return lambda *arguments: json.loads(engine("search", *arguments, "--format", "json").out)


def test_best_point_under_limits(run: Callable[..., Any]) -> None:
    (free,) = run("best", "tiny", "output_tokens_per_s_per_device")
    (limited,) = run("best", "tiny", "output_tokens_per_s_per_device", "--require", "tpot_s <= 4 ms")
    assert free["batch_size"] > limited["batch_size"]
    assert limited["tpot_s"] <= 4e-3
    assert limited["hardware"] == "h100-sxm-80gb"


def test_pareto_front_holds_no_dominated_point(run: Callable[..., Any]) -> None:
    metrics = ("output_tokens_per_s_per_device", "output_tokens_per_s_per_user")
    front = run("pareto", "tiny", *metrics)
    values = [tuple(row[m] for m in metrics) for row in front]
    assert len(values) > 2
    for one in values:
        assert not any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in values)


def test_weight_only_formats_break_even_with_16_bit_at_no_batch(run: Callable[..., Any]) -> None:
    # Weight-only int4 computes at 16 bits and moves fewer bytes: it is never behind in a bound.
    rows = run("break-even", "tiny", "quantization", "bf16", "w4a16-g128")
    assert {row["better below"] for row in rows} == {"w4a16-g128"}


def test_largest_batch_under_a_limit(run: Callable[..., Any]) -> None:
    rows = run("largest-batch", "tiny", "--require", "tpot_s <= 8 ms")
    found = {(r["hardware"], r["quantization"]): r["largest batch"] for r in rows}
    # A100, bf16: one token reads 15.01 GB of weights in 7.36 ms at 2.039 TB/s; batch 8 stays under 8 ms.
    assert found["a100-sxm-80gb", "bf16"] == 8


def test_impossible_questions(engine: Engine, run: Callable[..., Any]) -> None:
    answer = engine("search", "best", "tiny", "ttft_s", "--require", "tpot_s <= 1 us")
    assert (answer.code, "no point meets every condition" in answer.err) == (5, True)
    answer = engine("search", "best", "tiny", "ttft")
    assert answer.code == 2
    answer = engine("search", "largest-batch", "tiny", "--require", "tpot_s")
    assert (answer.code, "is not a condition" in answer.err) == (2, True)


def test_bounds_among_estimates_are_pointed_out(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # mi300x has no parameter set and none near; h100-sxm-80gb has one.
    mixed = SPEC.replace("a100-sxm-80gb", "mi300x").replace("calibration: none", "calibration: auto")
    Path("tiny.yaml").write_text(mixed, encoding="utf-8")
    assert engine("run", "tiny.yaml", "--no-report").code == 0
    for question in (
        ("best", "tiny", "tpot_s"),
        ("break-even", "tiny", "quantization", "bf16", "w4a16-g128"),
    ):
        answer = engine("search", *question)
        assert answer.code == 0
        assert answer.err.startswith(
            "warning: the rows of `mi300x` are bounds, others are estimates; a bound always looks better\n"
        )


def test_one_basis_needs_no_warning(engine: Engine, run: Callable[..., Any]) -> None:
    assert run("best", "tiny", "tpot_s")
    assert engine("search", "best", "tiny", "tpot_s").err == ""
