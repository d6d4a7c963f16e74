"""The tape: the driver writes into it, and what it did not write is absent."""

import numpy as np
import pytest

from engine.errors import MeasurementError
from engine.measure.energy.recorder import COLUMNS
from engine.measure.energy.tape import ReadingTape

FIRST = "GPU-00000000-fake-0000-0000-000000000000"


def rows(tape) -> list[dict[str, float]]:
    """Each row with what it holds; what is NaN is left out."""
    table = np.column_stack(tape.drain())
    return [
        {name: value for name, value in zip(COLUMNS, row, strict=True) if not np.isnan(value)}
        for row in table.tolist()
    ]


def test_both_tapes_tell_what_a_reading_tells(nvml, source) -> None:
    found = source(count=2)
    fast, plain = found.tape(4), ReadingTape(found)
    for turn in range(4):
        nvml.move_to(3.05 + turn)
        for tape in (fast, plain):
            tape.turn(float(turn), slow=turn == 2)
    assert len(fast) == len(plain) == 8  # four turns of two devices
    ours = sorted(rows(fast), key=lambda row: (row["time_s"], row["device"]))
    for one, other in zip(ours, rows(plain), strict=True):
        if one["time_s"] != 2:
            # The mean over a second is read with the slow ones only, where the power of the moment is there.
            assert other.pop("average_power_w") > 0
        assert one == pytest.approx(other)
    assert len(fast) == 0


def test_the_mean_is_read_every_turn_where_it_is_all_there_is(source) -> None:
    tape = source(has_instant=0).tape(2)
    tape.turn(0.0, slow=True)
    tape.turn(0.1, slow=False)
    assert [row["average_power_w"] for row in rows(tape)] == pytest.approx([80.0, 80.0])


def test_a_driver_without_fields_is_read_by_its_older_calls(nvml, source) -> None:
    tape = source(fields_result=13).tape(2)
    nvml.move_to(3.05)
    tape.turn(0.5, slow=False)
    assert rows(tape) == [
        pytest.approx({"time_s": 0.5, "device": 0, "energy_j": 1240.0, "average_power_w": 80.0})
    ]


def test_what_fails_once_is_a_gap_and_not_the_answer_before_it(nvml, source) -> None:
    tape = source().tape(3)
    for turn, result in enumerate((0, 999, 0)):
        nvml.set(fields_result=result)
        tape.turn(float(turn), slow=False)
    assert [sorted(row) for row in rows(tape)] == [
        ["device", "energy_j", "power_w", "time_s"],
        ["device", "time_s"],
        ["device", "energy_j", "power_w", "time_s"],
    ]
    # A drained tape starts anew: nothing of an earlier turn shows through a field that is gone.
    nvml.set(has_counter=0)
    tape.turn(9.0, slow=False)
    assert [sorted(row) for row in rows(tape)] == [["device", "power_w", "time_s"]]


def test_a_lost_device_ends_it(nvml, source) -> None:
    tape = source(lost_at=5).tape(2)
    nvml.move_to(6.0)
    with pytest.raises(MeasurementError) as caught:
        tape.turn(0.0, slow=False)
    assert caught.value.message == f"device `{FIRST}` was lost: NVML says 15"


def test_a_full_tape_takes_no_more(source) -> None:
    tape = source().tape(1)
    tape.turn(0.0, slow=False)
    with pytest.raises(MeasurementError, match="a tape of 1 turns is full and was not drained"):
        tape.turn(0.1, slow=False)
