"""Component loops on the pretend device, through NVML: true energies are found, bad trials are not used."""

import itertools
import random

import pytest

from engine.measure.energy.additivity import close
from engine.measure.energy.loops import LoopPlan, plan_loops, run_loop, run_trials
from engine.measure.energy.nvml import Nvml
from engine.measure.energy.trials import evaluate, parts_of
from engine.results.estimate import Estimate
from engine.spec.energy import EnergyLimits, LoopSettings
from tests.measure.energy.simulated import SimulatedWork

# Eight components of a decode step of a model like Llama 8B: count, seconds, watts.
STEP = {
    "embedding": (1, 4e-6, 190.0), "norm": (65, 5e-6, 210.0), "q": (32, 2.1e-5, 420.0),
    "kv": (32, 1.3e-5, 390.0), "context": (32, 1.6e-5, 330.0), "o": (32, 2.1e-5, 420.0),
    "ffn": (32, 1.05e-4, 455.0), "lm_head": (1, 3.3e-4, 450.0),
}  # fmt: skip
LIMITS = EnergyLimits()


@pytest.fixture
def meter(nvml):
    source = Nvml()
    yield source
    source.close()


def plan(**changes) -> LoopPlan:
    values = {"window_s": 5.0, "limit_s": 30.0, "min_edges": 30, "precision": 0.01, "chunk_s": 0.02,
              "warmup_s": 0.3, "cooldown_s": 0.2, "period_s": 0.1, "metered": True}  # fmt: skip
    return LoopPlan(**{**values, **changes})


def test_defaults_by_what_is_measured() -> None:
    with_energy = plan_loops(LoopSettings(), period_s=0.1, metered=True)
    assert (with_energy.window_s, with_energy.warmup_s, with_energy.cooldown_s) == (5.0, 2.0, 5.0)
    assert with_energy.trial_s == 12.0  # eight components x 10 trials: 16 minutes
    only_time = plan_loops(LoopSettings(), period_s=0.1, metered=False)
    assert (only_time.window_s, only_time.cooldown_s) == (0.1, 0.0)
    quick_sensor = plan_loops(LoopSettings(), period_s=0.02, metered=True)
    assert quick_sensor.chunk_s == pytest.approx(0.004)


def test_a_loop_ends_on_an_edge_after_its_window(nvml, meter) -> None:
    work = SimulatedWork(nvml, "ffn", 1.05e-4, 400.0)
    loop = run_loop(work, plan(window_s=5.03), nvml, read=lambda slow: meter.quick(slow=slow))
    trial = evaluate(loop, period_s=0.1, limits=LIMITS)
    assert trial.reason is None
    assert trial.method == "counter"
    assert 4.8 <= trial.window_s <= 5.3
    assert trial.edges >= 30
    assert trial.energy_j == pytest.approx(400.0 * 1.05e-4, rel=2e-3)
    # Two chunks are queued all the time: nothing idles between them.
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(work.log)]
    assert max(gaps[-50:]) == pytest.approx(0.0, abs=1e-9)
    # Gain of the sensor, and one chunk of 20 ms in 5 s at the ends, apart from the interval.
    assert trial.systematic_j == pytest.approx((0.05 + 0.02 / 5) * trial.energy_j, rel=0.01)
    # It ended on an update: one more chunk was queued by then.
    assert loop.energy_j[-2] > loop.energy_j[-3]


def test_eight_components_add_up_to_their_step(nvml, meter) -> None:
    chance = random.Random(3)
    works = [
        SimulatedWork(nvml, name, seconds, watts * (1 + chance.gauss(0, 0.001)), parent="step", count=count,
                      visits=1, order=1 + at)
        for at, (name, (count, seconds, watts)) in enumerate(STEP.items())
    ]  # fmt: skip
    true = {work.component: work.watts * work.turn_s for work in works}
    step_j = sum(work.count * true[work.component] for work in works)
    step_s = sum(work.count * work.turn_s for work in works)
    works.insert(0, SimulatedWork(nvml, "step", step_s, step_j / step_s))
    loops = run_trials(works, plan(window_s=3.0, min_edges=20), nvml, trials=3, seed=1,
                       read=lambda slow: meter.quick(slow=slow))  # fmt: skip
    parts = parts_of(loops, period_s=0.1, limits=LIMITS, idle=Estimate(80.0, 80.0, 80.0, 1, 0.0))
    for part in parts[1:]:
        assert part.energy.mean == pytest.approx(true[part.component], rel=0.006)
    found, checks = close(parts, tolerance=LIMITS.closure)
    gross = next(check for check in checks if check.of == "energy")
    assert gross.ratio == pytest.approx(1.0, abs=0.03)
    assert gross.ratio == pytest.approx(1.0, abs=0.005)
    assert gross.verdict == "pass"
    rest = found[-1]
    assert rest.component == "unattributed"
    # The remainder is what is left, whatever its sign; nothing was rescaled.
    counted = sum(part.energy.mean * part.count for part in parts[1:])
    assert rest.energy.mean == pytest.approx(parts[0].energy.mean - counted, abs=1e-12)


