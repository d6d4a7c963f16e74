"""Training logs in every form, and values that are read whole or not at all."""

import json
import math
import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.errors import MeasurementError
from engine.measure.training.logs import TrainingLog, read_log
from tests.measure.training.hlo_bytes import blob, number


def log_of(folder: Path, text: str, name: str = "run.log") -> TrainingLog:
    path = folder / name
    path.write_bytes(text.encode())
    return read_log(path)


def test_plain_pairs(tmp_path: Path) -> None:
    found = log_of(tmp_path, "INFO step=5 loss=2.5e+0 lr=1.5e-4 throughput=3.25\nINFO nothing here\n")
    (step,) = found.steps
    assert found.form == "key=value"
    assert (step.step, step.training_loss, step.learning_rate, step.sequences_per_s) == (5, 2.5, 1.5e-4, 3.25)


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"step": i, "train/loss": 3 - i / 10, "lr": 1e-5, "step_time": 0.5, "epoch": True} for i in range(3)
    ]
    found = log_of(tmp_path, "\n".join(json.dumps(line) for line in lines))
    assert found.form == "json lines"
    assert [s.training_loss for s in found.steps] == pytest.approx([3.0, 2.9, 2.8])
    assert {s.step_s for s in found.steps} == {0.5}


def test_the_repr_of_a_mapping(tmp_path: Path) -> None:
    found = log_of(tmp_path, "{'loss': 2.31, 'grad_norm': 0.9, 'learning_rate': 4.9e-05, 'epoch': 0.1}\n")
    (step,) = found.steps
    assert (step.training_loss, step.gradient_norm, step.learning_rate) == (2.31, 0.9, 4.9e-05)


@pytest.mark.parametrize("bar", ["█▏  ", "##  ", "━╸  ", "    "])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_bars_of_any_glyph_and_line_end(tmp_path: Path, bar: str, end: str) -> None:
    line = "Epoch 0:  4%|{}| {}/50 [{:02}:00<10:00, 0.03it/s, loss=1.5, throughput=2.5]"
    text = end.join(line.format(bar, i, i) for i in (1, 2, 4)) + end
    found = log_of(tmp_path, text)
    assert [s.step for s in found.steps] == [1, 2, 4]
    assert [s.step_s for s in found.steps] == [None, 60.0, 60.0]


def test_hours_on_the_bar(tmp_path: Path) -> None:
    found = log_of(tmp_path, "9%|#| 1/50 [1:02:03<1:00:00, 1s/it, loss=1.5]\n")
    assert found.steps[0].elapsed_s == 3723.0


def test_equal_values_in_a_row_are_kept(tmp_path: Path) -> None:
    found = log_of(tmp_path, "throughput=2.0\n" * 9 + "throughput=3.0\n")
    assert [s.sequences_per_s for s in found.steps] == [2.0] * 9 + [3.0]


def test_what_is_left_out_is_counted_and_left_out(tmp_path: Path) -> None:
    found = log_of(tmp_path, "loss=nan lr=1e-5\nloss=inf lr=1e-5\nloss=1.0 lr=1e-5\n")
    assert [s.training_loss for s in found.steps] == [None, None, 1.0]
    assert found.left_out == {"training_loss": 2}


def test_a_comma_in_a_number_is_never_guessed(tmp_path: Path) -> None:
    # 2,05 is 2.05 in one country and 205 in another; a list `1,2` is neither.
    found = log_of(tmp_path, "throughput=2,05 loss=3.5\nthroughput=2,000, loss=3.4\nthroughput=2.5,lr=1e-4\n")
    assert [s.sequences_per_s for s in found.steps] == [None, None, 2.5]
    assert [s.learning_rate for s in found.steps] == [None, None, 1e-4]
    assert found.left_out == {"sequences_per_s": 2}


def test_a_throughput_of_zero_or_less_enters_no_average(tmp_path: Path) -> None:
    found = log_of(tmp_path, "throughput=0.0 loss=3\nthroughput=-5 loss=3\nthroughput=2.5 loss=3\n")
    assert [s.sequences_per_s for s in found.steps] == [None, None, 2.5]
    assert found.left_out == {"sequences_per_s": 2}


def test_the_closing_line_of_a_trainer_is_no_last_loss(tmp_path: Path) -> None:
    closing = "{'train_runtime': 12.5, 'train_samples_per_second': 3.2, 'train_loss': 3.7, 'epoch': 0.5}\n"
    found = log_of(tmp_path, "{'loss': 3.9}\n{'loss': 3.5}\n" + closing)
    assert [s.training_loss for s in found.steps] == [3.9, 3.5, None]
    assert [s.sequences_per_s for s in found.steps] == [None, None, 3.2]


def test_step_times_from_the_time_of_a_line(tmp_path: Path) -> None:
    lines = [f"2026-01-02 03:04:{10 + 4 * i:02d}.500 step={2 * i} loss=3.0" for i in range(3)]
    found = log_of(tmp_path, "\n".join(lines))
    assert [s.elapsed_s for s in found.steps] == [0.0, 4.0, 8.0]
    assert [s.step_s for s in found.steps] == [None, 2.0, 2.0]  # 4 s for two steps


