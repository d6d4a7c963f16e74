"""Fits: a known device is found again, bands hold what they promise, and bad rows are refused or dropped."""

import numpy as np
import pytest

from engine.errors import UsageError
from engine.perfmodel.fit import band_factors, bands_of, folds_of
from engine.perfmodel.forms import Amount, kernel_time_s
from engine.perfmodel.kernel_table import amounts, gated_rows
from engine.perfmodel.operator_fit import fit_operator
from engine.perfmodel.summary import ARRAYS
from engine.spec.calibration import LawParameters, OperatorKind
from tests.perfmodel.synthetic import DEVICE, TRUE, columns, measured

KINDS: tuple[OperatorKind, ...] = ("gemm", "prefill_attention", "decode_attention")


@pytest.mark.parametrize("kind", KINDS)
def test_a_synthetic_device_is_recovered_within_two_percent(kind: OperatorKind) -> None:
    fit = fit_operator(kind, "bf16", measured(kind, noise=0.0), DEVICE).fit
    assert fit.held_out.p90 < 0.005
    for name, true in TRUE[kind].model_dump(mode="python").items():
        if true:
            assert getattr(fit.parameters, name) == pytest.approx(true, rel=0.02), name


@pytest.mark.parametrize("kind", KINDS)
def test_bands_cover_nine_of_ten_unseen_rows(kind: OperatorKind) -> None:
    fit = fit_operator(kind, "bf16", measured(kind, noise=0.1), DEVICE).fit
    assert 0.85 <= fit.held_out.coverage <= 0.95
    # Median of |noise| of a normal law is 0.6745 sigma.
    assert fit.held_out.median == pytest.approx(0.067, abs=0.02)
    assert fit.held_out.ratio == pytest.approx(1.0, abs=0.02)


def test_a_few_wild_rows_change_little() -> None:
    rows = measured("gemm", noise=0.0)
    rows["measured_s"][::11] *= 7
    fit = fit_operator("gemm", "bf16", rows, DEVICE).fit
    assert fit.parameters.compute_efficiency == pytest.approx(0.8, rel=0.03)
    assert fit.parameters.launch == pytest.approx(4e-6, rel=0.1)


def test_impossible_broken_and_missing_rows_are_dropped_with_a_count() -> None:
    rows = measured("gemm", noise=0.0)
    rows["measured_s"][0] = np.nan
    rows["measured_s"][1] = 0.0
    rows["measured_s"][2] = -1.0
    rows["measured_s"][3] = 1e9
    rows["n"][4] = np.nan
    rows["measured_s"][5] = 1e-9
    rows["k"][6:8] = 0.5, 1e300
    fitted = fit_operator("gemm", "bf16", rows, DEVICE)
    assert fitted.gated.dropped == {
        "no time, or not a number": 1,
        "time is not above zero": 2,
        "longer than an hour: wrong unit?": 1,
        "`n` is missing or not a whole number above zero": 1,
        "`k` is missing or not a whole number above zero": 2,
        "faster than the data sheet allows": 1,
    }
    assert fitted.fit.dropped == 8
    assert fitted.fit.rows == len(rows["m"]) - 8


def test_rows_in_another_unit_are_told_from_their_neighbours() -> None:
    rows = measured("gemm", noise=0.05)
    rows["measured_s"][::3] *= 1000
    fitted = fit_operator("gemm", "bf16", rows, DEVICE)
    assert fitted.gated.dropped == {"more than 20 times off all others: another unit?": 24}
    assert fitted.fit.held_out.median < 0.06


def test_a_kernel_that_cuts_its_cache_has_no_rate_of_a_lone_head() -> None:
    assert fit_operator(
        "decode_attention", "bf16", measured("decode_attention", noise=0.0), DEVICE
    ).fit.parameters.alone_rate == pytest.approx(1.4, rel=0.02)
    rows = columns("decode_attention")
    cut = TRUE["decode_attention"].model_copy(update={"alone_rate": None})
    amount = Amount(*amounts("decode_attention", "bf16", rows, DEVICE))
    rows["measured_s"] = kernel_time_s(ARRAYS, "waves", cut, amount)
    assert fit_operator("decode_attention", "bf16", rows, DEVICE).fit.parameters.alone_rate is None