def test_trials_are_shuffled_and_interleaved(nvml, meter) -> None:
    works = [SimulatedWork(nvml, name, 1e-3, 300.0) for name in "abcd"]
    short = plan(window_s=0.5, min_edges=2, warmup_s=0.0, cooldown_s=0.0)
    loops = run_trials(works, short, nvml, trials=5, seed=1, read=lambda slow: meter.quick(slow=slow))
    order = [loop.component for loop in loops]
    assert sorted(order) == sorted("abcd" * 5)
    assert order != sorted(order)
    runs = [a == b for a, b in itertools.pairwise(order)]
    assert sum(runs) < 10  # in blocks of five, 16 neighbours would be alike


def test_starts_are_spread_over_the_period_of_the_sensor(nvml, meter) -> None:
    work = SimulatedWork(nvml, "a", 1e-3, 300.0)
    starts = []
    for trial in range(8):
        begin = len(work.log)
        run_loop(work, plan(window_s=0.3, min_edges=2, warmup_s=0.0), nvml, trial=trial,
                 stagger_s=0.1 * trial / 8, read=lambda slow: meter.quick(slow=slow))  # fmt: skip
        starts.append(round(work.log[begin][0] % 0.1, 4))
    assert starts == pytest.approx([0.0125 * turn for turn in range(8)], abs=2e-4)


def test_trials_of_a_campaign_start_at_phases_of_their_own(nvml, meter) -> None:
    work = SimulatedWork(nvml, "a", 1e-3, 300.0)
    run_trials([work], plan(window_s=0.3, min_edges=2, warmup_s=0.0), nvml, trials=8, seed=5,
               read=lambda slow: meter.quick(slow=slow))  # fmt: skip
    after_rest = [begin for (_, end), (begin, _) in itertools.pairwise(work.log) if begin - end > 0.15]
    phases = sorted(begin % 0.1 for begin in (work.log[0][0], *after_rest))
    assert len(phases) == 8
    # Eight starts an eighth of the period apart, from wherever the first one is.
    assert [b - a for a, b in itertools.pairwise(phases)] == pytest.approx([0.0125] * 7, abs=2e-4)


def loop_on(nvml, meter, **settings):
    nvml.set(**settings)
    work = SimulatedWork(nvml, "ffn", 1e-4, 400.0)
    return run_loop(work, plan(window_s=4.0), nvml, read=lambda slow: meter.quick(slow=slow))


def reason_of(loop) -> str | None:
    return evaluate(loop, period_s=0.1, limits=LIMITS).reason


def test_a_trial_under_thermal_throttling_does_not_count(nvml, meter) -> None:
    assert reason_of(loop_on(nvml, meter, reasons=0x20)) == "thermal throttling"


def test_a_power_cap_is_recorded_and_counts(nvml, meter) -> None:
    trial = evaluate(loop_on(nvml, meter, reasons=0x4), period_s=0.1, limits=LIMITS)
    assert trial.reason is None
    assert trial.remark.startswith("power cap active in")


@pytest.mark.parametrize("reasons, told", [(0, "clock spread 10.0%"), (0x4, None)])
def test_a_clock_that_moves_counts_only_under_a_power_cap(
    nvml, meter, reasons: int, told: str | None
) -> None:
    # 1881 and 2079 MHz around 1980: 10 %. Under a cap the clock is what gives way.
    loop = loop_on(nvml, meter, reasons=reasons)
    loop.clock_hz[::2], loop.clock_hz[1::2] = 1.881e9, 2.079e9
    trial = evaluate(loop, period_s=0.1, limits=LIMITS)
    assert trial.reason == told
    assert trial.remark == (
        None if told else "power cap active in 100% of the readings, clock moved by 10.0%"
    )


def test_a_counter_that_goes_backwards(nvml, meter) -> None:
    loop = loop_on(nvml, meter, reset_at=2.5)
    assert reason_of(loop) == "the energy counter went backwards: the driver was loaded again"


