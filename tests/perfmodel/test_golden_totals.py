"""Totals of two published shapes, worked out independently of this code; integers hold exactly."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.perfmodel.capacity import cache_tokens
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OperatorPhase, OperatorRow, operator_rows
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import A100, H100, LLAMA_8B, MIXTRAL, deploy

MATRIX_PRODUCTS = {
    "q", "k", "v", "o", "scores", "context", "gate", "up", "down", "router",
    "expert gate", "expert up", "expert down", "LM head",
}  # fmt: skip


def rows_of(model: Model, phase: OperatorPhase, **settings: object) -> list[OperatorRow]:
    workload = Workload(prompt_tokens=2048, output_tokens=256)
    return operator_rows(deploy(model, **settings), workload, phases=[phase])


def matrix_flops(rows: Sequence[OperatorRow]) -> float:
    return sum(row.count * row.flops for row in rows if row.operator in MATRIX_PRODUCTS)


@pytest.mark.parametrize(
    "model, phase, batch, flops, moved, a100_ms, h100_ms",
    [
        (LLAMA_8B, "prefill", 1, 29_707_532_779_520, 40_008_182_272, "102.038", "34.199"),
        (LLAMA_8B, "decode", 1, 16_098_186_240, 15_290_771_968, "7.499", "4.564"),
        (LLAMA_8B, "decode", 8, 128_785_489_920, 17_257_230_336, "8.464", "5.151"),
        (LLAMA_8B, "prefill", 64, 1_901_282_097_889_280, 1_614_903_156_736, "6497.9", "2168.9"),
        (LLAMA_8B, "decode", 64, 1_030_283_919_360, 32_988_897_280, "16.181", "9.848"),
        (MIXTRAL, "decode", 1, 26_588_861_440, 25_785_777_152, "12.646", "7.697"),
        (MIXTRAL, "decode", 8, 212_710_891_520, 86_418_391_040, "42.383", "25.797"),
        # The last bytes are published to ten digits: 63.99999992 of 64 expert reads are expected.
        (MIXTRAL, "decode", 64, 1_701_687_132_160, None, "54.725", "33.308"),
    ],
)
def test_golden_totals_and_times(
    model: Model, phase: str, batch: int, flops: int, moved: int | None, a100_ms: str, h100_ms: str
):
    workload = Workload(prompt_tokens=2048, output_tokens=256, batch_size=batch)
    for hardware, printed in ((A100, a100_ms), (H100, h100_ms)):
        metrics = predict_point(deploy(model, hardware), workload).phases[phase]
        digits = len(printed.partition(".")[2])
        assert f"{metrics['time_s'] * 1e3:.{digits}f}" == printed
        assert metrics["flops"] == flops
        if moved is not None:
            assert metrics["memory_traffic_bytes"] == moved
        else:
            assert metrics["memory_traffic_bytes"] == pytest.approx(1.115799625e11, rel=1e-9)


@pytest.mark.parametrize(
    "model, phase, settings, flops",
    [
        (LLAMA_8B, "prefill", {}, 29_688_401_494_016),
        (LLAMA_8B, "prefill", {"causal": False}, 30_787_376_250_880),
        (LLAMA_8B, "prefill", {"lm_head": "all"}, 31_839_129_436_160),
        (LLAMA_8B, "decode", {}, 16_083_582_976),
        (LLAMA_8B, "decode_last", {}, 16_217_276_416),
        (MIXTRAL, "prefill", {}, 52_781_652_115_456),
        (MIXTRAL, "decode", {}, 26_571_440_128),
        (MIXTRAL, "decode_last", {}, 26_705_133_568),
    ],
)
def test_matrix_product_flops(model: Model, phase: OperatorPhase, settings: dict[str, object], flops: int):
    assert matrix_flops(rows_of(model, phase, **settings)) == flops


def test_decode_after_2047_tokens_sees_2048():
    rows = operator_rows(deploy(), Workload(prompt_tokens=2047), phases=["decode"])
    assert matrix_flops(rows) == 16_083_058_688


def test_weights_are_stored_once():
    assert predict_point(deploy(LLAMA_8B), Workload()).phases["request"]["weights_bytes"] == 16_060_522_496
    assert predict_point(deploy(MIXTRAL), Workload()).phases["request"]["weights_bytes"] == 93_405_585_408


def test_decode_reads_every_weight_but_the_embedding():
    read = sum(row.count * row.weight_bytes for row in rows_of(LLAMA_8B, "decode"))
    assert read == 15_009_849_344
    # 16 060 522 496 stored, less the table 128256 x 4096 x 2 of which one row is gathered
    assert read == 16_060_522_496 - 128_256 * 4096 * 2


@pytest.mark.parametrize("batch, read", [(1, 25_497_706_496), (8, 84_113_825_792), (64, 9.314344e10)])
def test_decode_reads_the_experts_that_are_touched(batch: int, read: float):
    rows = operator_rows(deploy(MIXTRAL), Workload(batch_size=batch), phases=["decode"])
    assert sum(row.count * row.weight_bytes for row in rows) == pytest.approx(read, rel=1e-7)


def test_cache_of_one_token():
    request = predict_point(deploy(), Workload(prompt_tokens=1792, output_tokens=256)).phases["request"]
    # 32 layers x 2 x 8 heads x 128 x 2 bytes, for 2048 tokens
    assert request["kv_cache_bytes"] == 2048 * 131_072 == 268_435_456


def test_cache_tokens_beside_the_weights():
    eighty = A100.model_copy(update={"memory": 80e9})
    # (0.9 x 80e9 - 16 060 522 496) / 131 072 = 426 784.4
    assert cache_tokens(deploy(hardware=eighty)) == 426_784
    assert not predict_point(deploy(MIXTRAL, eighty), Workload()).fits


@pytest.mark.parametrize(
    "hardware, prefill_ms, decode_ms",
    [(A100, 100.5, (7.498, 8.454, 16.104)), (H100, 33.30, (4.564, 5.146, 9.802))],
)
def test_against_an_independent_speed_of_light(
    hardware: Hardware, prefill_ms: float, decode_ms: tuple[float, ...]
):
    # aiconfigurator 0.12.0 in its speed-of-light mode, prompt 2048; it leaves out elementwise traffic.
    prompt = predict_point(deploy(hardware=hardware), Workload()).phases["prefill"]["time_s"]
    assert prompt * 1e3 == pytest.approx(prefill_ms, rel=0.05)
    for batch, expected in zip((1, 8, 64), decode_ms, strict=True):
        point = predict_point(deploy(hardware=hardware), Workload(batch_size=batch))
        assert point.phases["decode"]["time_s"] * 1e3 == pytest.approx(expected, rel=0.01)


def test_two_way_split_of_mixtral_against_the_same():
    # Same tool, tensor parallel 2: it reads min(E, T k) experts where we expect 7.2 of 8 at batch 8.
    for batch, expected, wide in ((1, 6.324, 0.01), (8, 23.41, 0.12), (64, 27.40, 0.01)):
        split = deploy(MIXTRAL, parallelism=Parallelism(tensor=2))
        point = predict_point(split, Workload(batch_size=batch)).phases["decode"]
        alone = point["time_s"] - point["communication_s"]
        assert alone * 1e3 == pytest.approx(expected, rel=wide)
