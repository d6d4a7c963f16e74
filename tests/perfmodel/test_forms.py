"""The three forms of kernel time: hand-worked values, limits, and what holds whatever the parameters."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.forms import Amount, Form, alone_s, filled_share, fourth_mean, kernel_time_s, tile_share
from engine.spec.calibration import LawParameters


def law(**given: float) -> LawParameters:
    """Parameters from plain numbers."""
    neutral = {"launch": 0.0, "memory_efficiency": 1.0}
    return LawParameters.model_validate({**neutral, **given}, context={"trusted": True})


def seconds(form: Form, parameters: LawParameters, *amount: float | None) -> float:
    return float(kernel_time_s(SCALAR, form, parameters, Amount(*amount)))


def test_overlapped_is_launch_and_the_larger_rate() -> None:
    # 10 us launch; 80 us of arithmetic at half the peak are 160 us; memory is negligible.
    p = law(launch=10e-6, compute_efficiency=0.5)
    assert seconds("overlapped", p, 80e-6, 0.0) == pytest.approx(170e-6)


def test_overlapped_costs_a_fifth_more_where_both_are_equal() -> None:
    # (1 + 1)^(1/4) = 1.189
    assert fourth_mean(SCALAR, 1.0, 1.0) == pytest.approx(2**0.25)
    assert seconds("overlapped", law(compute_efficiency=1.0), 1e-3, 1e-3) == pytest.approx(2**0.25 * 1e-3)


def test_part_of_the_last_wave_is_lost() -> None:
    # 1.5 waves of tiles take 2: a third more, of which the kernel loses half: 1 + 0.5 x (2 / 1.5 - 1) = 7/6.
    p = law(compute_efficiency=1.0, wave_share=0.5)
    assert seconds("overlapped", p, 6e-3, 0.0, 1.5) == pytest.approx(7e-3)


def test_added_runs_one_after_the_other_in_whole_waves() -> None:
    # 0.5 waves take a whole one: 2 x 1 ms of arithmetic, 3 ms of memory at half rate, 5 us a wave.
    p = law(compute_efficiency=1.0, memory_efficiency=0.5, wave_cost=5e-6)
    assert seconds("added", p, 1e-3, 1.5e-3, 0.5) == pytest.approx(2e-3 + 3e-3 + 5e-6)


def test_waves_decide_where_items_are_many_and_small() -> None:
    # 1000 waves of 4 us are 4 ms; a microsecond of memory does not show.
    assert seconds("waves", law(wave_cost=4e-6), 0.0, 1e-6, 1000.0) == pytest.approx(4e-3)


def test_a_lone_head_is_read_by_one_multiprocessor() -> None:
    # A quarter of a wave: four times the memory time at a fair share, which one multiprocessor beats by half.
    p = law(alone_rate=1.5)
    alone = alone_s(SCALAR, 300e-6, 0.25)
    assert alone == pytest.approx(1200e-6)
    found = kernel_time_s(SCALAR, "waves", p, Amount(0.0, 300e-6, 0.25, alone_s=alone))
    # (300^4 + 800^4)^(1/4) = 804 us.
    assert float(found) == pytest.approx((300e-6**4 + 800e-6**4) ** 0.25)
    assert alone_s(SCALAR, 300e-6, 7.0) == 300e-6


def test_a_tile_walks_along_the_depth() -> None:
    # 8192 columns at 1 ns each are 8.2 us, next to which 1 us of memory does not show: a part in 20 000.
    p = law(depth_cost=1e-9, compute_efficiency=1.0)
    found = kernel_time_s(SCALAR, "overlapped", p, Amount(1e-7, 1e-6, None, 8192.0))
    assert float(found) == pytest.approx(8.192e-6, rel=1e-4)


def test_the_root_vanishes_against_long_kernels() -> None:
    # sqrt(1 us x 100 us) = 10 us on top of 100 us; on top of 1 s it is 1 ms.
    p = law(root=1e-6)
    assert seconds("waves", p, 0.0, 100e-6) == pytest.approx(110e-6)
    assert seconds("waves", p, 0.0, 1.0) == pytest.approx(1.001)


def test_tiles_of_a_product_over_the_multiprocessors() -> None:
    # ceil(257 / 128) tiles over 6 units are half a wave for each row of tiles.
    assert tile_share(257, 6) == 3 / 6
    # Cut off at the edge they are 257 / 128; a single column of tiles is one, however narrow.
    assert filled_share(257, 6) == 257 / 128 / 6
    assert filled_share(64, 6) == 1 / 6


def test_a_tile_that_the_edge_cuts_off_takes_as_long_as_a_whole_one() -> None:
    # A row of tiles is half a wave, and 10 us of arithmetic for each of its rows: 129 rows are two tiles, one
    # wave, and take as long as 256 rows.
    p = law(compute_efficiency=1.0, wave_share=1.0)
    amount = Amount(1.29e-3, 0.0, 1.0, filled=129 / 128 * 0.5)
    assert float(kernel_time_s(SCALAR, "overlapped", p, amount)) == pytest.approx(2.56e-3)
    assert float(kernel_time_s(SCALAR, "added", p, amount)) == pytest.approx(2.56e-3)


positive = st.floats(1e-7, 10.0)
efficiency = st.floats(0.05, 1.0)


@settings(deadline=None)
@given(
    form=st.sampled_from(["overlapped", "added", "waves"]),
    compute=positive,
    memory=positive,
    waves=st.floats(0.01, 1e4),
    parameters=st.tuples(efficiency, efficiency, st.floats(0, 1), st.floats(0, 1e-4), st.floats(0, 1e-4)),
)
def test_no_kernel_is_faster_than_the_sheet_or_faster_with_more_to_do(
    form: Form, compute: float, memory: float, waves: float, parameters: tuple[float, ...]
) -> None:
    e_c, e_m, share, cost, root = parameters
    p = law(
        launch=1e-6,
        compute_efficiency=e_c,
        memory_efficiency=e_m,
        wave_share=share,
        wave_cost=cost,
        root=root,
    )
    time = seconds(form, p, compute, memory, waves)
    assert time >= memory * (1 - 1e-12)
    if form != "waves":
        assert time >= compute * (1 - 1e-12)
    # More bytes, more time; and a hundredth more of them never jumps.
    more = seconds(form, p, compute, memory * 1.01, waves)
    assert time <= more * (1 + 1e-12)
    assert more <= 1.0101 * time
    assert math.isfinite(more)


def test_products_of_a_single_row_may_have_a_rate_of_their_own() -> None:
    p = law(memory_efficiency=0.25, single_row=0.5, compute_efficiency=1.0)
    amount = Amount(0.0, 1e-3, None)
    # A matrix-vector kernel at half the bandwidth, all others at a quarter.
    assert kernel_time_s(SCALAR, "overlapped", p, amount._replace(single=True)) == pytest.approx(2e-3)
    assert kernel_time_s(SCALAR, "overlapped", p, amount) == pytest.approx(4e-3)
