"""Verdicts: with numbers by hand, with simulated noise, and in whatever order things come."""

from __future__ import annotations

import dataclasses
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.metrics import METRICS
from engine.report.comparison_words import comparison_notices, redactor
from engine.results.compared import Against, Change, ComparedRun, CompareOptions
from engine.results.comparison import compare, loosening
from engine.results.matching import FIELDS
from tests.results.comparing import interval, live, noisy, requests, run, table


def against(before: ComparedRun, after: ComparedRun, **options) -> Against:
    return compare([before, after], CompareOptions(**options)).against[0]


def change(before: ComparedRun, after: ComparedRun, metric: str, **options) -> Change:
    (found,) = [c for p in against(before, after, **options).points for c in p.changes if c.metric == metric]
    return found


# Predictions


def test_any_difference_between_predictions_is_a_change() -> None:
    found = change(run([{"tpot_s": 0.010}]), run([{"tpot_s": 0.011}]), "tpot_s")
    assert found.verdict == "regressed"
    assert found.relative == pytest.approx(0.1)
    assert found.p_corrected is None
    assert found.reason == "computed without noise: any difference is one"


def test_rounding_is_none() -> None:
    found = change(run([{"tpot_s": 0.01}]), run([{"tpot_s": 0.01 * (1 + 1e-12)}]), "tpot_s")
    assert (found.verdict, found.reason) == ("within noise", "the same value")


def test_more_throughput_is_better_and_more_flops_are_neither() -> None:
    before, after = run([{"requests_per_s": 1.0, "flops": 1.0}]), run([{"requests_per_s": 2.0, "flops": 2.0}])
    assert change(before, after, "requests_per_s").verdict == "improved"
    assert change(before, after, "flops").verdict == "changed"


def test_a_prediction_below_the_threshold_is_let_pass() -> None:
    found = change(run([{"tpot_s": 1.00}]), run([{"tpot_s": 1.019}]), "tpot_s", threshold=0.02)
    assert (found.verdict, found.reason) == (
        "within noise", "computed, and smaller than the threshold of 0.02",
    )  # fmt: skip
    assert change(run([{"tpot_s": 1.0}]), run([{"tpot_s": 1.03}]), "tpot_s", threshold=0.02).verdict == (
        "regressed"
    )


def test_bands_of_two_predictions_share_their_error() -> None:
    # Far inside each other's 90 % band, and a change all the same.
    before = run([{"tpot_s": 1.0, "tpot_s_low": 0.5, "tpot_s_high": 2.0}])
    after = run([{"tpot_s": 1.1, "tpot_s_low": 0.6, "tpot_s_high": 2.1}])
    assert change(before, after, "tpot_s").verdict == "regressed"


def test_a_bound_never_wins_over_an_estimate() -> None:
    found = change(run([{"tpot_s": 2.0, "basis": "estimate"}]), run([{"tpot_s": 1.0}]), "tpot_s")
    assert found.verdict == "changed"
    assert found.reason == "a bound against an estimate: another method, not another deployment"


# Measurements


def test_repeats_far_apart_are_a_change() -> None:
    # Means 1.00 and 1.10, half-widths 0.01 from 5 repeats: error 0.01/2.776 each, t = 0.1 / 0.0051 = 19.6.
    found = change(
        run([live(**interval("tpot_s", 1.0, 0.01, repeats=5))]),
        run([live(**interval("tpot_s", 1.1, 0.01, repeats=5))]),
        "tpot_s",
    )
    assert found.verdict == "regressed"
    assert found.contrast.p is not None
    assert found.contrast.p < 1e-6
    # Welch with equal spreads: 8 degrees, 2.306 x sqrt(2) x 0.01 / 2.776.
    assert found.relative_low == pytest.approx(0.1 - 2.306 * 2**0.5 * 0.01 / 2.7764, abs=1e-5)
    assert found.reason.endswith("; 5 repeats against 5 repeats")


def test_repeats_close_together_are_noise() -> None:
    found = change(
        run([live(**interval("tpot_s", 1.0, 0.1, repeats=5))]),
        run([live(**interval("tpot_s", 1.05, 0.1, repeats=5))]),
        "tpot_s",
    )
    assert found.verdict == "within noise"


def test_what_was_measured_once_is_unknown() -> None:
    found = change(run([live(tpot_s=1.0)]), run([live(tpot_s=9.0)]), "tpot_s")
    assert (found.verdict, found.p_corrected) == ("unknown", None)
    assert found.reason == "measured once before and now: no interval says how much it varies"


def test_assumed_noise_makes_it_known() -> None:
    # 3 % of 1.0 and of 1.2: t = 0.2 / hypot(0.03, 0.036) = 4.3; of 1.05: 0.05 / 0.0435 = 1.15.
    for value, verdict in ((1.2, "regressed"), (1.05, "within noise")):
        found = change(run([live(tpot_s=1.0)]), run([live(tpot_s=value)]), "tpot_s", noise=0.03)
        assert found.verdict == verdict
        assert "the stated noise between runs" in found.reason


