"""A corpus of recorded files, where somebody names its folder: `ENGINE_SHARED=/folder pytest`."""

import json
import os
from pathlib import Path

import pytest

from engine.errors import MeasurementError
from engine.measure.energy.integrate import Board, sampling
from engine.measure.energy.replay import read_trace

SHARED = os.environ.get("ENGINE_SHARED")
pytestmark = pytest.mark.skipif(SHARED is None, reason="ENGINE_SHARED names no folder of samples")
SAMPLES = Path(SHARED or ".") / "samples"


@pytest.mark.parametrize("name", ["c_units_cut_tail", "c_nounits_temp_mask", "c_two_gpus"])
def test_recorded_logs_give_the_expected_energy(name: str) -> None:
    expected = json.loads((SAMPLES / "nvidia_smi_csv" / "expected.json").read_text())
    wanted = expected[f"nvidia_smi_csv/{name}.csv"]
    trace = read_trace(SAMPLES / "nvidia_smi_csv" / f"{name}.csv")
    board = Board(trace.channels, period_s=None, held=False)
    begin, end = board.meters[0].span
    found = board.window(begin, end, resolvable=False)
    assert found.energy_j == pytest.approx(wanted["energy_j"], rel=1e-4)
    assert found.peak_w == pytest.approx(wanted["peak_power_w"], rel=1e-4)
    times = trace.channels[0].times_s[~_absent(trace.channels[0])]
    assert sampling(times).median_s == pytest.approx(wanted["median_interval_s"], abs=1e-3)
    assert sampling(times).max_gap_s == pytest.approx(wanted["max_gap_s"], abs=1e-3)


def _absent(one):
    import numpy as np

    return np.isnan(one.readings["power_w"])


def test_an_empty_log_is_told() -> None:
    with pytest.raises(MeasurementError, match=r"`c_empty\.csv` is empty"):
        read_trace(SAMPLES / "nvidia_smi_csv" / "c_empty.csv")


def test_the_other_kinds_are_recognised() -> None:
    assert len(read_trace(SAMPLES / "nvidia_smi_dmon" / "c_date_time.txt").channels) == 2
    comma = read_trace(SAMPLES / "energy_per_phase_csv" / "c_comma.csv")
    assert [event.energy_j for event in comma.events] == [15.0, 2400.0, 140.0, 80.0, 82.0]
    assert len(read_trace(SAMPLES / "energy_per_phase_csv" / "c_semicolon.csv").events) == 6
    assert len(read_trace(SAMPLES / "energy_profiler_json" / "c_differential.json").events) == 6
