"""What is known of the noise of a value, by where it comes from."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from engine.results.spread import Reading, block_length, from_values, good_requests
from engine.results.student import t_quantile
from tests.results.comparing import interval, live, requests, table


def reading(row, asked=(), noise=None) -> Reading:
    rows = [{"point": 0, "phase": "request", "status": "ok", **row}]
    return Reading(rows, good_requests(table("requests", asked) if asked else None), noise)


def test_the_error_of_a_stored_interval_follows_from_its_repeats() -> None:
    # 5 repeats: half = 2.776 standard errors, though `_n` counts 200 requests.
    side = reading(live(**interval("ttft_s", 0.2, 0.02776, repeats=5))).side("ttft_s")
    assert side is not None
    assert (side.how, side.n, side.degrees) == ("repeats", 5, 4)
    assert side.above == pytest.approx(0.01, rel=1e-3)
    assert (side.low, side.high) == (0.2 - 0.02776, 0.2 + 0.02776)


def test_repeats_are_counted_in_the_requests_where_there_are_any() -> None:
    row = live(**interval("ttft_s", 0.2, 0.01, repeats=9))
    side = reading(row, requests([[0.1] * 3] * 4)).side("ttft_s")
    assert side is not None
    assert side.n == 4


def test_an_end_cut_off_at_zero_is_not_taken_for_certainty() -> None:
    row = {**live(**interval("ttft_s", 0.1, 0.4, repeats=3)), "ttft_s_low": 0.0}
    side = reading(row).side("ttft_s")
    assert side is not None
    assert side.below == side.above == pytest.approx(0.4 / t_quantile(2))


def test_an_interval_of_unknown_repeats_is_read_with_the_normal_factor() -> None:
    row = {"source": "run_folder", "tpot_s": 10.0, "tpot_s_low": 8.0, "tpot_s_high": 12.0}
    side = reading(row).side("tpot_s")
    assert side is not None
    assert (side.how, side.n) == ("interval", None)
    assert side.above == pytest.approx(2 / 1.959964, rel=1e-6)


def test_trials_of_a_meter_are_its_repeats() -> None:
    row = {"source": "metered", "energy_j": 5.0, "energy_j_low": 4.0, "energy_j_high": 6.0, "energy_j_n": 10}
    side = reading(row).side("energy_j")
    assert side is not None
    assert side.degrees == 9
    assert side.above == pytest.approx(1 / 2.262, rel=1e-3)


def test_the_band_of_a_prediction_covers_nine_of_ten() -> None:
    row = {"source": "predicted", "tpot_s": 10.0, "tpot_s_low": 8.0, "tpot_s_high": 14.0}
    side = reading(row).side("tpot_s")
    assert side is not None
    assert (side.how, side.below, side.above) == (
        "band", pytest.approx(2 / 1.644854, rel=1e-6), pytest.approx(4 / 1.644854, rel=1e-6),
    )  # fmt: skip


def test_a_prediction_without_a_band_is_exact() -> None:
    side = reading({"source": "predicted", "tpot_s": 10.0}).side("tpot_s")
    assert side is not None
    assert side.exact


def test_several_rows_of_one_point_are_repeats() -> None:
    rows = [{"source": "run_folder", "phase": "request", "tpot_s": value} for value in (1.0, 2.0, 3.0)]
    side = Reading(rows, {}).side("tpot_s")
    assert side is not None
    # mean 2, standard deviation 1, error 1/sqrt(3)
    assert (side.value, side.how, side.n, side.degrees) == (2.0, "rows", 3, 2)
    assert side.above == pytest.approx(1 / math.sqrt(3))


def test_failures_are_a_share_of_requests() -> None:
    row = live(error_rate=0.0, completed_requests=48, failed_requests=0)
    side = reading(row).side("error_rate")
    assert side is not None
    # One failure and one success more: 1 of 50, error sqrt(0.02 x 0.98 / 50).
    assert (side.value, side.how, side.n) == (0.0, "share", 48)
    assert side.above == pytest.approx(math.sqrt(0.02 * 0.98 / 50))


def test_a_value_measured_once_has_no_noise_that_is_known() -> None:
    side = reading(live(host_rss_peak_bytes=1e9)).side("host_rss_peak_bytes")
    assert side is not None
    assert (side.how, side.known) == ("once", False)
    assumed = reading(live(host_rss_peak_bytes=1e9), noise=0.03).side("host_rss_peak_bytes")
    assert assumed is not None
    assert (assumed.how, assumed.above) == ("assumed", 3e7)


def test_noise_between_runs_is_added_to_that_of_repeats() -> None:
    row = live(**interval("ttft_s", 1.0, 0.02776, repeats=5))  # an error of 0.01 with 4 degrees
    side = reading(row, noise=0.03).side("ttft_s")
    assert side is not None
    assert side.above == pytest.approx(math.hypot(0.01, 0.03), rel=1e-3)
    # Welch and Satterthwaite: (0.01^2 + 0.03^2)^2 / (0.01^4 / 4 + 0) = 100 x 4.
    assert side.degrees == pytest.approx(400, rel=1e-2)
    exact = reading({"source": "predicted", "ttft_s": 1.0}, noise=0.03).side("ttft_s")
    assert exact is not None
    assert exact.exact


def test_what_is_absent_has_no_side() -> None:
    assert reading(live(ttft_s=None)).side("ttft_s") is None
    assert reading(live(ttft_s=math.nan)).side("ttft_s") is None


def test_one_repeat_is_drawn_in_blocks() -> None:
    # 27 requests, blocks of 3. By hand: the error of the mean of k = 9 blocks drawn from 27 circular ones.
    values = [float(i % 7) + 1 for i in range(27)]
    assert block_length(27) == 3
    side = reading(live(e2e_s=statistics.fmean(values)), requests([values])).side("e2e_s")
    assert side is not None
    around = [*values, *values[:2]]
    blocks = [statistics.fmean(around[i : i + 3]) for i in range(27)]
    error = math.sqrt(statistics.fmean([(b - statistics.fmean(values)) ** 2 for b in blocks]) / 9)
    assert (side.how, side.n, side.degrees) == ("requests", 27, 8)
    assert side.above == pytest.approx(error)


def test_blocks_of_independent_requests_give_the_usual_error() -> None:
    generator = random.Random(4)
    values = [generator.gauss(10, 1) for _ in range(4000)]
    side = reading(live(e2e_s=10.0), requests([values])).side("e2e_s")
    assert side is not None
    assert side.above == pytest.approx(1 / math.sqrt(4000), rel=0.25)


def test_too_few_requests_say_nothing() -> None:
    side = reading(live(e2e_s=1.0), requests([[1.0, 1.1, 0.9, 1.0]])).side("e2e_s")
    assert side is not None
    assert side.how == "once"


def test_percentiles_of_several_repeats_spread_over_them() -> None:
    repeats = [[float(v) for v in range(100)], [v + 1.0 for v in range(100)], [v + 2.0 for v in range(100)]]
    side = reading(live(e2e_s_p99=99.0), requests(repeats)).side("e2e_s_p99")
    assert side is not None
    # Percentiles 98.01, 99.01, 100.01: standard deviation 1, error 1/sqrt(3).
    assert (side.value, side.how, side.n) == (99.0, "repeats", 3)
    assert side.above == pytest.approx(1 / math.sqrt(3))


def test_a_percentile_of_one_repeat_is_drawn_the_same_each_time() -> None:
    generator = random.Random(1)
    asked = requests([[generator.expovariate(1.0) for _ in range(400)]])
    row = live(e2e_s_p99=4.6)
    first, second = (reading(row, asked).side("e2e_s_p99") for _ in range(2))
    assert first == second
    assert first is not None
    assert first.above is not None
    assert 0.05 < first.above < 2


def test_warm_up_and_failures_are_left_out() -> None:
    rows = requests([[1.0] * 3])
    rows[0]["run_phase"] = "warmup"
    rows[1]["outcome"] = "timeout"
    found = good_requests(table("requests", rows))
    assert [row["request"] for row in found[0, "concurrency 1"][0]] == [2]


@pytest.mark.parametrize(
    ("metric", "value"),
    [("ttft_s", 0.1), ("e2e_s", 1.0), ("tpot_s", 0.09), ("ntpot_s", 1 / 11),
     ("output_tokens_per_s_per_user", 1 / 0.09), ("queue_s", 0.0), ("time_s", 1.0)],
)  # fmt: skip
def test_requests_are_read_as_the_measurement_reads_them(metric: str, value: float) -> None:
    # A latency of 1 s: first token after 0.1 s, ten more in 0.9 s.
    side = reading(live(**{metric: value}), requests([[1.0] * 30])).side(metric)
    assert side is not None
    assert side.how == "requests"
    assert side.above == pytest.approx(0.0, abs=1e-9)


def test_the_mean_of_values() -> None:
    side = from_values([3.0, 5.0], how="rows")
    assert (side.value, side.degrees) == (4.0, 1)
    assert side.high == pytest.approx(4 + 12.7062, abs=1e-3)