def test_one_repeat_says_so() -> None:
    generator = random.Random(3)
    sides = []
    for mean in (1.0, 2.0):
        values = [generator.gauss(mean, 0.05) for _ in range(60)]
        sides.append(run([live(e2e_s=sum(values) / 60)], requests=requests([values])))
    found = change(sides[0], sides[1], "e2e_s")
    assert found.verdict == "regressed"
    assert found.reason.endswith("within one repeat only, variation between runs is unknown")


def test_a_measurement_is_judged_by_the_band_of_the_prediction() -> None:
    predicted = run([{"tpot_s": 1.0, "tpot_s_low": 0.8, "tpot_s_high": 1.3, "basis": "estimate"}])
    for value, verdict in ((1.25, "within noise"), (1.6, "regressed")):
        measured = run([live(**interval("tpot_s", value, 0.01, repeats=5))])
        found = change(predicted, measured, "tpot_s")
        assert found.verdict == verdict
        assert "the 90 % band of the prediction against 5 repeats" in found.reason


def test_a_log_without_repeats_is_told_whether_it_is_inside_the_band() -> None:
    predicted = run([{"tpot_s": 1.0, "tpot_s_low": 0.8, "tpot_s_high": 1.3, "basis": "estimate"}])
    logged = run([{"source": "run_folder", "basis": "measured", "tpot_s": 1.2}])
    found = change(predicted, logged, "tpot_s")
    assert found.verdict == "unknown"
    assert found.reason.endswith("varies; inside the 90 % band of the prediction")


def test_several_logs_of_a_configuration_are_repeats() -> None:
    def logs(*values: float) -> ComparedRun:
        return run(
            [{"source": "run_folder", "variant": f"r{i}", "tpot_s": v} for i, v in enumerate(values)],
        )

    found = against(logs(1.0, 1.01, 0.99), logs(1.2, 1.21, 1.19))
    (one,) = found.points[0].changes
    assert one.verdict == "regressed"
    assert found.points[0].notes == ("3 rows of this point are taken as repeats",)


def test_more_failures_than_chance_are_a_regression() -> None:
    def failing(failed: int) -> ComparedRun:
        return run([live(error_rate=failed / 200, completed_requests=200 - failed, failed_requests=failed)])

    assert change(failing(0), failing(30), "error_rate").verdict == "regressed"
    assert change(failing(0), failing(1), "error_rate").verdict == "within noise"


# Status


def test_a_point_that_fails_now_is_a_regression() -> None:
    found = against(
        run([{"tpot_s": 1.0}]), run([{"status": "does_not_fit", "reason": "short by 3 GB", "tpot_s": None}])
    )
    (point,) = found.points
    assert (point.status, point.status_verdict) == (("ok", "does_not_fit"), "regressed")
    assert point.status_reason == "ok before, does not fit now: short by 3 GB"
    assert found.has("regressed")
    back = compare([run([{"status": "failed", "reason": "x"}]), run([{"tpot_s": 1.0}])])
    assert back.has("improved")
    assert not back.has("regressed")


def test_what_failed_in_both_is_counted() -> None:
    failed = run([{"status": "failed", "reason": "x"}])
    found = against(failed, failed)
    assert (found.never_ok, found.verdicts["regressed"], found.points[0].changes) == (1, 0, ())


# Many tests


def test_the_correction_spares_one_of_many() -> None:
    # One p of 0.03 among twenty: a change by itself, noise among so many.
    def at(values) -> ComparedRun:
        rows = [live(point=i, **interval("tpot_s", v, 0.1, repeats=5)) for i, v in enumerate(values)]
        return run(rows, points=[{"prompt_tokens": 100 + i} for i in range(len(values))])

    before, after = at([1.0] * 20), at([1.135, *[1.0] * 19])
    # Unchanged points are tests with p = 1.
    assert against(before, after).tests == 20
    assert against(before, after, correction="none").counts["regressed"] == 1
    for correction in ("bh", "holm"):
        assert against(before, after, correction=correction).counts["regressed"] == 0


@pytest.mark.parametrize("correction", ["bh", "holm"])
def test_where_nothing_changed_one_night_in_twenty_is_a_false_alarm(correction) -> None:
    # Simulated: 120 nights of four points with three noisy metrics each. Of 120 at 5 % more than 12 come up
    # once in a hundred (binomial).
    generator = random.Random(11)
    alarms = 0
    for _ in range(120):
        night = against(
            noisy(generator, points=4, repeats=4),
            noisy(generator, points=4, repeats=4),
            correction=correction,
        )
        alarms += night.has("regressed") or night.has("improved")
    assert alarms <= 12


