"""Rows 128-130, 134-139 and 144 of the acceptance list: what a training run is read as."""

import json
from pathlib import Path

import pytest

from engine.errors import MeasurementError
from engine.measure.training.cache import read_cache
from engine.measure.training.config import read_training_config
from engine.measure.training.hlo import Counting, count_module
from engine.measure.training.inference import read_inference
from engine.measure.training.logs import read_log
from engine.measure.training.mfu import mfu, node_peak, reference_flops
from engine.measure.training.reading import read_training
from engine.spec.model_file import read_model_file
from engine.spec.training import TrainingSettings
from tests.measure.training.hlo_bytes import KERNEL, Op, config, known_module, module
from tests.measure.training.workplace import FULL, MINIMAL, MODULE, lay_out, write_inference


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return lay_out(tmp_path)


def test_128_flops_of_a_sequence(place: Path) -> None:
    found = reference_flops(read_model_file(place / "config.json"), 4096)
    # 32 x (4 H^2 S + 4 kv d H S + 4 S^2 H + 6 n S^2 + 6 H I S) + 2 x 2 V H S, times 3
    attention = 4 * 4096**3 + 4 * 8 * 128 * 4096**2 + 4 * 4096**3 + 6 * 32 * 4096**2
    forward = 32 * (attention + 6 * 4096 * 14336 * 4096) + 4 * 128256 * 4096**2
    assert found.training == 3 * forward == 224042674028544


@pytest.mark.parametrize(("backend", "percent"), [("trn1", 15.476632), ("trn2", 4.408636)])
def test_129_130_mfu_of_a_node(place: Path, backend: str, percent: float) -> None:
    flops = reference_flops(read_model_file(place / "config.json"), 4096).training
    peak = node_peak(backend, devices=None).flops_per_s
    assert peak == {"trn1": 3040e12, "trn2": 10672e12}[backend]
    assert round(100 * mfu(flops, 2.1, nodes=1, peak_flops_per_s=peak), 6) == percent


def test_129_without_the_embedding_the_printed_value_does_not_come_out(place: Path) -> None:
    found = reference_flops(read_model_file(place / "config.json"), 4096)
    share = mfu(3 * (found.forward - found.embedding), 2.1, nodes=1, peak_flops_per_s=3040e12)
    assert round(100 * share, 6) == 14.584776


def test_134_ratio_of_kernels_over_dots_and_kernels() -> None:
    found = count_module(known_module())
    assert (found.kernel_macs, found.total_macs) == (121543255, 658414167)
    assert found.ratio == pytest.approx(0.1846, abs=5e-5)
    assert (found.kernel_calls, found.other_custom_calls) == (1, 1)  # the softmax adds nothing


def test_134_a_convolution_adds_nothing_unless_asked_for() -> None:
    image, kernel, out = (1, 8, 8, 3), (3, 3, 3, 16), (1, 8, 8, 16)
    data = module(
        [
            Op(1, "parameter", image),
            Op(2, "parameter", kernel),
            Op(3, "convolution", out, (1, 2), kernel_output_feature=3),
            Op(4, "custom-call", out, (3,), target=KERNEL, config=config(1000)),
        ]
    )
    assert count_module(data).total_macs == 1000
    # 8 x 8 x 16 outputs, each the sum of 3 x 3 x 3 products
    assert count_module(data, Counting(convolutions=True)).total_macs == 1000 + 8 * 8 * 16 * 27


def test_135_each_module_file_once(place: Path) -> None:
    cache = place / "neuron_cache"
    (cache / "again").mkdir()
    (cache / "again" / "model.hlo").symlink_to(place / MODULE / "model.hlo_module.pb")
    (cache / "again" / "gone.hlo").symlink_to(place / "nothing")
    (cache / "again" / "loop").symlink_to(cache, target_is_directory=True)
    (cache / "other.hlo").write_bytes(known_module())
    found = read_cache(cache)
    names = sorted(Path(file.name).name for file in found.files)
    assert names == ["model.hlo", "model.hlo_module.pb", "other.hlo"]  # no .lock, no .neff, none twice
    assert found.total_macs == 2 * 658414167


def test_135_names_of_module_and_compiler(place: Path) -> None:
    (found,) = read_cache(place / MODULE).files  # the folder of one module works as well
    assert (found.module, found.compiler) == ("MODULE_42+a65e371e", "2.18.121.0+9e31e41a")


def test_136_one_file_read_one_failed(place: Path) -> None:
    found = read_cache(place / "neuron_cache")
    assert (len(found.files), len(found.read), len(found.failed)) == (2, 1, 1)
    assert found.failed[0].error == "a field runs past the end"
    assert found.ratio == 121543255 / 658414167