def test_a_counter_that_never_moves_gives_way_to_power(nvml, meter) -> None:
    trial = evaluate(loop_on(nvml, meter, stuck=1), period_s=0.1, limits=LIMITS)
    assert trial.method == "instant power"
    assert trial.energy_j == pytest.approx(400.0 * 1e-4, rel=0.005)


def test_one_reading_of_zero_is_no_reset(nvml, meter) -> None:
    trial = evaluate(loop_on(nvml, meter, zero_at=2.0), period_s=0.1, limits=LIMITS)
    assert trial.reason is None
    assert trial.energy_j == pytest.approx(400.0 * 1e-4, rel=2e-3)


def test_without_a_counter_power_is_integrated_and_labelled(nvml) -> None:
    nvml.set(has_counter=0)
    source = Nvml()
    loop = loop_on(nvml, source)
    source.close()
    (part,) = parts_of([loop], period_s=0.1, limits=LIMITS, idle=None)
    assert part.energy.mean == pytest.approx(400.0 * 1e-4, rel=0.005)
    assert part.reason == "interval from 1 trials; energy from instant power"


def test_a_loop_that_ends_before_the_sensor_shows_it_has_no_energy(nvml) -> None:
    nvml.set(has_counter=0)
    source = Nvml()
    work = SimulatedWork(nvml, "ffn", 1e-4, 400.0)
    loop = run_loop(work, plan(window_s=0.15, warmup_s=0.0), nvml, read=lambda slow: source.quick(slow=slow))
    source.close()
    trial = evaluate(loop, period_s=0.1, limits=LIMITS)
    assert trial.energy_j is None
    assert trial.reason == "the loop ended before the sensor showed it, 0.2 s after its start"
    assert trial.time_s == pytest.approx(1e-4)  # the time is known all the same


def test_averaged_power_is_the_last_resort_and_labelled(nvml) -> None:
    nvml.set(fields_result=3, no_counter_call=1)
    source = Nvml()
    loop = loop_on(nvml, source)
    source.close()
    (part,) = parts_of([loop], period_s=0.1, limits=LIMITS, idle=None)
    assert part.energy.mean == pytest.approx(400.0 * 1e-4, rel=0.005)
    assert part.reason == "interval from 1 trials; energy from average power"


def test_parts_of_one_name_in_two_places_stay_apart(nvml, meter) -> None:
    works = [
        SimulatedWork(nvml, "down", seconds, 400.0, parent=parent)
        for parent, seconds in (("ffn", 1e-4), ("shared_expert", 3e-4))
    ]
    loops = run_trials(works, plan(window_s=0.5, min_edges=2), nvml, trials=2, seed=1,
                       read=lambda slow: meter.quick(slow=slow))  # fmt: skip
    found = {part.parent: part for part in parts_of(loops, period_s=0.1, limits=LIMITS, idle=None)}
    assert found["ffn"].time.mean == pytest.approx(1e-4)
    assert found["shared_expert"].time.mean == pytest.approx(3e-4)
    assert {part.time.n for part in found.values()} == {2}


def test_a_counter_that_disagrees_with_power_is_a_warning_that_counts_against_it(nvml, meter) -> None:
    # A part-time counter on a load in step with it reads 40 % off; here the sensor sees it too late to agree.
    nvml.set(power_window=1.0, power_period=1.0)
    work = SimulatedWork(nvml, "ffn", 1e-4, 400.0)
    short = plan(window_s=1.2, min_edges=5, warmup_s=0.0)
    loop = run_loop(work, short, nvml, read=lambda slow: meter.quick(slow=slow))
    assert "disagree" in reason_of(loop)


def test_a_foreign_process_makes_a_trial_invalid(nvml, meter) -> None:
    nvml.set(foreign_pid=77)
    work = SimulatedWork(nvml, "ffn", 1e-4, 400.0)
    loop = run_loop(work, plan(), nvml, read=lambda slow: meter.quick(slow=slow),
                    foreign=lambda: any(meter.users().values()))  # fmt: skip
    assert reason_of(loop) == "another process used the device"
    (part,) = parts_of([loop], period_s=0.1, limits=LIMITS, idle=None)
    assert not part.valid


def test_without_a_meter_only_time_is_measured(nvml) -> None:
    work = SimulatedWork(nvml, "ffn", 1e-4, 400.0)
    loop = run_loop(work, plan(metered=False, window_s=0.1, chunk_s=0.01, cooldown_s=0.0), nvml)
    trial = evaluate(loop, period_s=0.1, limits=LIMITS)
    assert trial.energy_j is None
    assert trial.time_s == pytest.approx(1e-4, rel=1e-6)