def test_single_tests_err_five_times_in_a_hundred() -> None:
    generator = random.Random(5)
    found = against(
        noisy(generator, points=700, repeats=4), noisy(generator, points=700, repeats=4), correction="none"
    )
    share = (found.counts["regressed"] + found.counts["improved"]) / found.tests
    # 2,100 tests: 5 % within four standard errors of 0.48 %; Welch with four repeats is a little cautious.
    assert 0.03 < share < 0.07


def test_a_change_of_a_tenth_is_seen_in_noise_of_two_hundredths() -> None:
    generator = random.Random(6)
    found = against(noisy(generator, points=30, repeats=5), noisy(generator, points=30, repeats=5, shift=0.1))
    assert found.counts["regressed"] >= 58  # both latencies of nearly every point
    assert found.counts["improved"] >= 29  # throughput


def test_the_threshold_asks_for_more() -> None:
    generator = random.Random(6)
    before = noisy(generator, points=30, repeats=5)
    after = noisy(generator, points=30, repeats=5, shift=0.05)
    plain = against(before, after).counts["regressed"]
    strict = against(before, after, threshold=0.05).counts["regressed"]
    assert plain > 40
    assert strict <= 3


# Properties

_METRICS = ("ttft_s", "tpot_s", "output_tokens_per_s", "flops", "memory_free_bytes")
_VALUES = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)


@st.composite
def runs(draw, sources=("predicted", "live", "run_folder")) -> ComparedRun:
    size = draw(st.integers(1, 4))
    rows = []
    for number in range(size):
        source = draw(st.sampled_from(sources))
        row = {"point": number, "source": source}
        for metric in _METRICS:
            value = draw(st.none() | _VALUES)
            if value is not None:
                row[metric] = value
                if draw(st.booleans()):
                    half = draw(st.floats(0, 1e6))
                    row |= {f"{metric}_low": value - half, f"{metric}_high": value + half}
        row["wall_output_tokens_per_s_n"] = draw(st.integers(2, 9))
        rows.append(row)
    return run(rows, points=[{"batch_size": 2**i} for i in range(size)])


@settings(max_examples=60, deadline=None)
@given(runs())
def test_a_run_never_differs_from_itself(one: ComparedRun) -> None:
    found = against(one, one)
    assert found.unmatched == ()
    assert set(found.counts.items()) >= {("improved", 0), ("regressed", 0), ("changed", 0), ("unknown", 0)}
    assert (found.spec, found.environment) == ((), ())


@settings(max_examples=60, deadline=None)
@given(runs(), runs())
def test_swapping_runs_swaps_improved_and_regressed(one: ComparedRun, other: ComparedRun) -> None:
    there, back = against(one, other), against(other, one)
    turned = {"improved": "regressed", "regressed": "improved"}

    def verdicts(found: Against, *, turn: bool):
        return sorted(
            (p.identity.get("batch_size"), {p.identity.source, p.other.source} and c.metric,
             turned.get(c.verdict, c.verdict) if turn else c.verdict)
            for p in found.points
            for c in p.changes
        )  # fmt: skip

    assert verdicts(there, turn=False) == verdicts(back, turn=True)
    assert len(there.unmatched) == len(back.unmatched)


@settings(max_examples=30, deadline=None)
@given(runs(), runs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_makes_no_difference(one, other, generator) -> None:
    def shuffled(table: pa.Table) -> pa.Table:
        places = list(range(table.num_rows))
        generator.shuffle(places)
        return table.take(places)

    mixed = dataclasses.replace(other, points=shuffled(other.points), summary=shuffled(other.summary))
    assert compare([one, other]) == compare([one, mixed])


# Options


def test_whole_requests_are_compared_where_both_have_them() -> None:
    rows = [{"tpot_s": 1.0}, {"phase": "decode", "time_s": 1.0}]
    assert [p.identity.phase for p in against(run(rows), run(rows)).points] == ["request"]
    assert [p.identity.phase for p in against(run(rows), run(rows), phases=("decode",)).points] == ["decode"]
    only = [{"phase": "decode", "time_s": 1.0}]
    assert [p.identity.phase for p in against(run(rows), run(only)).points] == ["decode"]


def test_percentiles_are_compared_by_name() -> None:
    rows = [{"ttft_s": 1.0, "ttft_s_p50": 0.9, "ttft_s_p99": 2.0}]
    names = [c.metric for c in against(run(rows), run(rows)).points[0].changes]
    assert names == ["ttft_s", "ttft_s_p99"]
    named = against(run(rows), run(rows), metrics=("ttft_s_p50",)).points[0].changes
    assert [c.metric for c in named] == ["ttft_s_p50"]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"metrics": ("ttft",)}, "no metric `ttft`", "did you mean `ttft_s`"),
        (
            {"same": (("llama", "x"),)},
            "no run has a model, device or format `llama`",
            "they have: bf16, h100",
        ),
        ({"match": ("modell",)}, "points have no field `modell`", "fields: model, hardware"),
        ({"metrics": ("energy_j",)}, "run `run` has no `energy_j`", "it has: tpot_s"),
    ],
)
def test_mistakes_are_named(options, message: str, hint: str) -> None:
    one = run([{"tpot_s": 1.0}])
    with pytest.raises(UsageError) as caught:
        compare([one, one], CompareOptions(**options))
    assert caught.value.message == message
    assert (caught.value.hint or "").startswith(hint)


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(UsageError, match="a comparison needs two runs"):
        compare([run([{"tpot_s": 1.0}])])