def test_rows_that_stayed_in_a_large_cache_are_no_bad_rows() -> None:
    cached = DEVICE.model_copy(update={"l2": 96e6, "l2_bandwidth": 8e12})
    rows = measured("gemm", noise=0.0)
    # One row of 2048 x 512 weights in 16 bits moves 2.1 MB: 1.05 us from memory, 0.26 us from the cache.
    place = int(np.flatnonzero((rows["m"] == 1) & (rows["n"] == 512) & (rows["k"] == 2048))[0])
    rows["measured_s"][place] = 0.5e-6
    other = int(np.flatnonzero((rows["m"] == 1) & (rows["n"] == 1024) & (rows["k"] == 2048))[0])
    rows["measured_s"][other] = 0.1e-6
    assert gated_rows("gemm", "bf16", rows, cached).dropped == {
        "its data stayed in the last-level cache, as that of a model does not": 1,
        "faster than the data sheet allows": 1,
    }
    assert gated_rows("gemm", "bf16", rows, DEVICE).dropped == {"faster than the data sheet allows": 2}
    # A cache in front of the memory, as on an MI300X, holds what the L2 does not.
    behind = DEVICE.model_copy(update={"l2": 1e6, "memory_side_cache": 256e6})
    assert gated_rows("gemm", "bf16", rows, behind).dropped == {
        "its data stayed in the last-level cache, as that of a model does not": 2
    }


def test_one_row_is_no_calibration() -> None:
    rows = {name: column[:1] for name, column in measured("gemm", noise=0.0).items()}
    with pytest.raises(UsageError) as caught:
        fit_operator("gemm", "bf16", rows, DEVICE)
    assert caught.value.message == "`gemm` has 1 usable rows of 1 shapes, a fit needs 12 of 3"
    assert caught.value.hint == "measure more shapes"


def test_a_precision_the_device_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="`synthetic` does not offer fp8"):
        fit_operator("gemm", "fp8", measured("gemm", noise=0.0), DEVICE)


def test_a_missing_column_is_named() -> None:
    rows = measured("gemm", noise=0.0)
    del rows["k"]
    with pytest.raises(UsageError, match="rows of `gemm` need `k`"):
        fit_operator("gemm", "bf16", rows, DEVICE)


def test_decode_shapes_nobody_serves_are_judged_but_not_fitted() -> None:
    rows = measured("decode_attention", noise=0.0)
    odd = rows["num_heads"] == 32
    rows["num_kv_heads"][odd] = 2.0  # 16 queries a key head
    rows["measured_s"][odd] *= 50  # a fallback kernel
    fit = fit_operator("decode_attention", "bf16", rows, DEVICE).fit
    assert fit.rows == int((~odd).sum())
    assert fit.held_out.p90 < 0.01
    assert fit.held_out_all is not None
    assert fit.held_out_all.p90 > 0.5


def test_folds_hold_out_whole_sites_whatever_the_order() -> None:
    sites = np.array(["a", "b", "c", "a", "b"])
    folds = folds_of(sites)
    assert folds[0] == folds[3]
    assert folds[1] == folds[4]
    assert list(folds_of(sites[::-1])) == list(folds[::-1])


def test_sizes_with_few_rows_share_a_band() -> None:
    predicted = np.array([1e-6] * 30 + [1e-4] * 5 + [1e-2] * 30)
    bands = bands_of(predicted, predicted * 1.1)
    assert [(band.below, band.rows) for band in bands] == [(20e-6, 30), (None, 35)]
    low, high = band_factors(bands, np.array([1e-6, 1e-2]))
    assert low == pytest.approx([1.1, 1.1])
    assert high == pytest.approx([1.1, 1.1])


