"""Inference reports, prompt tables and configurations that are wrong, each with its message."""

import json
from pathlib import Path

import pytest

from engine.errors import MeasurementError
from engine.measure.training.config import read_training_config
from engine.measure.training.inference import read_inference, read_prompt_table
from tests.measure.training.workplace import MINIMAL


def written(folder: Path, content: object) -> Path:
    path = folder / "report.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: expecting property name"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must hold a mapping"),
        ({}, "has no `e2e_model`"),
        (
            {"e2e_model": {"latency_ms_avg": 0, "throughput": 1}},
            "`e2e_model.latency_ms_avg` is 0, not a number above 0",
        ),
        ({"e2e_model": {"latency_ms_avg": -5.0, "throughput": 1}}, "is -5.0, not a number above 0"),
        ('{"e2e_model": {"latency_ms_avg": NaN, "throughput": 1}}', "is nan, not a number above 0"),
        ({"e2e_model": {"latency_ms_avg": "12", "throughput": 1}}, 'is the text "12", not a number above 0'),
        ({"e2e_model": {"latency_ms_avg": True, "throughput": 1}}, "is True, not a number above 0"),
        ({**MINIMAL, "accuracy": 1.2}, "`accuracy` is 1.2, not a share between 0 and 1"),
    ],
)
def test_a_wrong_inference_report(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        read_inference(written(tmp_path, content))
    assert message in caught.value.message


def test_a_broken_part_beside_the_whole_is_noted(tmp_path: Path) -> None:
    found = read_inference(written(tmp_path, {**MINIMAL, "speculation_model": {"throughput": 3}}))
    assert list(found.models) == ["e2e_model"]
    assert "has no `speculation_model.latency_ms_avg`" in found.notes[0]


def test_a_part_that_is_none_and_percentiles_out_of_order_are_noted(tmp_path: Path) -> None:
    odd = {"latency_ms_avg": 101, "latency_ms_p50": 200, "latency_ms_p99": 150, "throughput": 500}
    path = written(tmp_path, {"e2e_model": odd, "context_encoding_model": 3, "comment": "none"})
    assert read_inference(path).notes == (
        f"`{path}`: `e2e_model.latency_ms_p99` (150) is below `latency_ms_p50` (200): one of them is wrong",
        f"`{path}`: `context_encoding_model` is no mapping, so it is not read",
    )


@pytest.mark.parametrize(("value", "accuracy"), [(True, 1.0), (False, 0.0), (0.93, 0.93), (None, None)])
def test_accuracy_in_the_report(tmp_path: Path, value: object, accuracy: float | None) -> None:
    assert read_inference(written(tmp_path, {**MINIMAL, "accuracy": value})).accuracy == accuracy


def test_prompt_tables_in_both_forms(tmp_path: Path) -> None:
    row = {"index": 3, "word_count": 18, "sequence_length": 64, "baseline_latency_ms": 6259.94,
           "baseline_throughput": 104.77}  # fmt: skip
    (as_json,) = read_prompt_table(written(tmp_path, {"prompt_performance_data": [row]}))
    (as_text,) = read_prompt_table(written(tmp_path, "3 18 64 6259.94 104.77\n\n"))
    assert as_json == as_text
    assert (as_json.index, as_json.latency_s) == (3, pytest.approx(6.25994))


@pytest.mark.parametrize("text", ["", "1 2 3\n", "a b c d e\n", "1 2 3 0 5\n", '{"rows": []}'])
def test_a_wrong_prompt_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(MeasurementError):
        read_prompt_table(written(tmp_path, text))


def test_a_key_that_stands_twice_is_noted(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data:\n  seq_length: 4096\n  seq_length: 2048\n", encoding="utf-8")
    found = read_training_config(tmp_path / "c.yaml")
    assert found.sequence_length == 4096
    (note,) = found.notes
    assert note == "`c.yaml`, line 3: `seq_length` stands here for the second time; the first one counts"


@pytest.mark.parametrize("length", ["99999999999999999999", "0", "-4096", "4096.5"])
def test_a_length_no_sequence_has(tmp_path: Path, length: str) -> None:
    (tmp_path / "c.yaml").write_text(f"data: {{seq_length: {length}}}\n", encoding="utf-8")
    found = read_training_config(tmp_path / "c.yaml")
    assert found.sequence_length is None
    assert "not a whole number from 1 to 1e+09" in found.notes[0]


def test_numbers_that_are_no_counts_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {global_batch_size: 1.5, seq_length: '${x}'}\nmodel: {optim: {lr: '1.5e-4'}}\n",
        encoding="utf-8",
    )
    found = read_training_config(path)
    assert (found.batch_size, found.sequence_length, found.learning_rate) == (None, None, 1.5e-4)
    assert found.notes == (
        "`data.global_batch_size` is 1.5, not a whole number from 1 to 1e+09, so it is not used",
        "`data.seq_length` is text (`${x}`), so it is not used",
    )
