"""Effective bytes of number formats, and the arithmetic operands imply."""

from __future__ import annotations

import pytest

from engine.perfmodel.quantized import TensorFormat, compute_precision, formats_of, peak_flops_per_s
from engine.perfmodel.rows import operator_rows
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload
from tests.perfmodel.shapes import H100, LLAMA_8B, deploy, device


@pytest.mark.parametrize(
    "bits, group, extra, expected",
    [
        (4, 128, 16 + 4, 0.51953125),
        (4, 32, 16 + 4, 0.578125),
        (4, 128, 16, 0.515625),
        (8, 128, 16, 1.015625),
        (4, 32, 8, 0.53125),
        (4, 16, 8, 0.5625),
        (8, 16384, 32, 1.000244140625),
        (4, 32, 16, 0.5625),
        (8, 32, 16, 1.0625),
    ],
)
def test_bytes_per_element(bits: float, group: int, extra: float, expected: float):
    made = TensorFormat(bits, group, extra)
    assert made.element_bytes == expected
    # whole groups: the matrix is exactly that many bytes
    assert made.matrix_bytes(4096, 4096) == 4096 * 4096 * expected


def test_every_output_has_whole_groups():
    # 100 inputs need one group of 128 for each of 10 outputs
    assert TensorFormat(4, 128, 16).matrix_bytes(100, 10) == 100 * 10 / 2 + 10 * 2
    assert TensorFormat(4, 32, 16).matrix_bytes(100, 10) == 500 + 10 * 4 * 2


def test_odd_bit_widths():
    assert TensorFormat(1.58).matrix_bytes(1000, 10) == 10_000 * 1.58 / 8


def test_only_narrow_components_carry_scales():
    made = formats_of(Quantization(weight_attn=4, weight_ffn=8, group_size=128))
    assert made.attention.group_size == 128
    assert made.feed_forward.element_bytes == 1.015625
    assert made.experts == made.feed_forward
    assert made.embedding.group_size is None
    assert made.lm_head == made.embedding
    assert made.kv.element_bytes == 2


def test_cache_groups():
    made = formats_of(Quantization(kv_cache=8, kv_group_size=64, kv_scale_bits=16))
    assert made.kv.element_bytes == 1 + 2 / 64


@pytest.mark.parametrize(
    "settings, bits, expected",
    [
        ({}, (16, 16), "bf16"),
        ({}, (4, 16), "bf16"),
        ({}, (8, 8), "int8"),
        ({"integer": False}, (8, 8), "fp8"),
        ({"integer": False}, (4, 4), "fp4"),
        ({}, (1.58, 8), "int8"),
        ({}, (32, 16), "fp32"),
        ({}, (6, 6), "int8"),
        ({"compute": "fp16"}, (4, 16), "fp16"),
    ],
)
def test_the_wider_operand_decides(settings: dict[str, object], bits: tuple[float, ...], expected: str):
    assert compute_precision(Quantization(**settings), *bits) == expected


def test_sixteen_bit_formats_share_a_peak():
    old = device(peak={"fp16": "125 TFLOP/s", "fp32": "15 TFLOP/s"})
    assert peak_flops_per_s(old, "bf16") == 125e12
    assert peak_flops_per_s(old, "fp8") is None


def cells(quantization: Quantization) -> dict[str, object]:
    made = operator_rows(deploy(LLAMA_8B, H100, quantization), Workload(), phases=["decode"])
    return {row.operator: row for row in made}


def test_separate_bits_for_each_component():
    made = cells(Quantization(weight_attn=4, weight_ffn=8, kv_cache=8, activation=16))
    full = cells(Quantization())
    assert made["q"].weight_bytes == full["q"].weight_bytes / 4
    assert made["gate"].weight_bytes == full["gate"].weight_bytes / 2
    assert made["scores"].kv_read_bytes == full["scores"].kv_read_bytes / 2
    assert made["LM head"].weight_bytes == full["LM head"].weight_bytes
    # weights alone are narrow: arithmetic stays at the activations' 16 bits
    assert {made[name].precision for name in ("q", "gate", "scores", "LM head")} == {"bf16"}


def test_eight_bit_operands_use_the_eight_bit_peak():
    made = cells(Quantization(weight_attn=8, weight_ffn=8, activation=8, integer=False))
    assert (made["gate"].precision, made["gate"].peak_flops_per_s) == ("fp8", 1979e12)
    # the head stays at 16 bits, the cache too
    assert (made["LM head"].precision, made["scores"].precision) == ("bf16", "bf16")


def test_published_footprint_of_ternary_weights():
    made = cells(Quantization(weight_ffn=1.58))
    assert made["gate"].weight_bytes == pytest.approx(4096 * 14336 * 1.58 / 8)
