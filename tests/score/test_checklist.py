"""Rows 121-127, 131-133, 140-143 and 145-150 of the acceptance list: the NKI-LLAMA score."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.cli import main
from engine.results.tables import make_table
from engine.score.nki_llama import InferenceScore, NkiLlamaScore, TrainingScore, band, training_product
from engine.score.nki_llama_text import console, figures
from engine.score.weights import score
from engine.spec.presets import NkiLlama
from engine.spec.scoring import Scoring
from tests.measure.training.workplace import FULL, MODULE, lay_out, write_inference

GIVEN = ("--throughput", "2.1", "--calculate-score")


class Answer(NamedTuple):
    code: int
    out: str
    err: str
    results: dict[str, Any]
    training: dict[str, Any]


Run = Callable[..., Answer]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path)


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as stop:
            main(["score", *arguments])
        shown = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Answer(stop.value.code, shown.out, shown.err, read("results"), read("finetuning"))

    def read(name: str) -> dict[str, Any]:
        path = place / f"benchmark_{name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found

    return go


MFU, RATIO = 0.15476632087498107, 121543255 / 658414167


def training(**options: Any) -> TrainingScore:
    return TrainingScore(MFU, 2.1, RATIO, NkiLlama(**options))


def inference(**changes: Any) -> InferenceScore:
    part = InferenceScore(12.13149, 52.76, RATIO, 50.0, 10.0, passed=True)
    return replace(part, **changes)


def test_121_training_only_mode(run: Run) -> None:
    answer = run(*GIVEN)
    assert answer.code == 0
    assert "🏆 NKI KERNEL TRAINING SCORE: 0.0077\n" in answer.out
    assert answer.results["mode"] == "training_only"
    assert answer.results["component_scores"]["inference"] is None
    assert answer.results["detailed_breakdown"]["inference"] is None


def test_122_combined_mode(run: Run, place: Path) -> None:
    write_inference(place)
    answer = run(*GIVEN)
    assert answer.results["mode"] == "combined"
    assert "Score Weights:\n  Training: 40%\n  Inference: 60%\n" in answer.out
    assert "🏆 FINAL NKI-LLAMA SCORE: 15.4586\n" in answer.out


@pytest.mark.parametrize(
    "text",
    [
        "--config", "hf_llama3_8B_SFT_config.yaml", "--model-config", "config.json", "--log-file",
        "--compile-dir", "neuron_cache", "--throughput", "uses 2.1", "--hw-backend", "[default: trn1]",
        "--inference-results", "benchmark_inference.json", "--reference-latency", "50000",
        "--reference-throughput", "[default: 10]", "--training-weight", "0.4", "--inference-weight", "0.6",
        "--output", "benchmark_results.json", "--training-output", "benchmark_finetuning.json", "--verbose",
        "--calculate-score", "--per-file-scores", "--detailed",
    ],
)  # fmt: skip
def test_123_help_lists_options_and_defaults(run: Run, text: str) -> None:
    assert text in " ".join(run("--help").out.split())


def test_123_the_training_script_is_accepted_and_not_needed(run: Run) -> None:
    assert run(*GIVEN, "--training-script", "calculate_training_metrics.py").code == 0


def test_123_trn2(run: Run) -> None:
    answer = run(*GIVEN, "--hw-backend", "trn2")
    assert answer.training["hardware_backend"] == "trn2"
    assert round(answer.training["mfu_percent"], 2) == 4.41


def test_123_an_unknown_backend(run: Run) -> None:
    answer = run(*GIVEN, "--hw-backend", "trn9", "--devices-per-node", "4")
    assert answer.code == 1
    assert answer.err.startswith("error: there is no device `trn9`")


def test_124_references_change_the_factors(run: Run, place: Path) -> None:
    write_inference(place)
    part = run(*GIVEN).results["detailed_breakdown"]["inference"]
    assert (part["reference_latency_ms"], part["reference_throughput"]) == (50000, 10)
    assert part["reduced_latency"] == pytest.approx(50000 / 12131.49)
    changed = run(*GIVEN, "--reference-latency", "25000", "--reference-throughput", "20")
    part = changed.results["detailed_breakdown"]["inference"]
    assert part["reduced_latency"] == pytest.approx(25000 / 12131.49)
    assert part["increased_throughput"] == pytest.approx(52.76 / 20)


@pytest.mark.parametrize(
    "reference", ["--reference-latency=-1", "--reference-latency=0", "--reference-throughput=0"]
)
def test_124_references_are_above_zero(run: Run, reference: str) -> None:
    assert run(*GIVEN, reference).code == 2


@pytest.mark.parametrize(("first", "second"), [("0.3", "0.7"), ("0.5", "0.5"), ("0.1", "0.9")])
def test_125_weights_that_add_up(run: Run, place: Path, first: str, second: str) -> None:
    write_inference(place)
    answer = run(*GIVEN, "--training-weight", first, "--inference-weight", second)
    assert answer.results["weights"] == {"training": float(first), "inference": float(second)}
    parts = answer.results["component_scores"]
    expected = float(first) * parts["training"] + float(second) * parts["inference"]
    assert answer.results["nki_kernel_score"] == pytest.approx(expected)


def test_125_weights_that_do_not(run: Run) -> None:
    answer = run(*GIVEN, "--training-weight", "0.5", "--inference-weight", "0.6")
    assert answer.code == 2
    assert "`training_weight` and `inference_weight` add up to 1.1, not 1" in answer.err
    assert answer.results == {}


def test_126_the_documents_advanced_command(run: Run, place: Path) -> None:
    write_inference(place)
    answer = run(
        "--config", str(place / "hf_llama3_8B_SFT_config.yaml"), "--model-config", str(place / "config.json"),
        "--log-file", str(place / "train.log"), "--compile-dir", str(place / MODULE),
        "--inference-results", str(place / "benchmark_inference.json"), "--throughput", "2.1",
        "--output", "benchmark_results.json", "--training-weight", "0.5", "--inference-weight", "0.5",
        "--hw-backend", "trn1", "--per-file-scores", "--calculate-score", "--detailed", "--verbose",
    )  # fmt: skip
    assert answer.code == 0
    assert (
        "  training: training_mfu = 0.154766, reference 0.5 -> 0.309533  (value / reference)\n" in answer.out
    )
    assert "model.hlo_module.pb: ratio 0.1846, score 0.0077\n" in answer.out
    assert "throughput: stated by hand\n" in answer.err


def test_126_without_asking_there_is_no_score(run: Run) -> None:
    answer = run("--throughput", "2.1")
    assert answer.results["nki_kernel_score"] is None
    assert answer.results["component_scores"] == {"training": None, "inference": None}
    assert answer.training["training_score"] is None
    assert "🏆 NKI KERNEL TRAINING SCORE: not calculated\n" in answer.out
    assert "add --calculate-score" in answer.err


def test_127_both_files_are_made_anew(run: Run, place: Path) -> None:
    first = run(*GIVEN)
    assert first.training["throughput_seq_per_sec"] == 2.1
    second = run("--throughput", "4.2", "--calculate-score")
    assert second.training["throughput_seq_per_sec"] == 4.2
    assert second.results["nki_kernel_score"] == pytest.approx(4 * first.results["nki_kernel_score"])


def test_127_a_file_of_somebody_else_stays(run: Run, place: Path) -> None:
    (place / "notes.json").write_text('{"mine": 1}', encoding="utf-8")
    answer = run(*GIVEN, "--output", "notes.json")
    assert answer.code == 2
    assert "error: `notes.json` exists and is no result of `engine score`" in answer.err
    assert (place / "notes.json").read_text(encoding="utf-8") == '{"mine": 1}'


def test_131_improvements_over_the_bases() -> None:
    part = training()
    assert (round(part.mfu_improvement, 4), round(part.throughput_improvement, 4)) == (0.3095, 0.0210)


def test_132_training_score() -> None:
    assert training().score == pytest.approx(0.0077001, abs=5e-8)
    assert training_product(1.2, 1.5, 1.2, 1.1, 1.15) == pytest.approx(2.7324)


def test_133_the_later_kernel_term() -> None:
    assert training(kernel_term="tenth_plus_ratio").score == pytest.approx(0.0018500, abs=5e-8)


def test_140_inference_score() -> None:
    assert inference().score == pytest.approx(25.7592, abs=5e-5)
    result = NkiLlamaScore("nki-llama", NkiLlama(), training(), (inference(),), ())
    assert result.score == pytest.approx(15.4586, abs=5e-5)


def test_141_the_printed_numbers_and_why(run: Run, place: Path) -> None:
    write_inference(place)
    printed = run(*GIVEN, "--preset", "nki-llama-document")
    assert printed.results["component_scores"]["inference"] == pytest.approx(0.0025759, abs=5e-8)
    assert printed.results["nki_kernel_score"] == pytest.approx(0.0046256, abs=5e-8)
    assert "inference score divided by 10,000 (`preset: nki-llama-document`)" in printed.err
    formula = run(*GIVEN)
    assert "score-scale: the document prints 0.0026 for `component_scores.inference`" in formula.err
    assert {d["code"] for d in formula.results["engine"]["discrepancies"]} == {
        "score-scale", "latency-reduction", "throughput-increase",
    }  # fmt: skip


def test_142_a_row_of_the_contest() -> None:
    part = InferenceScore(
        14.50556098461151, 46.08675960472123, 0.9966846147845622, 12.498, 51.86, passed=True
    )
    assert part.score == 1.5288297450333526


def test_142_the_contest_takes_the_99th_percentile_and_adds_up_prompts() -> None:
    rows = {
        "point": [0, 0, 0],
        "source": ["training"] * 3,
        "phase": ["training", "request", "request"],
        "variant": [None, "prompt 0", "prompt 1"],
        "status": ["ok"] * 3,
        "kernel_ratio": [0.5, None, None],
        "e2e_s": [None, 1.0, 1.0],
        "e2e_s_p99": [None, 2.0, 5.0],
        "total_tokens_per_s": [None, 30.0, 40.0],
    }
    prompts = [
        {"prompt": 0, "latency": "4 s", "throughput": 10},
        {"prompt": 1, "latency": "5 s", "throughput": 20},
    ]
    scoring = Scoring.model_validate({"preset": "nki-llama-contest", "nki_llama": {"prompts": prompts}})
    found = score(scoring, make_table("points", {"point": [0]}), make_table("summary", rows))
    # 4/2 x 30/10 x 1.5 + 5/5 x 40/20 x 1.5
    assert found.scores["score"].to_pylist() == [9.0 + 3.0]


@pytest.mark.parametrize(
    ("arguments", "accuracy", "words"),
    [
        (("--accuracy", "1"), 1.0, "Accuracy: ✓ Passed"),
        (("--accuracy", "0"), 0.0, "Accuracy: ✗ Failed"),
        (("--accuracy", "0.93", "--accuracy-threshold", "0.9"), 1.0, "Accuracy: ✓ Passed"),
        (("--accuracy", "0.93"), 0.0, "Accuracy: ✗ Failed"),
        ((), None, "Accuracy: not assessed (counts as 1)"),
    ],
)
def test_143_accuracy(
    run: Run, place: Path, arguments: tuple[str, ...], accuracy: float | None, words: str
) -> None:
    write_inference(place)
    answer = run(*GIVEN, *arguments)
    assert words in answer.out
    assert answer.results["detailed_breakdown"]["inference"]["accuracy"] == accuracy
    if accuracy == 0:
        assert answer.results["component_scores"]["inference"] == 0
        assert "Inference Score: 0.0000" in answer.out


def test_143_accuracy_from_the_report(run: Run, place: Path) -> None:
    write_inference(place, {**FULL, "accuracy": False})
    assert "Accuracy: ✗ Failed" in run(*GIVEN).out


COMBINED = """\
======================================================================
NKI-LLAMA BENCHMARK RESULTS
======================================================================