def test_every_run_is_compared_with_the_first() -> None:
    found = compare([run([{"tpot_s": value}], name=f"n{value}") for value in (1.0, 2.0, 0.5)])
    assert [one.run.title for one in found.against] == ["B n2.0", "C n0.5"]
    assert [one.points[0].changes[0].verdict for one in found.against] == ["regressed", "improved"]


def test_what_would_bring_runs_together() -> None:
    before = run([{"tpot_s": 1.0}], points=[{"hardware": "a100", "batch_size": 1}])
    after = run([{"tpot_s": 1.0}], points=[{"hardware": "h100", "batch_size": 2}])
    assert loosening(before, after, CompareOptions()) == ("hardware", "batch_size")
    assert loosening(before, after, CompareOptions(match=tuple(f for f in FIELDS if f != "hardware"))) == (
        "batch_size",
    )


def test_metrics_are_compared_in_their_declared_order() -> None:
    rows = [{"tpot_s": 1.0, "requests_per_s": 1.0, "flops": 2.0}]
    names = [c.metric for c in against(run(rows), run(rows)).points[0].changes]
    assert names == [name for name in METRICS if name in names]


def test_a_source_without_whole_requests_keeps_its_phases() -> None:
    rows = [
        live(tpot_s=1.0),
        live(phase="decode", time_s=1.0),
        {"source": "metered", "phase": "decode", "energy_j": 1.0},
    ]
    found = against(run(rows), run(rows))
    assert [(p.identity.source, p.identity.phase) for p in found.points] == [
        ("live", "request"), ("metered", "decode"),
    ]  # fmt: skip


def test_phases_meet_where_the_partner_has_no_whole_requests() -> None:
    metered = run([{"source": "metered", "phase": "decode", "time_s": 1.0}])
    predicted = run([{"tpot_s": 1.0}, {"phase": "decode", "time_s": 1.1}])
    found = against(predicted, metered)
    assert [p.identity.phase for p in found.points] == ["decode"]


def test_only_the_sources_asked_for_are_compared() -> None:
    rows = [{"tpot_s": 1.0}, live(tpot_s=2.0)]
    found = against(run(rows), run(rows), sources=("live",))
    assert [p.identity.source for p in found.points] == ["live"]


def test_more_than_anybody_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.results.comparison.MOST_CHANGES", 3)
    one = run([{"point": i, "tpot_s": 1.0, "ttft_s": 1.0} for i in range(2)], points=[{}, {"batch_size": 2}])
    with pytest.raises(UsageError, match="2 points with 2 metrics each are too many to compare"):
        compare([one, one])
    assert against(one, one, metrics=("tpot_s",)).tests == 0


def test_points_that_only_names_keep_apart_say_how_to_join_them() -> None:
    before = run([{"tpot_s": 1.0}], points=[{"model": "llama 7b"}])
    after = run([{"tpot_s": 1.0}], points=[{"model": "llama-2-7b"}])
    assert [one.same for one in against(before, after).unmatched] == [
        "--same llama-7b=llama-2-7b",
        "--same llama-2-7b=llama-7b",
    ]
    joined = against(before, after, same=(("llama 7b", "llama-2-7b"),))
    assert len(joined.points) == 1
    other = run([{"tpot_s": 1.0}], points=[{"model": "llama-2-7b", "batch_size": 7}])
    assert {one.same for one in against(before, other).unmatched} == {""}


def test_a_disturbed_machine_is_told_once_a_run() -> None:
    found = "load average reached 9.0 on 2 cores; others ran here too"
    rows = [{"rule": "busy-machine", "finding": found}] * 2 + [{"rule": "prefix-cache", "finding": "other"}]
    noisy_run = run([{"tpot_s": 1.0}], findings=table("findings", rows))
    compared = compare([noisy_run, run([{"tpot_s": 1.0}])])
    assert compared.baseline.disturbed == (found,)
    assert compared.against[0].run.disturbed == ()
    (notice,) = comparison_notices(compared, redactor(compared, share=False))
    assert notice.title == "A run was measured on a disturbed machine"
    assert (notice.reason, notice.count) == (found, 1)
