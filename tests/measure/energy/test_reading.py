"""Counters with their defects, several devices, differences of steps, and what the findings say."""

import numpy as np
import pytest

from engine.measure.energy.additivity import by_difference, close
from engine.measure.energy.analysis import tables_of
from engine.measure.energy.counters import checked, edges
from engine.measure.energy.integrate import Board
from engine.measure.energy.phases import Subject, phase_rows
from engine.measure.energy.trace import Event, Trace, channel
from engine.measure.energy.trials import Part
from engine.results.estimate import Estimate, difference, estimate, pearson, total
from engine.results.student import t_quantile
from engine.results.tables import make_table
from engine.score.energy_advice import energy_findings
from engine.spec.energy import EnergySettings

SUBJECT = Subject(prompt_tokens=10, output_tokens=10, batch_size=1)
SETTINGS = EnergySettings(kind="energy", source="replay", trace="x")
TIMES = np.arange(0.0, 10.0, 0.1)


def test_student_t_and_what_is_made_of_it() -> None:
    # Tables of the t distribution, two-sided 95 %.
    assert [round(t_quantile(n), 3) for n in (1, 2, 4, 9, 29)] == [12.706, 4.303, 2.776, 2.262, 2.045]
    single = estimate([4.0])
    assert (single.low, single.high, single.n) == (None, None, 1)
    assert estimate([]) is None
    both = total([Estimate(3.0, 2.7, 3.3, 5), Estimate(4.0, 3.6, 4.4, 8)])
    assert (both.mean, both.half_width, both.n) == (7.0, pytest.approx(0.5), 5)  # sqrt(0.3^2 + 0.4^2)
    # Equal spreads of five each: eight degrees of freedom, t = 2.306, 2.306 x sqrt(2 x 0.01 / 5).
    left = Estimate(2.0, None, None, 5, 0.1)
    apart = difference(left, Estimate(1.0, None, None, 5, 0.1))
    assert apart.half_width == pytest.approx(2.306 * np.sqrt(2 * 0.01 / 5), rel=1e-3)
    assert left.scaled(-2.0).mean == -4.0
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert pearson([1, 2], [1, 2]) is None


def test_a_counter_that_wraps_where_its_range_ends() -> None:
    joules = (np.arange(100) * 30.0 + 2000.0) % 4000.0
    found = checked(joules, TIMES, period_s=0.1, range_j=4000.0)
    assert found.wraps == 1
    assert found.energy_j[-1] - found.energy_j[0] == pytest.approx(99 * 30.0)
    assert checked(joules, TIMES, period_s=0.1).reason == (
        "the energy counter went backwards: the driver was loaded again"
    )


def test_a_counter_that_starts_again_is_not_taken_for_a_wrap() -> None:
    joules = np.concatenate((np.arange(50) * 30.0, np.arange(50) * 30.0)) + 5.0
    assert "went backwards" in checked(joules, TIMES, period_s=0.1, range_j=1e6).reason


def test_a_counter_that_stands_still() -> None:
    still = np.full(100, 1234.0)
    assert checked(still, TIMES, period_s=0.1).reason == "the energy counter did not move in 9.9 s"
    assert checked(still, TIMES, period_s=0.1, drawn_w=0.0).reason is None
    assert len(edges(still).at) == 0
    assert checked(np.full(100, np.nan), TIMES, period_s=0.1).reason == (
        "the energy counter was read fewer than two times"
    )


def test_a_bad_counter_gives_way_to_power_and_says_so() -> None:
    readings = {"power_w": np.full(100, 200.0), "energy_j": np.full(100, 1234.0)}
    board = Board([channel("0", TIMES, readings)], period_s=0.1)
    found = board.window(2.0, 7.0)
    assert (found.method, found.energy_j) == ("instant power", pytest.approx(1000.0))
    assert board.notes == ("the energy counter did not move in 9.9 s",)


def test_several_devices_add_up_and_their_peak_is_that_of_the_sum() -> None:
    first = np.where(TIMES < 5, 300.0, 100.0)
    second = np.where(TIMES < 5, 100.0, 250.0)
    board = Board(
        [channel("0", TIMES, {"power_w": first}), channel("1", TIMES, {"power_w": second})], period_s=0.1
    )
    found = board.window(2.0, 8.0)
    assert found.energy_j == pytest.approx(3 * 400 + 3 * 350)
    assert found.peak_w == pytest.approx(400.0)  # not 300 + 250


def test_a_device_without_readings_leaves_no_sum() -> None:
    board = Board(
        [channel("0", TIMES, {"power_w": np.full(100, 1.0)}), channel("1", TIMES, {})], period_s=0.1
    )
    found = board.window(2.0, 8.0)
    assert (found.energy_j, found.reason) == (None, "no power was read")