🏆 FINAL NKI-LLAMA SCORE: 0.0046

Score Weights:
  Training: 40%
  Inference: 60%

📊 Component Scores:
  Training Score: 0.0077
  Inference Score: 0.0026
  NKI Ratio: 0.1846

🎯 Training Metrics:
  MFU: 15.48% (baseline: 50.00%)
  Throughput: 2.10 seq/s (baseline: 100.00)
  MFU Improvement: 0.3095x
  Throughput Improvement: 0.0210x

⚡ Inference Metrics:
  Latency: 12131.49ms (reference: 50000.00ms)
  Throughput: 52.76 tokens/s (reference: 10.00)
  Latency Reduction: 4.1220x
  Throughput Increase: 5.2755x
  Accuracy: ✓ Passed

======================================================================
"""


def test_145_the_documents_block_to_the_character() -> None:
    options = NkiLlama()
    parts = (inference(scale=1e-4),)
    shown = figures(NkiLlamaScore("nki-llama-document", options, training(), parts, ()))
    assert shown.inference is not None
    # The two factors the document prints do not follow from the inputs it prints: see test_141.
    printed = replace(shown.inference, latency_reduction=4.1220, throughput_increase=5.2755)
    assert console(replace(shown, inference=printed)) == COMBINED


def test_145_the_command_prints_it_with_the_factors_of_its_inputs(run: Run, place: Path) -> None:
    write_inference(place)
    answer = run(*GIVEN, "--preset", "nki-llama-document")
    assert answer.out == COMBINED.replace("4.1220x", "4.1215x").replace("5.2755x", "5.2760x")


def test_146_the_training_only_block_to_the_character(run: Run) -> None:
    assert run(*GIVEN).out == (
        """\
