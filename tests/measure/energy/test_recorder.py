"""The recorder: a process of its own, on the pretend NVML and its wall clock."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from engine.errors import MeasurementError
from engine.measure.energy.integrate import Board
from engine.measure.energy.recorder import Recorder, record
from engine.measure.energy.source import Metered
from engine.measure.energy.tape import ReadingTape

UUID = "GPU-00000000-fake-0000-0000-000000000000"


@pytest.fixture
def recorder(fake_environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(pieces, interval_s: float = 0.01, **settings: float) -> Recorder:
        for name, value in fake_environment(pieces, virtual_time=0, **settings).items():
            monkeypatch.setenv(name, value)
        return Recorder("nvml", uuids=[UUID], interval_s=interval_s, folder=tmp_path)

    return make


def test_a_recording_holds_the_energy_that_was_drawn(recorder) -> None:
    with recorder([(1e6, 250.0)]) as running:
        begin = time.perf_counter()
        time.sleep(1.5)
        end = time.perf_counter()
        (one,) = running.stop()
    assert one.device == UUID
    assert one.name == "Pretend H100"
    # One monotonic clock for all processes: the window is that of this one.
    assert one.times_s[0] <= begin
    board = Board([one], period_s=0.1)
    found = board.window(begin, end)
    assert found.method == "counter"
    # Each end is known to one update of the counter.
    assert found.energy_j == pytest.approx(250.0 * (end - begin), abs=250.0 * 0.1)
    assert running.report.rows == len(one.times_s)
    slow = one.readings["temperature_c"]
    assert 0 < np.isnan(slow).mean() < 1  # read every 100 ms only
    # A mean over a second is read as seldom where the power of this moment is there, and never carried on.
    assert np.array_equal(np.isnan(one.readings["average_power_w"]), np.isnan(slow))
    assert not np.isnan(one.readings["power_w"]).any()
    assert running.report.start_s > 0


def test_nothing_is_left_behind_when_a_measurement_fails(recorder) -> None:
    class Broken(Exception):
        pass

    running = recorder([(1e6, 250.0)])

    def fail() -> None:
        with running:
            raise Broken

    with pytest.raises(Broken):
        fail()
    pid = running.ready["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_device_that_is_lost_ends_the_recording_with_a_reason(recorder) -> None:
    def lose() -> None:
        with recorder([(1e6, 250.0)], lost_at=0.4) as running:
            time.sleep(0.8)
            running.stop()

    # On a slow machine it may be lost before the first reading: the reason is the same.
    with pytest.raises(MeasurementError, match=f"device `{UUID}` was lost"):
        lose()


def test_a_device_that_is_not_there_is_told_at_the_start(fake_environment, tmp_path, monkeypatch) -> None:
    for name, value in fake_environment([(1e6, 1.0)]).items():
        monkeypatch.setenv(name, value)
    broken = Recorder("nvml", uuids=["GPU-elsewhere"], interval_s=0.01, folder=tmp_path)
    with pytest.raises(MeasurementError, match="NVML knows no device `GPU-elsewhere`"), broken:
        pass


class Slow:
    """A source whose third reading takes long."""

    name = "slow"
    devices = (Metered("a", 0, "A"),)

    def __init__(self) -> None:
        self.turns = 0

    def read(self, *, slow: bool = True):
        self.turns += 1
        if self.turns == 3:
            time.sleep(0.12)
        return [{"power_w": 100.0}]


def test_readings_that_were_missed_are_gaps(tmp_path: Path) -> None:
    source = Slow()

    said = record(
        ReadingTape(source), tmp_path / "s.parquet", interval_s=0.02, ended=lambda: source.turns >= 8
    )
    assert said["rows"] == source.turns  # none was made up in a hurry
    assert said["late"] >= 1
    assert said["seconds"] >= 0.12 + 5 * 0.02