def test_a_cpu_is_fitted_with_a_rate_for_single_rows() -> None:
    cpu = DEVICE.model_copy(update={"sm_count": None})
    rows = measured("gemm", noise=0.0)
    exact = LawParameters.model_validate(
        {
            "launch": 2e-6,
            "compute_efficiency": 0.6,
            "memory_efficiency": 0.3,
            "single_row": 0.6,
            "root": 8e-7,
        },
        context={"trusted": True},
    )
    compute, memory, waves = amounts("gemm", "bf16", rows, cpu)
    assert waves is None
    amount = Amount(compute, memory, single=rows["m"] == 1)
    rows["measured_s"] = kernel_time_s(ARRAYS, "overlapped", exact, amount)
    found = fit_operator("gemm", "bf16", rows, cpu).fit.parameters
    assert found.single_row == pytest.approx(0.6, rel=0.02)
    assert found.memory_efficiency == pytest.approx(0.3, rel=0.02)


def test_products_of_a_cpu_copy_first_and_multiply_then() -> None:
    cpu = DEVICE.model_copy(update={"sm_count": None})
    rows = columns("gemm")
    compute, memory, _ = amounts("gemm", "bf16", rows, cpu)
    # Its single rows stream at another rate: 0.5 of the bandwidth, approached by sqrt(2 us x work).
    single = rows["m"] == 1
    work = np.where(single, memory / 0.5 + compute / 0.6, memory / 0.2 + compute / 0.6)
    rows["measured_s"] = 3e-6 + work + np.where(single, np.sqrt(2e-6 * work), 0.0)
    fit = fit_operator("gemm", "bf16", rows, cpu).fit
    assert fit.form == "added"
    assert fit.held_out.p90 < 0.01
    assert fit.parameters.memory_efficiency == pytest.approx(0.2, rel=0.02)
    assert fit.parameters.single_row == pytest.approx(0.5, rel=0.02)
    assert fit.parameters.single_row_root == pytest.approx(2e-6, rel=0.1)
    # One whose arithmetic hides behind its memory keeps the form of other devices.
    rows["measured_s"] = 3e-6 + ((memory / 0.5) ** 4 + (compute / 0.6) ** 4) ** 0.25
    assert fit_operator("gemm", "bf16", rows, cpu).fit.form == "overlapped"


def test_experts_are_used_evenly_and_their_rows_pass_through_memory() -> None:
    # 8 tokens with 2 of 64 experts each over 2 ranks: 16 rows, no expert twice, so 8 experts of this rank.
    shape = {"m": 8, "n": 100, "k": 1000, "num_experts": 64, "topk": 2, "tp": 1, "num_gpus": 2}
    values = {name: np.array([float(value)]) for name, value in shape.items()}
    compute, memory, _ = amounts("experts", "bf16", values, DEVICE)
    # A matrix set has 3 x 1000 x 100 weights; the 8 rows of this rank are worked on.
    assert compute[0] == pytest.approx(2 * 8 * 300_000 / 400e12)
    # 16 rows come in, leave and are added up with 1000 values and pass 6 x 100 between: 16 x 3600 + 8 x 1000.
    assert memory[0] == pytest.approx((8 * 300_000 * 2 + 65_600 * 2) / DEVICE.memory_bandwidth)


def test_an_expert_is_read_once_when_all_are_used() -> None:
    shape = {"m": 512, "n": 100, "k": 1000, "num_experts": 64, "topk": 2, "tp": 1, "num_gpus": 1}
    values = {name: np.array([float(value)]) for name, value in shape.items()}
    _, memory, _ = amounts("experts", "bf16", values, DEVICE)
    # 1024 rows x 3600 + 512 tokens x 1000.
    assert memory[0] == pytest.approx((64 * 300_000 * 2 + 4_198_400 * 2) / DEVICE.memory_bandwidth)


def test_skewed_routing_is_not_impossible() -> None:
    shape = {"m": 32, "n": 1024, "k": 4096, "num_experts": 64, "topk": 2, "tp": 1, "num_gpus": 1}
    values = {name: np.array([float(value)]) for name, value in shape.items()}
    compute, memory, _ = amounts("experts", "bf16", values, DEVICE)
    bound = max(compute[0], memory[0])
    for part, kept in ((0.5, 1), (0.04, 1), (0.02, 0)):
        # 64 experts when balanced, 2 when all tokens agree: a thirty-second of the weights.
        found = gated_rows("experts", "bf16", {**values, "measured_s": np.array([part * bound])}, DEVICE)
        assert len(found.rows) == kept, part
