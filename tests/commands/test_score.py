"""`engine score`: what goes with a RUN, the contest, and mistakes that are said before anything is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Answer
from tests.measure.training.workplace import lay_out

# Latency and throughput of a published row of the contest, and the baselines it was compared with.
PROMPT = {"e2e_model": {"latency_ms_avg": 14000.0, "latency_ms_p99": 14505.56098461151,
                        "throughput": 46.08675960472123}}  # fmt: skip
RATIO = 121543255 / 658414167
ONE = 12498 / 14505.56098461151 * 46.08675960472123 / 51.86 * (1 + RATIO)
TWO = 6259.94 / 14505.56098461151 * 46.08675960472123 / 104.77 * (1 + RATIO)


Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Run) -> Run:
    """The command in a folder as a training run leaves it, with a finished run of a preset in it."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    for name in ("p0.json", "p1.json"):
        (tmp_path / name).write_text(json.dumps(PROMPT), encoding="utf-8")
    (tmp_path / "baselines.txt").write_text("0 18 64 12498 51.86\n1 126 256 6259.94 104.77\n", "utf-8")

    return lambda *arguments: engine("score", *arguments)


@pytest.fixture
def finished(run: Run, tmp_path: Path, engine: Run) -> Run:
    (tmp_path / "tuned.yaml").write_text(
        json.dumps(
            {
                "version": 1, "name": "tuned", "model": "llama-3.1-8b", "hardware": "trainium1",
                "measurements": [{
                    "kind": "training", "model": "config.json", "config": "hf_llama3_8B_SFT_config.yaml",
                    "compile_dir": "neuron_cache", "throughput": 2.1,
                    "inference_results": "report.json",
                }],
                "scoring": {"preset": "nki-llama"},
            }
        ),
        encoding="utf-8",
    )  # fmt: skip
    whole = {"e2e_model": {"latency_ms_avg": 12131.49, "throughput": 52.76}}
    (tmp_path / "report.json").write_text(json.dumps(whole), encoding="utf-8")
    assert engine("run", "tuned.yaml", "--no-report").code == 0
    return run


def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("benchmark_results.json").read_text(encoding="utf-8"))
    return found


def test_the_contest_adds_up_prompts_against_their_baselines(run: Run) -> None:
    prompts = ("--prompt-results", "p0.json", "--prompt-results", "p1.json")
    options = ("--preset", "nki-llama-contest", *prompts, "--prompt-baselines", "baselines.txt")
    answer = run(*options, "--calculate-score")
    assert answer.code == 0
    assert f"🏆 CONTEST SCORE: {ONE + TWO:.4f}\n" in answer.out
    assert f"⚡ Prompt 1: {TWO:.4f}\n  Latency p99: 14505.56ms (reference: 6259.94ms)\n" in answer.out
    found = result()
    assert found["nki_kernel_score"] == pytest.approx(ONE + TWO, rel=1e-12)
    assert [p["score"] for p in found["engine"]["prompts"]] == pytest.approx([ONE, TWO], rel=1e-12)
    assert (found["mode"], found["component_scores"]["training"]) == ("inference_only", None)
    assert run(*options, "--print-spec").out.endswith(
        "    - prompt: 1\n      latency: 6259.94 ms\n      throughput: 104.77\n"
    )


def test_the_contest_needs_neither_training_nor_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").unlink()
    (tmp_path / "hf_llama3_8B_SFT_config.yaml").unlink()
    alone = ("--inference-results", "p0.json", "--reference-latency", "12498")
    answer = run(
        "--preset", "nki-llama-contest", *alone, "--reference-throughput", "51.86", "--calculate-score"
    )
    assert f"🏆 CONTEST SCORE: {ONE:.4f}\n" in answer.out


def test_a_table_of_baselines_that_is_not_there(run: Run) -> None:
    answer = run("--preset", "nki-llama-contest", "--prompt-baselines", "none.txt")
    assert (answer.code, answer.err) == (1, "error: `none.txt` cannot be read: no such file or directory\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top", "3"), "`--top` needs a RUN"),
        (("--format", "json"), "`--format` needs a RUN"),
        (
            ("--output", "a.json", "--training-output", "./a.json"),
            "`--output` and `--training-output` are both `a.json`",
        ),
        (("--output", "no/a.json"), "`--output no/a.json`: there is no folder `no`"),
        (("--training-output", "train.log"), "`train.log` exists and is no result of `engine score`"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    run: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "train.log").write_text("loss=3\n", encoding="utf-8")
    answer = run("--throughput", "2.1", *options)
    assert (answer.code, answer.err.splitlines()[0]) == (2, f"error: {message}")
    assert not list(tmp_path.glob("benchmark_*.json"))


@pytest.mark.parametrize("option", ["--reference-throughput", "--base-mfu", "--base-throughput"])
def test_a_score_beyond_every_number_is_none(run: Run, tmp_path: Path, option: str) -> None:
    answer = run(
        "--throughput", "2.1", "--inference-results", "p0.json", "--calculate-score", option, "1e-310"
    )
    assert (answer.code, answer.err.splitlines()[0]) == (
        1,
        "error: no score: the score is larger than any number: a reference, a base or a value is far off",
    )


