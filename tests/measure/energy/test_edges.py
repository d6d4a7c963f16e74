"""Energy from a counter that updates ten times a second, against a known true energy.

The loop draws 400 W over 80 W idle; the numbers are those of the design notes, worked out where they can be.
"""

import numpy as np
import pytest

from engine.measure.energy.counters import edges
from engine.measure.energy.integrate import Board
from engine.measure.energy.trace import channel
from engine.measure.energy.trials import aligned_energy
from engine.results.estimate import estimate
from tests.measure.energy.simulated import loop_times

CHUNK = 0.02
IDLE, LOOP = 80.0, 400.0


def naive_energy(iterations, energy_j) -> float:
    """Joules of one iteration by the plain difference of last and first reading: what everybody does."""
    return float(energy_j[-1] - energy_j[0]) / float(iterations[-1] - iterations[0])


def one_loop(nvml, start: float, length: float, watts=None):
    """(times, iterations, counter) of chunks of 20 ms; one iteration a chunk, 8 J at 400 W."""
    steps = round((length + 0.2) / CHUNK)
    ends = np.concatenate(([start], start + CHUNK * np.arange(1, steps + 1), [start + length + 9]))
    power = np.concatenate(([IDLE], np.full(steps, LOOP) if watts is None else watts[:steps], [IDLE]))
    nvml.power_arrays(ends, power)
    times = loop_times(start, length + 0.2, CHUNK)
    counter, _ = nvml.read_many(np.concatenate(([start], times)))
    return np.concatenate(([start], times)), np.arange(len(times) + 1, dtype=float), counter


@pytest.mark.parametrize("length, bound", [(1.0, 0.080), (2.0, 0.040), (5.0, 0.016), (10.0, 0.008)])
def test_a_plain_difference_is_off_by_one_update(nvml, length: float, bound: float) -> None:
    # (0.1 s / L) (1 - 80 W / 400 W): the update before the start is idle, the one before the end is not.
    assert 0.1 / length * (1 - IDLE / LOOP) == pytest.approx(bound)
    errors = []
    for phase in np.linspace(0.0005, 0.0995, 100):
        _, done, counter = one_loop(nvml, 3.0 + phase, length)
        last = round(length / CHUNK)
        errors.append(naive_energy(done[: last + 1], counter[: last + 1]) / (LOOP * CHUNK) - 1)
    assert max(abs(e) for e in errors) == pytest.approx(bound, rel=0.01)
    assert max(errors) <= 1e-6


@pytest.mark.parametrize("length", [1.0, 2.0, 5.0, 10.0])
def test_between_updates_constant_power_has_no_error(nvml, length: float) -> None:
    for phase in (0.0, 0.011, 0.05, 0.093):
        _, done, counter = one_loop(nvml, 3.0 + phase, length)
        found = aligned_energy(done, counter)
        assert found is not None
        assert found[0] == pytest.approx(LOOP * CHUNK, rel=2e-6)  # the counter counts millijoules


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1])
def test_a_counter_that_shows_its_sum_late_costs_nothing(nvml, delay: float) -> None:
    # What it shows at its first update was drawn before the loop; that is why the first one is thrown away.
    nvml.set(counter_delay=delay)
    for phase in (0.003, 0.041, 0.088):
        _, done, counter = one_loop(nvml, 3.0 + phase, 5.0)
        assert aligned_energy(done, counter)[0] == pytest.approx(LOOP * CHUNK, rel=2e-6)


def test_an_update_is_where_a_new_value_is_first_seen() -> None:
    found = edges(np.array([5.0, 5.0, 7.0, np.nan, 7.0, 9.0, np.nan, 12.0]))
    assert found.at.tolist() == [2, 5, 7]
    assert found.energy_j.tolist() == [7.0, 9.0, 12.0]


def noisy(rng, steps: int, *, drift: float):
    """2 % noise on every chunk, and a rise over the loop as the die warms up."""
    return LOOP * (1 + 0.02 * rng.standard_normal(steps)) * (1 + drift * np.arange(steps) / steps)