def test_two_clocks_are_never_mixed(tmp_path: Path) -> None:
    bar = "Epoch 0:  4%|#| {}/50 [0{}:00<10:00, 0.03it/s, loss=1.5]\n"
    plain = "2026-01-02 03:04:10 step=1 loss=3.0\n"
    found = log_of(tmp_path, plain + bar.format(2, 2) + bar.format(4, 4))
    assert [s.elapsed_s for s in found.steps] == [None, 120.0, 240.0]
    assert [s.step_s for s in found.steps] == [None, None, 60.0]


def test_a_version_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="holds no training step"):
        log_of(tmp_path, "lr=1.2.3 loss=0x1F step=4\n")


def test_warmup_counts_steps_where_they_are_numbered(tmp_path: Path) -> None:
    numbered = log_of(tmp_path, "\n".join(f"step={s} throughput={s}.0" for s in (5, 10, 15, 20)))
    assert [s.step for s in numbered.after_warmup(10)] == [15, 20]
    plain = log_of(tmp_path, "\n".join(f"throughput={s}.0" for s in (5, 10, 15, 20)))
    assert [s.sequences_per_s for s in plain.after_warmup(1)] == [10, 15, 20]


def test_utf_16_and_broken_bytes(tmp_path: Path) -> None:
    (tmp_path / "wide.log").write_bytes("loss=1.5\n".encode("utf-16"))
    assert read_log(tmp_path / "wide.log").steps[0].training_loss == 1.5
    (tmp_path / "odd.log").write_bytes(b"\xff\x00\x9f loss=2.5\n")
    assert read_log(tmp_path / "odd.log").steps[0].training_loss == 2.5


@pytest.mark.parametrize(
    "text", ["", "\0" * 1000, "loss=" * 20_000, "{" * 70_000, "a" * 200_000, "1%|" * 30_000]
)
def test_junk_ends_quickly_with_a_reason(tmp_path: Path, text: str) -> None:
    with pytest.raises(MeasurementError, match="holds no training step"):
        log_of(tmp_path, text)


def event(step: int, values: dict[str, float], *, tensor: bool = False) -> bytes:
    def value(tag: str, x: float) -> bytes:
        four = struct.pack("<f", x)
        shown = blob(8, number(1, 1) + blob(4, four)) if tensor else bytes([2 << 3 | 5]) + four
        return blob(1, blob(1, tag.encode()) + shown)

    body = bytes([1 << 3 | 1]) + struct.pack("<d", 1.7e9 + 1.5 * step) + number(2, step)
    body += blob(5, b"".join(value(tag, x) for tag, x in values.items()))
    return struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4)


@pytest.mark.parametrize("tensor", [False, True])
def test_tensorboard_events_without_tensorboard(tmp_path: Path, tensor: bool) -> None:
    data = event(0, {"train/reduced_train_loss": 4.0, "throughput": 1.5, "histogram": 9.0}, tensor=tensor)
    data += event(10, {"reduced_train_loss": 3.5, "lr": 0.25, "throughput": 2.0}, tensor=tensor)
    (tmp_path / "events.out.tfevents.1").write_bytes(
        data + event(20, {"lr": 1.0})[:-9]
    )  # killed while writing
    for path in (tmp_path, tmp_path / "events.out.tfevents.1"):
        found = read_log(path)
        assert found.form == "tensorboard"
        assert [(s.step, s.training_loss, s.sequences_per_s, s.learning_rate) for s in found.steps] == [
            (0, 4.0, 1.5, None),
            (10, 3.5, 2.0, 0.25),
        ]
        assert [s.step_s for s in found.steps] == [None, 1.5]  # 15 s for ten steps
        assert found.first_time == datetime.fromtimestamp(1.7e9, tz=UTC)
        assert found.notes == (
            "`events.out.tfevents.1` was read up to where it is damaged: the last record is cut short",
        )


@pytest.mark.parametrize("data", [b"\xff" * 40, struct.pack("<Q", 3) + bytes(4) + b"\x0b\x01\x02" + bytes(4)])
def test_damaged_events(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tfevents").write_bytes(data)
    with pytest.raises(MeasurementError, match="is no TensorBoard event file"):
        read_log(tmp_path / "x.tfevents")


def test_a_folder_without_events(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no TensorBoard event file in"):
        read_log(tmp_path)


def test_a_missing_log(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="cannot be read: no such file"):
        read_log(tmp_path / "none.log")


def test_steps_stay_plain_numbers(tmp_path: Path) -> None:
    found = log_of(tmp_path, "global_step=1e400 loss=1.0\nglobal_step=1e300 loss=1.0\n")
    assert [s.step for s in found.steps] == [None, None]
    assert all(math.isfinite(s.training_loss or 0) for s in found.steps)