======================================================================
NKI-LLAMA BENCHMARK RESULTS
======================================================================

⚠️  TRAINING-ONLY MODE (Inference results not available)

🏆 NKI KERNEL TRAINING SCORE: 0.0077
   NKI Ratio: 0.1846

🎯 Training Metrics:
  MFU: 15.48% (baseline: 50.00%)
  Throughput: 2.10 seq/s (baseline: 100.00)
  MFU Improvement: 0.3095x
  Throughput Improvement: 0.0210x

💡 Note: This score represents training performance only.
   To get the full NKI-LLAMA score, run inference benchmarks and provide
   the results file using --inference-results option.

======================================================================
"""
    )


def test_147_fields_of_the_results(run: Run, place: Path) -> None:
    write_inference(place)
    found = run(*GIVEN, "--accuracy", "1").results
    document = {
        "timestamp": str, "mode": str, "nki_kernel_score": float,
        "component_scores": {"training": float, "inference": float},
        "weights": {"training": float, "inference": float},
        "nki_ratio": float,
        "detailed_breakdown": {
            "training": dict.fromkeys(
                ("base_mfu", "base_throughput", "achieved_mfu", "achieved_throughput", "mfu_improvement",
                 "throughput_improvement", "nki_flop_ratio"), float),
            "inference": dict.fromkeys(
                ("accuracy", "reduced_latency", "increased_throughput", "normalized_nki_flops",
                 "reference_latency_ms", "achieved_latency_ms", "reference_throughput",
                 "achieved_throughput"), float),
        },
    }  # fmt: skip
    check(document, found)
    assert round(found["detailed_breakdown"]["training"]["achieved_mfu"], 2) == 15.48


def check(expected: dict[str, Any], found: dict[str, Any]) -> None:
    for key, kind in expected.items():
        if isinstance(kind, dict):
            check(kind, found[key])
        else:
            assert isinstance(found[key], kind), key


def test_148_fields_of_the_training_metrics(run: Run) -> None:
    found = run(*GIVEN, "--log-file", "train.log", "--per-file-scores").training
    assert list(found)[:15] == [
        "model_config", "batch_size", "sequence_length", "num_nodes", "hardware_backend",
        "throughput_seq_per_sec", "mfu_percent", "mfu_causal_percent", "tflops_per_second",
        "throughput_tflops_per_node", "seq_per_second_per_node", "time_per_batch_seconds", "nki_analysis",
        "log_metrics", "training_score",
    ]  # fmt: skip
    assert found["tflops_per_second"] == 224.042674028544
    assert found["time_per_batch_seconds"] == pytest.approx(64 / 2.1)
    summary = found["nki_analysis"]["summary"]
    assert (summary["total_hlo_macs"], summary["total_nki_macs"]) == (658414167, 121543255)
    assert set(summary) == {
        "total_files", "successful_analyses", "failed_analyses", "total_hlo_macs", "total_nki_macs",
        "overall_nki_ratio", "average_nki_ratio", "min_nki_ratio", "max_nki_ratio", "average_score",
        "min_score", "max_score",
    }  # fmt: skip
    good, bad = sorted(found["nki_analysis"]["per_file_metrics"], key=lambda f: f["status"], reverse=True)
    assert set(good) == {
        "status", "file_path", "file_name", "module_name", "neuronxcc_version", "hlo_macs", "nki_macs",
        "nki_ratio", "training_score",
    }  # fmt: skip
    assert bad["error"] == "a field runs past the end"
    log = found["log_metrics"]
    assert set(log) == {"log_file", "timestamps", "steps", "step_times", "throughput", "losses"}
    assert log["throughput"] == [2.05, 2.12, 2.13]
    assert log["losses"] == {
        "average": pytest.approx((3.41 + 3.105 + 2.87) / 3), "min": 2.87, "max": 3.41, "first": 3.41,
        "last": 2.87, "count": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "name"),
    [(0.0046, "poor"), (0.9999, "poor"), (1.0, "baseline"), (9.99, "baseline"), (10.0, "good"),
     (15.46, "good"), (49.9, "good"), (50.0, "excellent"), (1e9, "excellent")],
)  # fmt: skip
def test_149_bands(value: float, name: str) -> None:
    assert band(value) == name


def test_150_every_missing_file_is_named(run: Run, place: Path) -> None:
    (place / "config.json").unlink()
    answer = run(*GIVEN, "--config", "no.yaml", "--log-file", "no.log", "--compile-dir", "no")
    assert answer.code == 1
    assert answer.err.splitlines() == [
        "error: `log_file`: `no.log` does not exist",
        "error: `config`: `no.yaml` does not exist",
        "error: `compile_dir`: `no` does not exist",
        "error: `model`: `config.json` does not exist",
    ]


def test_150_a_bad_configuration(run: Run, place: Path) -> None:
    (place / "bad.yaml").write_text("data: [1, 2\n", encoding="utf-8")
    answer = run(*GIVEN, "--config", "bad.yaml")
    assert answer.code == 1
    assert "bad.yaml` is no training configuration" in answer.err
    assert "Traceback" not in answer.err


def test_150_no_module(run: Run, place: Path) -> None:
    (place / "empty").mkdir()
    answer = run(*GIVEN, "--compile-dir", "empty")
    assert answer.code == 1
    assert "no HLO module in" in answer.err


def test_150_an_inference_report_named_and_missing(run: Run) -> None:
    answer = run(*GIVEN, "--inference-results", "none.json")
    assert (answer.code, answer.err) == (1, "error: `inference_results`: `none.json` does not exist\n")


def test_results_of_any_run_instead_of_a_report(run: Run, place: Path) -> None:
    """Another tool's result folder is read like any run folder; a finished run of ours as it is."""
    (place / "logs").mkdir()
    (place / "logs" / "benchmark_report.json").write_text(json.dumps(FULL), encoding="utf-8")
    answer = run(*GIVEN, "--inference-results", "logs")
    assert answer.results["mode"] == "combined"
    assert answer.results["nki_kernel_score"] == pytest.approx(15.4586, abs=5e-5)
    shown = run("--inference-results", "logs", "--print-spec")
    assert "- kind: run_folder\n  path: logs\n" in shown.out


def test_a_finished_run_instead_of_a_report(run: Run, place: Path) -> None:
    spec = {"version": 1, "name": "served", "model": "llama-3.1-8b", "hardware": "trainium1"}
    text = json.dumps({**spec, "measurements": [{"kind": "analytical"}]})
    (place / "served.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["run", "served.yaml", "--no-report"])
    answer = run(*GIVEN, "--inference-results", "runs/served")
    part = answer.results["detailed_breakdown"]["inference"]
    assert answer.results["mode"] == "combined"
    assert part["achieved_latency_ms"] * part["reduced_latency"] == pytest.approx(50000)
