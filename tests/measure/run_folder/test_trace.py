"""Series in bounded memory: integrals, peaks and gaps, whole and thinned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.measure.run_folder import trace as module
from engine.measure.run_folder.trace import Trace, TraceBuilder, total_power


def built(times: list[float], values: list[float], *, chunk: int | None = None, held: bool = False) -> Trace:
    """A power trace, in chunks when asked."""
    builder = TraceBuilder("power", "device", "0", held=held)
    step = chunk or len(times)
    for at in range(0, len(times), step):
        builder.add(np.array(times[at : at + step]), np.array(values[at : at + step]))
    found = builder.finish()
    assert found is not None
    return found


def test_energy_inside_an_interval_follows_the_straight_line() -> None:
    trace = built([0.0, 10.0], [0.0, 100.0])
    assert trace.over((0.0, 10.0)) == 500.0
    assert trace.over((0.0, 5.0)) == 125.0  # 5 s at 25 W on average
    assert trace.over((5.0, 10.0)) == 375.0
    assert trace.over((-5.0, 50.0)) == 500.0  # nothing is known outside


def test_held_values_count_for_the_interval_before_them() -> None:
    trace = built([0.0, 1.0, 3.0], [7.0, 10.0, 20.0], held=True)
    assert trace.over((0.0, 3.0)) == 50.0  # 10 W x 1 s + 20 W x 2 s
    assert trace.over((2.0, 3.0)) == 20.0


def test_chunks_change_nothing() -> None:
    times = [i * 0.1 for i in range(1000)]
    values = [100 + 10 * math.sin(i) for i in range(1000)]
    one, many = built(times, values), built(times, values, chunk=37)
    assert many.over((3.0, 70.0)) == pytest.approx(one.over((3.0, 70.0)))
    assert many.highest((3.0, 70.0)) == one.highest((3.0, 70.0))
    assert many.samples == one.samples == 1000


def test_a_thinned_series_keeps_energy_and_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [float(i) for i in range(5000)]
    values = [100.0 + (400.0 if i == 3333 else i % 7) for i in range(5000)]
    whole = built(times, values)
    monkeypatch.setattr(module, "MOST_KNOTS", 500)
    thin = built(times, values, chunk=450)
    assert len(thin.time_s) <= 500
    assert thin.samples == 5000
    assert not thin.exact
    assert float(thin.integral[-1]) == pytest.approx(float(whole.integral[-1]))
    assert float(thin.peak.max()) == 500.0
    assert thin.over((1000.0, 4000.0)) == pytest.approx(whole.over((1000.0, 4000.0)), rel=1e-3)
    assert thin.interval_s == 1.0


def test_the_peak_of_devices_is_that_of_their_sum() -> None:
    both = total_power(
        [built([0.0, 1.0, 2.0], [10.0, 90.0, 10.0]), built([0.0, 1.0, 2.0], [80.0, 10.0, 10.0])]
    )
    assert float(both.peak.max()) == 100.0
    assert both.over((0.0, 2.0)) == pytest.approx(155.0)  # 50 + 50 J and 45 + 10 J


def test_devices_sampled_at_other_times_are_summed_where_both_are_known() -> None:
    both = total_power([built([0.0, 2.0, 4.0], [10.0, 10.0, 10.0]), built([1.0, 3.0], [5.0, 5.0])])
    assert (both.start, both.end) == (1.0, 3.0)
    assert both.over((1.0, 3.0)) == pytest.approx(30.0)


def test_no_sample_is_no_trace() -> None:
    assert TraceBuilder("power", "device", "0").finish() is None