@pytest.mark.parametrize("throughput", ["1e300", "1e-320"])
def test_a_result_beyond_every_number_is_not_written(run: Run, tmp_path: Path, throughput: str) -> None:
    answer = run("--throughput", throughput)
    assert answer.code in (1, 2)
    assert "larger than any number" in answer.err
    assert not list(tmp_path.glob("benchmark_*.json"))


def test_reasons_stand_below_what_is_not_known(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("x: 1\n", encoding="utf-8")
    answer = run("--throughput", "2.1", "--config", "other.yaml", "--calculate-score")
    assert answer.code == 1
    assert answer.err.splitlines()[:3] == [
        "error: no score: not known: `training_mfu`",
        "  no MFU without `sequence_length`",
        "  `other.yaml` states no number in `data.seq_length`",
    ]


def test_a_model_that_is_neither_file_nor_name_is_one_of_the_missing(run: Run) -> None:
    answer = run("--throughput", "2.1", "--model-config", "llama-3.1-8c", "--log-file", "no.log")
    assert answer.code == 1
    assert answer.err.splitlines() == [
        "error: `log_file`: `no.log` does not exist",
        "error: `model`: there is no model `llama-3.1-8c`; did you mean `llama-3.1-8b`?",
    ]


def test_verbose_names_where_numbers_come_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p0.json").rename(tmp_path / "benchmark_inference.json")  # taken because it lies there
    answer = run("--throughput", "2.1", "--verbose")
    # 46.08675960472123 tokens/s for 14 s
    assert answer.err.splitlines()[-6:-1] == [
        "throughput: stated by hand",
        "peak of a node: 3040 TFLOP/s, bf16",
        "MFU by the causal convention: 13.65%",
        "inference results: benchmark_inference.json",
        "e2e_model: throughput x latency is 645.2 tokens a call",
    ]


def test_the_training_script_is_said_not_to_run(run: Run) -> None:
    answer = run("--throughput", "2.1", "--training-script", "metrics.py")
    assert "note: `metrics.py` was not run: metrics are computed in process\n" in answer.err


@pytest.mark.parametrize("option", [("--throughput", "3"), ("--calculate-score",), ("--output", "x.json")])
def test_a_run_is_judged_from_what_is_stored(finished: Run, option: tuple[str, ...]) -> None:
    answer = finished("tuned", *option)
    assert answer.code == 2
    assert answer.err.startswith(f"error: `{option[0]}` cannot go with a RUN")


def test_other_numbers_of_a_preset_judge_a_finished_run(finished: Run) -> None:
    # 0.00770012 and 25.7592 are the document's parts; halves of both add up to 12.88345.
    answer = finished("tuned", "--training-weight", "0.5", "--inference-weight", "0.5")
    assert answer.out.splitlines()[1].split()[:2] == ["1", "12.88"]
    assert answer.out.splitlines()[2] == "preset nki-llama: training 0.5, inference 0.5"
    answer = finished("tuned", "--preset", "nki-llama-document")
    assert answer.out.splitlines()[1].split()[:2] == ["1", "0.004626"]
    answer = finished("tuned", "--reference-latency", "25000", "--format", "json")
    # Half the reference halves the inference part: 0.4 x 0.00770012 + 0.6 x 12.8796.
    assert json.loads(answer.out)["scores"][0]["score"] == pytest.approx(7.730840, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--training-weight", "0.5"), "`training_weight` and `inference_weight` add up to 1.1, not 1"),
        (("--reference-throughput", "0"), "`reference_throughput` is 0.0: input should be greater than 0"),
        (("--reference-latency", "-4"), "`reference_latency` is -4 ms: `-4 ms` is negative"),
        (("--weights", "tpot_s=1"), "`preset: nki-llama` has no weights by metric"),
        (("--weights", "tps=1"), "there is no metric `tps`"),
        (("--weights", ""), "`--weights` is empty"),
        (("--weights", "ttft_s=1,ttft_s=2"), "`ttft_s` has two weights, 1 and 2"),
    ],
)
def test_wrong_numbers_for_a_finished_run(finished: Run, options: tuple[str, ...], message: str) -> None:
    answer = finished("tuned", *options)
    assert (answer.code, answer.err.splitlines()[0]) == (2, f"error: {message}")


def test_a_finished_training_run_is_read_again_when_its_model_changes(
    finished: Run, engine: Run, tmp_path: Path
) -> None:
    assert engine("plan", "tuned.yaml", "--exit-code").code == 0
    shape = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": 16}), encoding="utf-8")
    planned = engine("plan", "tuned.yaml", "--exit-code")
    assert planned.code == 10
    assert [line.strip() for line in planned.out.splitlines()[1:]] == [
        "because files that `training` reads changed",
        "To run: 1 task. Nothing has been run.",
    ]
    before = finished("tuned", "--format", "json").out
    assert engine("run", "tuned.yaml", "--no-report").code == 0
    mfu = [
        next(f["value"] for f in json.loads(text)["factors"] if f["metric"] == "training_mfu")
        for text in (before, finished("tuned", "--format", "json").out)
    ]
    # 32 layers and the two tables are 224042674028544 FLOPs, the tables 12 x 128256 x 4096 x 4096 of them.
    tables = 12 * 128256 * 4096 * 4096
    half = tables + (224042674028544 - tables) // 2
    assert mfu[1] == pytest.approx(mfu[0] * half / 224042674028544, rel=1e-12)