def test_136_averages_leave_out_modules_without_kernels(place: Path) -> None:
    dots = module([Op(1, "parameter", (2, 3)), Op(2, "dot", (2, 2), (1, 1), contracting=((1,), (1,)))])
    (place / "neuron_cache" / "plain.hlo").write_bytes(dots)
    found = read_cache(place / "neuron_cache")
    assert found.ratios == (121543255 / 658414167,)
    assert found.total_macs == 658414167 + 2 * 3 * 2
    assert found.ratio == 121543255 / (658414167 + 12)


def test_137_progress_bars_with_whole_exponents(place: Path) -> None:
    found = read_log(place / "train.log")
    assert found.form == "progress bar"
    assert [s.sequences_per_s for s in found.steps] == [2.05, 2.12, 2.13]
    assert [s.learning_rate for s in found.steps] == [1.2e-05, 2.73e-05, 4.10e-05]
    assert [s.step for s in found.steps] == [9, 19, 29]
    assert [s.step_s for s in found.steps] == [None, 30.0, 31.0]  # 300 s and 310 s for ten steps
    assert str(found.first_time) == "2026-03-04 10:15:00.120000"
    assert str(found.last_time) == "2026-03-04 10:25:20.480000"


def test_138_a_given_throughput_comes_before_the_log(place: Path) -> None:
    shared = {"kind": "training", "log_file": "train.log"}
    given = read_training(TrainingSettings.model_validate({**shared, "throughput": 2.1}), place)
    logged = read_training(TrainingSettings.model_validate(shared), place)
    assert given.throughput is not None
    assert logged.throughput is not None
    assert (given.throughput.mean, given.throughput_origin) == (2.1, "stated by hand")
    assert logged.throughput.mean == pytest.approx((2.05 + 2.12 + 2.13) / 3)
    assert logged.throughput_origin == "mean of 3 lines of `train.log`"


def test_138_a_log_without_throughput_is_an_error(place: Path) -> None:
    (place / "quiet.log").write_text("step=1 loss=3.0\nstep=2 loss=2.5\n", encoding="utf-8")
    settings = TrainingSettings(kind="training", log_file="quiet.log")
    with pytest.raises(MeasurementError) as caught:
        read_training(settings, place)
    assert caught.value.message == f"`{place}/quiet.log` holds no throughput"


def test_139_a_configuration_with_interpolations(place: Path) -> None:
    found = read_training_config(place / "hf_llama3_8B_SFT_config.yaml")
    # The longer encoder_seq_length is not what was trained on.
    assert (found.batch_size, found.sequence_length, found.nodes) == (64, 4096, 1)
    assert found.learning_rate == 1.5e-4
    assert found.values["exp_manager"]["size"] == "${multiply:${trainer.devices}, ${trainer.num_nodes}}"


def test_139_the_configuration_the_document_shows(tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(
        'data:\n  global_batch_size: 64\n  seq_length: 4096\n\nmodel:\n  name: "llama3-8b"\n  \n'
        "training:\n  num_epochs: 3\n  learning_rate: 1e-4\n",
        encoding="utf-8",
    )
    found = read_training_config(tmp_path / "shown.yaml")
    assert (found.batch_size, found.sequence_length, found.nodes) == (64, 4096, None)
    assert (found.learning_rate, found.name) == (1e-4, "llama3-8b")


def test_144_both_forms_of_the_inference_report(tmp_path: Path) -> None:
    full = read_inference(write_inference(tmp_path, FULL))
    minimal = read_inference(write_inference(tmp_path, MINIMAL))
    assert full.end_to_end.latency_s == minimal.end_to_end.latency_s == 12.13149
    assert full.end_to_end.throughput_tokens_per_s == minimal.end_to_end.throughput_tokens_per_s == 52.76
    assert full.end_to_end.percentiles_s["p99"] == pytest.approx(12.18953)
    assert (set(full.models), set(minimal.models)) == (set(FULL), {"e2e_model"})


def test_144_the_report_counts_prompt_tokens(tmp_path: Path) -> None:
    found = read_inference(write_inference(tmp_path, FULL)).models
    assert round(found["e2e_model"].tokens) == 640  # 52.76 x 12.13149
    assert round(found["context_encoding_model"].tokens) == 191  # 4440.69 x 0.04301
    generation = found["token_generation_model"]
    # 449 tokens in 448 steps of 15.58 ms
    assert 449 / (448 * generation.latency_s) == pytest.approx(generation.throughput_tokens_per_s, abs=5e-3)


def test_144_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"e2e_model": {"throughput": 52.76}}), encoding="utf-8")
    with pytest.raises(MeasurementError, match=r"has no `e2e_model\.latency_ms_avg`"):
        read_inference(path)
