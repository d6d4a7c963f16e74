"""The section of a training run shows what its tables hold."""

from pathlib import Path
from typing import Any

import vl_convert

from engine.measure.registry import Tools, find
from engine.report.charts.story import _phrase
from engine.report.charts.training import training_sections
from engine.spec.training import TrainingSettings
from tests.measure.training.workplace import lay_out, write_inference


def tables(place: Path, **changes: Any) -> Any:
    write_inference(lay_out(place))
    settings = TrainingSettings.model_validate(
        {
            "kind": "training", "log_file": "train.log", "config": "hf_llama3_8B_SFT_config.yaml",
            "compile_dir": "neuron_cache", "model": "config.json", **changes,
        }
    )  # fmt: skip
    return find("training").function(settings, None, Tools(place, place))  # type: ignore[arg-type]


def test_curves_and_tables(tmp_path: Path) -> None:
    (section,) = training_sections(tables(tmp_path, warmup_steps=10))
    assert [chart.name for chart in section.charts] == [
        "training-loss",
        "training-throughput",
        "training-rate",
    ]
    loss = section.charts[0]
    assert loss.table.rows == ((9, 3.41, "warm-up"), (19, 3.105, "counted"), (29, 2.87, "counted"))
    assert loss.caption == "From 3.41 to 2.87 over 3 logged lines. Grey steps are cut from every average."
    for chart in section.charts:
        assert "<svg" in vl_convert.vegalite_to_svg(chart.spec)
    metrics, kernels = section.tables
    assert metrics.note == "Throughput mean of 2 lines of train.log; peak of a node 3040 TFLOP/s, bf16."
    assert ("Training MFU", "15.7 %") in [row[:2] for row in metrics.rows]  # (2.12 + 2.13) / 2 sequences/s
    assert ("Training MFU, causal", "13.8 %") in [row[:2] for row in metrics.rows]
    assert [row[1] for row in kernels.rows] == ["read", "unreadable"]
    assert kernels.rows[0][5] == 121543255 / 658414167


def test_a_run_without_log_has_tables_only(tmp_path: Path) -> None:
    (section,) = training_sections(tables(tmp_path, log_file=None, throughput=2.1))
    assert section.charts == ()
    assert ("Training MFU", "15.5 %", "") in [row[:3] for row in section.tables[0].rows]


def test_a_training_run_has_no_output_tokens_to_name() -> None:
    assert _phrase("prompt_tokens", {"prompt_tokens": 4096, "output_tokens": None}) == "4,096 tokens"
    assert _phrase("prompt_tokens", {"prompt_tokens": 512, "output_tokens": 128}) == "512 + 128 tokens"


def test_no_training_no_section() -> None:
    assert training_sections({}) == []