def test_a_window_beyond_the_recording_has_no_energy() -> None:
    board = Board([channel("0", TIMES, {"power_w": np.full(100, 1.0)})], period_s=0.1)
    assert board.window(5.0, 12.0).reason == "the window reaches 2.10 s beyond the recording"


def test_energy_in_gaps_is_told() -> None:
    times = np.concatenate((np.arange(0, 4, 0.1), np.arange(6, 10, 0.1)))
    board = Board([channel("0", times, {"power_w": np.full(len(times), 100.0)})], period_s=0.1)
    assert board.window(0.0, 9.9).gap_share == pytest.approx(2.1 / 9.9, abs=0.01)


def test_idle_that_drifts_is_a_finding() -> None:
    watts = np.where(TIMES < 5, 80.0, 90.0)
    events = (
        Event("idle", "idle", 0.5, 4.5, variant="resident before"),
        Event("idle", "idle", 5.5, 9.5, variant="resident after"),
    )
    trace = Trace("replay", (channel("0", TIMES, {"power_w": watts}),), events, period_s=0.1)
    rows = tables_of(trace, SUBJECT, SETTINGS)["findings"].to_pylist()
    assert [r["finding"] for r in rows if r["rule"] == "idle-drift"] == [
        "idle power moved by 12.5% meanwhile"
    ]


def test_temperature_throttling_and_headroom_of_a_window() -> None:
    mask = np.where((TIMES > 3) & (TIMES < 4) | (TIMES > 6) & (TIMES < 7), 0x20, 0x1)
    heat = 50.0 + TIMES * 3
    readings = {"power_w": np.full(100, 100.0), "throttle": mask, "temperature_c": heat}
    event = Event("phase", "request", 1.0, 9.0)
    trace = Trace("replay", (channel("0", TIMES, readings),), (event,), period_s=0.1)
    board = Board(trace.channels, period_s=0.1)
    subject = Subject(10, 10, 1, slowdown_c=87.0)
    (row,) = phase_rows(trace, board, subject)
    assert row["throttle_events"] == 2  # rising edges; idle is no slowdown
    assert row["throttled_samples"] == 18
    assert row["peak_temperature_c"] == pytest.approx(77.0)
    assert row["thermal_headroom_c"] == pytest.approx(10.0)


def part(name: str, joules: float, *, count: int = 1, parent: str | None = None, half: float = 0.01) -> Part:
    def about(mean: float) -> Estimate:
        return Estimate(mean, mean * (1 - half), mean * (1 + half), 10, mean * half)

    return Part(
        name, "decode", parent, None, count, about(joules / 400), about(joules), about(joules * 0.8), 10
    )


def test_parts_that_do_not_add_up_are_said_to() -> None:
    whole = part("step", 10.0)
    for counted, verdict in ((9.9, "pass"), (9.2, "warn"), (8.0, "fail"), (10.8, "warn")):
        parts = [whole, part("ffn", counted / 4, count=4, parent="step")]
        found, checks = close(parts, tolerance=0.03)
        assert checks[0].verdict == verdict
        assert checks[0].ratio == pytest.approx(counted / 10)
        assert found[-1].energy.mean == pytest.approx(10.0 - counted)  # negative where parts exceed the whole


def test_a_whole_that_may_be_nothing_is_not_compared_with() -> None:
    # Above idle nothing was drawn: 0.1 J, give or take 0.5 J.
    from dataclasses import replace

    whole = replace(part("step", 10.0), net=Estimate(0.1, -0.4, 0.6, 10, 0.5))
    _, checks = close([whole, part("ffn", 9.9, parent="step")], tolerance=0.03)
    assert [check.of for check in checks] == ["energy"]


def test_a_remainder_of_invalid_parts_is_invalid() -> None:
    from dataclasses import replace

    parts = [part("step", 10.0), replace(part("ffn", 9.0, parent="step"), valid=False)]
    found, _ = close(parts, tolerance=0.03)
    assert not found[-1].valid
    assert found[-1].reason == "rests on invalid ffn"


def test_what_is_left_out_and_what_launches_cost_come_from_differences() -> None:
    parts = [part("step", 10.0), part("ffn", 1.5, count=4, parent="step"), part("without ffn", 4.4),
             part("step_eager", 13.0)]  # fmt: skip
    found = {one.component: one for one in by_difference(parts)}
    assert found["ffn"].energy.mean == pytest.approx((10.0 - 4.4) / 4)
    assert found["ffn"].method == "ablation"
    assert found["ffn"].reason == "`step` minus `without ffn`"
    assert found["host_gap"].energy.mean == pytest.approx(3.0)
    # The error of a difference is that of both steps: sqrt(0.1^2 + 0.044^2) with t, over four runs.
    assert found["ffn"].energy.half_width > 0.1 / 4 / 2