def test_noise_and_drift_leave_no_bias(nvml) -> None:
    rng = np.random.default_rng(5)
    aligned, naive = [], []
    for _ in range(400):
        # An odd chunk, so that updates fall anywhere in it.
        watts = noisy(rng, 260, drift=0.01)
        _, done, counter = one_loop(nvml, 3.0 + rng.uniform(0, 0.1), 5.0, watts)
        true = LOOP * 1.005 * CHUNK  # mean of a rise by 1 %
        aligned.append(aligned_energy(done, counter)[0] / true - 1)
        naive.append(naive_energy(done[:251], counter[:251]) / true - 1)
    assert abs(np.mean(aligned)) <= 0.001
    assert np.quantile(np.abs(aligned), 0.95) <= 0.005
    assert np.mean(naive) == pytest.approx(-0.008, abs=0.002)
    assert np.quantile(np.abs(naive), 0.95) == pytest.approx(0.0164, abs=0.003)


def test_intervals_of_95_percent_cover_so_often(nvml) -> None:
    rng = np.random.default_rng(11)
    inside = {"edges": 0, "naive": 0}
    of_five = {"edges": 0, "naive": 0}
    campaigns = 600
    for _ in range(campaigns):
        found: dict[str, list[float]] = {"edges": [], "naive": []}
        for _ in range(10):
            watts = noisy(rng, 260, drift=0.0)
            _, done, counter = one_loop(nvml, 3.0 + rng.uniform(0, 0.1), 5.0, watts)
            found["edges"].append(aligned_energy(done, counter)[0])
            found["naive"].append(naive_energy(done[:251], counter[:251]))
        for name, values in found.items():
            for count, total in ((10, inside), (5, of_five)):
                interval = estimate(values[:count])
                total[name] += interval.low <= LOOP * CHUNK <= interval.high
    assert 0.93 <= inside["edges"] / campaigns <= 0.97
    assert inside["naive"] / campaigns <= 0.01  # biased low: narrow, and wrong
    assert 0.93 <= of_five["edges"] / campaigns <= 0.97
    assert 0.1 <= of_five["naive"] / campaigns <= 0.3


def test_chunks_that_do_not_fit_the_period_stay_within_their_bound(nvml) -> None:
    # 2c/L: both ends within one chunk of 23 ms.
    length, chunk = 5.0, 0.023
    worst = 0.0
    for phase in np.linspace(0, 0.099, 40):
        start = 3.0 + phase
        nvml.power((start, IDLE), (start + length + 1, LOOP), (99.0, IDLE))
        times = loop_times(start, length + 0.2, chunk)
        counter, _ = nvml.read_many(times)
        energy = aligned_energy(np.arange(1.0, len(times) + 1), counter)[0]
        worst = max(worst, abs(energy / (LOOP * chunk) - 1))
    assert worst <= 2 * chunk / length


def board_of(nvml, end_s: float, *, poll_s: float = 0.02) -> Board:
    times = np.arange(0.0, end_s, poll_s) + 1e-6
    _, power = nvml.read_many(times)
    return Board([channel("0", times, {"power_w": power})], period_s=0.1)


def test_windows_of_a_step_in_power(nvml) -> None:
    # 300 W from 2 to 7 s, 100 W around it.
    nvml.set(power_window=0.1)
    nvml.power((2.0, 100.0), (7.0, 300.0), (20.0, 100.0))
    board = board_of(nvml, 12.0)
    assert board.window(2.0, 7.5).energy_j == pytest.approx(5 * 300 + 0.5 * 100, rel=2e-3)  # 1550 J
    assert board.window(3.0, 6.0).energy_j == pytest.approx(3 * 300, rel=1e-4)  # 900 J, and not 0


