"""The measurement as a whole: from a spec to tables, and the spec that ships."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from engine.errors import MeasurementError
from engine.measure.registry import Tools, find
from engine.measure.training.reading import read_training
from engine.results.tables import TABLES, Tables
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from engine.spec.training import TrainingSettings
from tests.measure.training.workplace import lay_out, write_inference
from tests.source_tree import ROOT

WHOLE = {
    "kind": "training", "log_file": "train.log", "config": "hf_llama3_8B_SFT_config.yaml",
    "compile_dir": "neuron_cache", "model": "config.json", "inference_results": "benchmark_inference.json",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_inference(lay_out(tmp_path))
    return tmp_path


def measure(place: Path, **changes: Any) -> Tables:
    settings = TrainingSettings.model_validate({**WHOLE, **changes})
    tables: Tables = find("training").function(settings, None, Tools(place, place))  # type: ignore[arg-type]
    return tables


def test_tables_of_a_training_run(place: Path) -> None:
    found = measure(place)
    assert set(found) <= set(TABLES)
    (point,) = found["points"].to_pylist()
    assert (point["hardware"], point["prompt_tokens"], point["batch_size"]) == ("trn1", 4096, 64)
    training, *parts = found["summary"].to_pylist()
    mean = (2.05 + 2.12 + 2.13) / 3
    assert training["training_sequences_per_s"] == pytest.approx(mean)
    assert training["training_mfu"] == pytest.approx(mean * 224042674028544 / 3040e12)
    assert training["training_flops_per_sequence"] == 224042674028544
    assert training["kernel_ratio"] == 121543255 / 658414167
    assert training["training_loss"] == 2.87
    assert training["training_step_s"] == pytest.approx(30.5)
    assert [(p["phase"], p["variant"]) for p in parts] == [
        ("request", "e2e_model"), ("prefill", "context_encoding_model"), ("decode", "token_generation_model"),
    ]  # fmt: skip
    assert (parts[0]["e2e_s"], parts[0]["total_tokens_per_s"]) == (12.13149, 52.76)
    assert (parts[2]["tpot_s"], parts[2]["output_tokens_per_s"]) == (pytest.approx(0.01558), 64.33)


def test_the_interval_of_three_logged_averages(place: Path) -> None:
    values = [2.05, 2.12, 2.13]
    half = 4.3027 * statistics.stdev(values) / 3**0.5  # t of two degrees of freedom
    row = measure(place)["summary"].to_pylist()[0]
    mean = statistics.fmean(values)
    assert row["training_sequences_per_s_low"] == pytest.approx(mean - half)
    assert row["training_mfu_high"] / row["training_mfu"] == pytest.approx((mean + half) / mean)
    assert row["training_sequences_per_s_n"] == 3


def test_a_number_of_the_spec_has_no_interval(place: Path) -> None:
    row = measure(place, throughput=2.1)["summary"].to_pylist()[0]
    assert row["training_sequences_per_s_low"] is None
    assert row["training_mfu"] == pytest.approx(0.15476632)


def test_steps_with_warmup_marked(place: Path) -> None:
    rows = measure(place, warmup_steps=10)["training_steps"].to_pylist()
    assert [(r["step"], r["warmup"]) for r in rows] == [(9, True), (19, False), (29, False)]
    training = measure(place, warmup_steps=10)["summary"].to_pylist()[0]
    assert training["training_sequences_per_s"] == pytest.approx((2.12 + 2.13) / 2)


def test_damaged_modules_are_named(place: Path) -> None:
    found = measure(place)
    assert [r["status"] for r in found["kernel_usage"].to_pylist()] == ["read", "unreadable"]
    name = "neuronxcc-2.18.121.0+9e31e41a/MODULE_43+a65e371e/model.hlo_module.pb"
    expected = f"1 of 2 HLO modules could not be read: `{name}` (a field runs past the end)"
    assert found["findings"]["finding"].to_pylist() == [expected]


def test_nodes_share_the_work(place: Path) -> None:
    one, two = (measure(place, nodes=n)["summary"].to_pylist()[0] for n in (1, 2))
    assert two["training_mfu"] == pytest.approx(one["training_mfu"] / 2)


def test_devices_of_the_catalogue(place: Path) -> None:
    row = measure(place, backend="h100-sxm-80gb", devices_per_node=8, throughput=2.1)["summary"].to_pylist()[
        0
    ]
    assert row["training_mfu"] == pytest.approx(2.1 * 224042674028544 / (8 * 989.4e12), rel=1e-3)


def test_an_impossible_throughput_is_said(place: Path) -> None:
    settings = TrainingSettings.model_validate({**WHOLE, "throughput": 500.0})
    notes = read_training(settings, place).notes
    # 2.1 sequences/s are 15.4766 %, so 500 are 3684.9 %.
    said = "MFU by the reference convention is 3684.9%, above the peak of 3040 TFLOP/s, bf16"
    assert any(note.startswith(said) for note in notes)


def test_what_was_assumed_of_a_model_is_said(place: Path) -> None:
    shape = json.loads((place / "config.json").read_text(encoding="utf-8"))
    odd = {**shape, "model_type": "nosuch", "architectures": ["NosuchForCausalLM"]}
    (place / "odd.json").write_text(json.dumps(odd), encoding="utf-8")
    settings = TrainingSettings.model_validate({**WHOLE, "model": "odd.json"})
    said = "architecture `nosuch` is not known; read as a Llama-style decoder"
    assert said in read_training(settings, place).notes


def test_all_missing_files_at_once(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError) as caught:
        measure(tmp_path)
    assert caught.value.message.count("does not exist") == 4


def test_without_a_model_there_is_no_mfu_and_a_note(place: Path) -> None:
    settings = TrainingSettings.model_validate({k: v for k, v in WHOLE.items() if k != "model"})
    found = read_training(settings, place)
    assert found.utilization is None
    assert "no MFU without `model`" in found.notes


def test_without_a_length_the_configuration_is_named(place: Path) -> None:
    (place / "other.yaml").write_text('data: {seq_length: "${hp.seq}"}\n')
    settings = TrainingSettings.model_validate({**WHOLE, "config": "other.yaml"})
    assert read_training(settings, place).notes[:3] == (
        "no MFU without `sequence_length`",
        "`other.yaml` states no number in `data.seq_length`",
        "`data.seq_length` is text (`${hp.seq}`), so it is not used",
    )


def test_a_wrong_model_file_is_named(place: Path) -> None:
    (place / "wrong.json").write_text('{"a": 1')
    settings = TrainingSettings.model_validate({**WHOLE, "model": "wrong.json"})
    with pytest.raises(MeasurementError) as caught:
        read_training(settings, place)
    assert caught.value.message == "`wrong.json`: not valid JSON: expecting ',' delimiter"


def test_the_time_of_a_step_leaves_out_the_warmup(place: Path) -> None:
    # Steps 9, 19, 29 at 310, 610, 920 s: the first has no time, the second 30 s, the third 31 s a step.
    row = measure(place, warmup_steps=20)["summary"].to_pylist()[0]
    assert row["training_step_s"] == pytest.approx(31.0)


def test_kernels_whose_count_cannot_be_read_are_said(place: Path) -> None:
    from tests.measure.training.hlo_bytes import KERNEL, Op, module

    (place / "neuron_cache" / "odd.hlo").write_bytes(module([Op(1, "custom-call", (4,), target=KERNEL)]))
    assert (
        "a kernel states no `mac_count`: counted as 0, in 1 of 2 modules"
        in read_training(TrainingSettings.model_validate(WHOLE), place).notes
    )


def test_prompt_results_become_variants(place: Path) -> None:
    rows = measure(place, prompt_results=["benchmark_inference.json"] * 2)["summary"].to_pylist()
    assert [r["variant"] for r in rows][-2:] == ["prompt 0", "prompt 1"]
    assert rows[-1]["e2e_s_p99"] == pytest.approx(12.18953)


@pytest.mark.parametrize("name", ["neuron_training", "pick_hardware"])
def test_the_specs_are_sound(name: str) -> None:
    found = validate(read_document(ROOT / "specs" / f"{name}.yaml"), Experiment)
    assert found.name == name.replace("_", "-")


def test_the_shipped_example_is_read_whole() -> None:
    experiment = validate(read_document(ROOT / "specs" / "neuron_training.yaml"), Experiment)
    (settings,) = experiment.measurements
    assert isinstance(settings, TrainingSettings)
    found = read_training(settings, ROOT / "specs")
    assert found.notes == ()
    assert found.kernels is not None
    # One projection of 4096 x 4096 x 1024, one of 4096 x 1024 x 14336, and a kernel of 2**32.
    dots = 4096 * 4096 * 1024 + 4096 * 1024 * 14336
    assert found.kernels.ratio == 2**32 / (2**32 + dots)
    assert found.inference is not None
    assert found.inference.accuracy == 0.994
    assert found.utilization is not None
    assert 0.1 < (found.utilization.causal or 0) < (found.utilization.reference or 0) < 0.2