def components(**rows: dict):
    listed = [
        {"point": 0, "phase": "decode", "valid": True, "component": name, **row} for name, row in rows.items()
    ]
    names = dict.fromkeys(key for row in listed for key in row)
    return make_table("components", {name: [row.get(name) for row in listed] for name in names})


def summary(**row):
    base = {"point": 0, "source": "metered", "phase": "request", "status": "ok", "energy_j": 100.0}
    merged = {**base, **row}
    return make_table("summary", {name: [value] for name, value in merged.items()})


def advice(rule: str, **tables) -> dict | None:
    given = {"summary": summary(), **tables}
    return next((row for row in energy_findings(given) if row["rule"] == rule), None)


def test_advice_on_idle_power() -> None:
    found = advice("energy-idle", summary=summary(net_energy_j=40.0, idle_power_w=60.0))
    assert found["finding"] == "60% of the energy is idle power, which more work would share"
    assert found["evidence"] == "request: 100 J gross, 40 J above idle of 60 W"
    assert advice("energy-idle", summary=summary(net_energy_j=90.0, idle_power_w=60.0)) is None


def test_advice_on_the_hottest_component() -> None:
    hot = {"parent": "step", "method": "loop", "count": 16, "energy_j": 0.04, "energy_low_j": 0.039,
           "energy_high_j": 0.041, "share": 0.55, "n": 10}  # fmt: skip
    found = advice("energy-hotspot", components=components(ffn=hot, attention={**hot, "share": 0.3}))
    assert found["finding"] == "decode: `ffn` takes 55% of a step; try fewer weight bits in the feed-forward"
    assert found["evidence"] == "0.64 J (0.624 to 0.656) of a step, n = 10"
    assert advice("energy-hotspot", components=components(ffn={**hot, "share": 0.3})) is None


def test_advice_on_launches() -> None:
    found = advice("energy-launch", components=components(
        step_eager={"method": "loop", "energy_j": 13.0}, host_gap={"method": "ablation", "energy_j": 3.0}
    ))  # fmt: skip
    assert found["gain"] == "23% of a step"


def test_advice_on_the_power_cap_needs_samples_that_show_it() -> None:
    def samples(reason: str | None):
        columns = {"power_w": [690.0] * 10, "phase": ["prefill"] * 10, "throttle": [reason] * 10}
        return make_table("samples", {"point": [0] * 10, **columns})

    found = advice("energy-power-cap", samples=samples("power cap"))
    assert found["severity"] == "advice"
    assert found["evidence"] == "power cap active in 100% of 10 samples, peak 690 W"
    found = advice("energy-power-cap", samples=samples(None))
    assert found["finding"] == "the evidence does not suffice for advice on power-cap"


def test_advice_on_clocks_needs_two_of_them() -> None:
    step = {"method": "loop", "energy_j": 1.0, "energy_low_j": 0.99, "energy_high_j": 1.01, "time_s": 0.01}
    fast = components(step={**step, "clock_hz": 1.98e9})
    assert advice("energy-clock", components=fast)["evidence"] == "every step was metered at one clock"
    slow = components(step={**step, "clock_hz": 1.4e9, "energy_j": 0.8, "energy_low_j": 0.79,
                            "energy_high_j": 0.81, "time_s": 0.012})  # fmt: skip
    import pyarrow as pa

    both = pa.concat_tables([fast, slow]).unify_dictionaries()
    found = advice("energy-clock", components=both)
    assert found["finding"] == "decode at 1400 MHz takes less energy and 20% more time"
    assert found["gain"] == "20% of the energy of a step"
    # The same two rows as steps of two batch sizes: other work, no advice.
    slow = slow.set_column(
        slow.schema.get_field_index("point"), "point", pa.array([1], slow.schema.field("point").type)
    )
    sizes = make_table("points", {"point": [0, 1], "model": ["m", "m"], "batch_size": [1, 8]})
    rows = pa.concat_tables([summary(point=0), summary(point=1)]).unify_dictionaries()
    found = advice(
        "energy-clock",
        components=pa.concat_tables([fast, slow]).unify_dictionaries(),
        summary=rows,
        points=sizes,
    )
    assert found["evidence"] == "every step was metered at one clock"


def test_nothing_metered_nothing_advised() -> None:
    assert energy_findings({}) == []
    assert energy_findings({"summary": summary(source="predicted")}) == []