def test_a_burst_through_an_averaged_sensor_needs_its_tail(nvml) -> None:
    nvml.set(power_window=1.0)
    errors, tails = [], []
    for phase in np.linspace(0.0, 0.08, 5):
        begin = 5.0 + phase
        nvml.power((begin, IDLE), (begin + 2.0, LOOP), (60.0, IDLE))
        board = board_of(nvml, 12.0)
        errors.append(board.window(begin, begin + 2.0).energy_j / (2 * LOOP) - 1)
        net = board.window(begin, begin + 3.2).energy_j - 3.2 * IDLE
        tails.append(net / (2 * (LOOP - IDLE)) - 1)
    assert min(errors) >= -0.245
    assert max(errors) <= -0.195
    assert max(abs(t) for t in tails) <= 0.001


def test_a_burst_through_the_instant_sensor(nvml) -> None:
    errors = []
    for phase in np.linspace(0.0, 0.09, 10):
        begin = 5.0 + phase
        nvml.power((begin, IDLE), (begin + 2.0, LOOP), (60.0, IDLE))
        errors.append(abs(board_of(nvml, 12.0).window(begin, begin + 2.0).energy_j / (2 * LOOP) - 1))
    assert np.median(errors) <= 0.035
    assert max(errors) <= 0.045


def square(period: float, length: float, start: float):
    """300 W and 700 W in turn: 500 W in the mean."""
    ends = start + period / 2 * np.arange(0, round(2 * length / period) + 1)
    watts = np.where(np.arange(len(ends)) % 2, 700.0, 300.0)
    watts[0] = IDLE
    return np.append(ends, start + length + 60), np.append(watts, IDLE)


def part_time_error(nvml, period: float, start: float, length: float = 10.0) -> float:
    """Error of integrated readings of a sensor that looks 25 of 100 ms."""
    nvml.power_arrays(*square(period, length + 1, start))
    times = np.arange(start + 0.2, start + 0.2 + length, 0.02)
    _, power = nvml.read_many(times)
    return float(power.mean() / 500.0 - 1)


def test_a_sensor_that_looks_a_quarter_of_the_time_can_be_fooled(nvml) -> None:
    grid = np.linspace(0, 0.1, 16, endpoint=False)
    in_step = [abs(part_time_error(nvml, 0.1, 3.0 + phase)) for phase in grid]
    assert max(in_step) == pytest.approx(0.40, abs=0.005)  # 700 or 300 instead of 500
    halves = [abs(part_time_error(nvml, 0.05, 3.0 + phase)) for phase in grid]
    assert np.median(halves) == pytest.approx(0.20, abs=0.02)
    fast = [abs(part_time_error(nvml, 0.013, 3.0 + phase)) for phase in grid]
    assert max(fast) < 0.005


@pytest.mark.parametrize("period", [0.1, 0.05, 0.025, 0.013])
def test_eight_staggered_starts_see_every_part_of_the_loop(nvml, period: float) -> None:
    errors = [part_time_error(nvml, period, 3.0 + 0.1 * turn / 8) for turn in range(8)]
    assert abs(np.mean(errors)) <= 0.003


@pytest.mark.parametrize("continuous, worst", [(1, 0.005), (0, 0.41)])
def test_what_kind_of_counter_it_is_shows_in_a_square_wave(nvml, continuous: int, worst: float) -> None:
    nvml.set(continuous=continuous)
    errors = []
    for turn in range(8):
        start = 3.0 + 0.1 * turn / 8
        nvml.power_arrays(*square(0.1, 11.0, start))
        times = start + 0.02 * np.arange(10, 520)
        counter, _ = nvml.read_many(times)
        energy = aligned_energy(np.arange(len(times), dtype=float), counter)[0]
        errors.append(energy / (500 * 0.02) - 1)
    assert max(abs(e) for e in errors) <= worst
    if not continuous:
        assert max(abs(e) for e in errors) >= 0.35
        assert abs(np.mean(errors)) <= 0.003  # staggered starts carry the result
