"""`engine score RUN`: other weights for a finished run, nothing measured again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.commands.rescore import reweighted
from engine.errors import UsageError
from engine.spec.scoring import Scoring

SPEC = """\
version: 1
name: judged
model: llama-3.1-8b
hardware: h100-sxm-80gb
sweep:
  axes:
    hardware: [h100-sxm-80gb, l4]
    workload.batch_size: [1, 8, 64]
measurements:
  - kind: analytical
scoring:
  objectives:
    - {metric: output_tokens_per_s, weight: 1.0, reference: 1000}
    - {metric: tpot_s, weight: 0.0, reference: 0.02}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judged.yaml").write_text(SPEC, encoding="utf-8")

    def go(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    assert go("run", "judged.yaml", "--no-report")[0] == 0
    return go


def winner(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)["scores"][0]
    return found


def test_other_weights_give_another_winner_from_the_same_results(run: Run) -> None:
    shards = sorted(Path("runs/judged").rglob("*.parquet"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    code, out, _ = run("score", "judged", "--format", "json")
    assert code == 0
    assert (winner(out)["hardware"], winner(out)["batch_size"]) == ("h100-sxm-80gb", 64)
    _, out, _ = run("score", "judged", "--weights", "output_tokens_per_s=0,tpot_s=1", "--format", "json")
    assert (winner(out)["hardware"], winner(out)["batch_size"]) == ("h100-sxm-80gb", 1)
    assert [shard.stat().st_mtime_ns for shard in shards] == times


def test_the_ranking_on_the_terminal(run: Run) -> None:
    code, out, err = run("score", "judged", "--top", "2")
    assert code == 0
    heading, first, second, *_ = out.splitlines()
    assert heading.split()[:3] == ["rank", "score", "point"]
    assert first.split()[0] == "1"
    assert second.split()[0] == "2"
    assert err == ""


def test_weights_in_force_stand_below_the_ranking(run: Run) -> None:
    _, out, _ = run("score", "judged", "--weights", "tpot_s=3")
    assert "weights: output_tokens_per_s 25.0%, tpot_s 75.0%\n" in out


def test_points_of_other_lengths_are_said_to_be_other_work(run: Run, tmp_path: Path) -> None:
    text = SPEC.replace("judged", "mixed").replace(
        "workload.batch_size: [1, 8, 64]", "workload.prompt_tokens: [64, 512]"
    )
    (tmp_path / "mixed.yaml").write_text(text, encoding="utf-8")
    assert run("run", "mixed.yaml", "--no-report")[0] == 0
    _, _, err = run("score", "mixed")
    assert "note: points of 2 pairs of lengths are ranked together: other lengths are other work\n" in err


def test_a_metric_that_was_no_objective_becomes_one(run: Run) -> None:
    _, out, _ = run("score", "judged", "--weights", "ttft_s=5", "--format", "json")
    assert {f["metric"] for f in json.loads(out)["factors"]} == {"output_tokens_per_s", "tpot_s", "ttft_s"}
    assert "factors without a reference" in json.loads(out)["notes"][0]


def test_a_run_that_is_not_there(run: Run) -> None:
    code, _, err = run("score", "none")
    assert code == 3
    assert err.startswith("error: there is no run `none`")


def test_weights_need_a_run(run: Run) -> None:
    code, _, err = run("score", "--weights", "tpot_s=1")
    assert (code, err.splitlines()[0]) == (2, "error: `--weights` needs a RUN")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["tpot_s"], "`tpot_s` is no weight"),
        (["tpot_s=much"], "`tpot_s=much` is no weight"),
        (["tpot_s=-1"], "`tpot_s=-1` is no weight"),
        (["tpot_s=nan"], "`tpot_s=nan` is no weight"),
        (["speed=1"], "there is no metric `speed`"),
        (["output_tokens_per_s=0"], "every weight is 0, so nothing is ranked"),
        (["flops=1"], "`flops` has no better direction of its own; give `direction`"),
    ],
)
def test_wrong_weights(weights: list[str], message: str) -> None:
    scoring = Scoring.model_validate({"objectives": [{"metric": "output_tokens_per_s", "weight": 1.0}]})
    with pytest.raises(UsageError) as caught:
        reweighted(scoring, weights)
    assert caught.value.message == message


def test_nothing_to_judge_by() -> None:
    with pytest.raises(UsageError) as caught:
        reweighted(None, [])
    assert caught.value.message == "this run has no `scoring`"


def test_other_numbers_of_the_spec_stay() -> None:
    scoring = Scoring.model_validate(
        {
            "objectives": [{"metric": "tpot_s", "weight": 1.0, "reference": 0.05}],
            "require": {"ttft_s": "<= 2 s"},
            "missing": "penalty",
            "penalty": 0.1,
        }
    )
    changed = reweighted(scoring, ["tpot_s=3"])
    assert changed.objectives[0].weight == 3
    assert (changed.objectives[0].reference, changed.require, changed.penalty) == (
        0.05,
        {"ttft_s": "<= 2 s"},
        0.1,
    )


def test_a_preset_has_no_weights_by_metric() -> None:
    preset = Scoring.model_validate({"preset": "nki-llama", "nki_llama": {"reference_latency": "20 s"}})
    assert reweighted(preset, []) == preset
    with pytest.raises(UsageError, match="has no weights by metric"):
        reweighted(preset, ["tpot_s=1"])
