"""The dialect of LLM-para: columns, names, order and the fixture values of its first version."""

from __future__ import annotations

import csv
import io

import pytest

from engine.perfmodel.llm_para import COLUMNS, llm_para_csv, llm_para_rows
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload
from tests.perfmodel.shapes import LLAMA_8B, MIXTRAL

# 16 bits throughout, the rotary table too.
BITS = Quantization(rope=16)


def rows(model: Model = LLAMA_8B, bits: Quantization = BITS, **work: int) -> list[dict[str, str | float]]:
    return llm_para_rows(model, bits, Workload(prompt_tokens=2048, output_tokens=256, **work))


def cell(made: list[dict[str, str | float]], phase: str, operation: str) -> dict[str, str | float]:
    (found,) = [r for r in made if (r["Phase"], r["Operation"]) == (phase, operation)]
    return found


@pytest.mark.parametrize(
    "phase, operation, flops, total, density",
    [
        ("Prefill", "xW_Q", 68_719_476_736, 67_108_864, 1024.0),
        ("Prefill", "Q × Kᵀ", 34_359_738_368, 289_406_976, 118.72),
        ("Prefill", "FFN-1 (with Gate)", 481_065_697_280, 310_378_496, 1549.93),
        ("Prefill", "RoPE-Q", 16_777_216, 34_078_720, 0.49),
        ("Decode", "Q × Kᵀ", 16_785_408, 4_335_680, 3.87),
        ("Decode", "FFN-2", 117_440_512, 117_477_376, 1.0),
        # the last step sees 2048 + 256 positions
        ("Decode_Last", "Q × Kᵀ", 2 * 32 * 128 * 2304, 8192 + 2304 * 2048 + 2304 * 64, 3.87),
    ],
)
def test_fixture_values(phase: str, operation: str, flops: float, total: float, density: float):
    found = cell(rows(), phase, operation)
    assert (found["FLOPs"], found["Total Bytes"], found["Density (Op/Byte)"]) == (flops, total, density)


def test_fixture_values_of_mixtral():
    made = rows(MIXTRAL)
    router = cell(made, "Decode", "Router")
    assert (router["FLOPs"], router["Total Bytes"]) == (65_536, 73_744)
    assert cell(made, "Decode", "FFN-1(with MoE)")["FLOPs"] == 469_790_720
    # the dialect charges every expert in prefill, k in decode
    assert cell(made, "Prefill", "FFN-2(with MoE)")["Param Count"] == 8 * 4096 * 14336
    assert cell(made, "Decode", "FFN-2(with MoE)")["Param Count"] == 2 * 4096 * 14336
    assert cell(made, "Prefill", "FFN-1(with MoE)")["weight_shape"] == "(4096, 229376)"


def test_order_and_columns():
    attention = ["xW_Q", "xW_K", "xW_V", "RoPE-Q", "RoPE-K", "Q × Kᵀ", "Attn × V", "xW_O"]
    for model, tail in (
        (LLAMA_8B, ["FFN-1 (with Gate)", "FFN-2"]),
        (LLAMA_8B.model_copy(update={"gated_ffn": False}), ["FFN-1", "FFN-2"]),
        (MIXTRAL, ["Router", "FFN-1(with MoE)", "FFN-2(with MoE)"]),
    ):
        made = rows(model)
        assert [r["Operation"] for r in made] == 3 * (attention + tail)
        assert [r["Phase"] for r in made[:: len(attention + tail)]] == ["Prefill", "Decode", "Decode_Last"]
        assert all(tuple(r) == COLUMNS for r in made)


def test_without_rotary_embedding_the_rows_are_gone():
    made = rows(LLAMA_8B.model_copy(update={"position_embedding": "none"}))
    assert not [r for r in made if str(r["Operation"]).startswith("RoPE")]


def test_every_density_is_operations_over_bytes():
    for row in rows(batch_size=3):
        parts = (row["Input1 Bytes"], row["Input2 Bytes"], row["Output Bytes"])
        assert row["Total Bytes"] == sum(parts)
        assert row["Density (Op/Byte)"] == round(row["FLOPs"] / row["Total Bytes"], 2)


def test_bits_of_each_component():
    narrow = rows(bits=Quantization(weight_attn=4, weight_ffn=8, kv_cache=8, activation=16, rope=32))
    wide = rows()
    for operation, share in (("xW_Q", 4), ("FFN-2", 2), ("Q × Kᵀ", 2), ("RoPE-Q", 0.5)):
        before, after = (cell(made, "Prefill", operation) for made in (wide, narrow))
        assert after["Input2 Bytes"] == before["Input2 Bytes"] / share
        assert after["Input1 Bytes"] == before["Input1 Bytes"]


def test_as_text():
    text = llm_para_csv(rows())
    first = text.splitlines()[1]
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert first == (
        "Prefill,xW_Q,68719476736.0,16777216.0,16777216.0,33554432.0,16777216.0,67108864.0,1024.0,"
        '"(1, 2048, 4096)","(4096, 4096)"'
    )
    assert len(list(csv.DictReader(io.StringIO(text)))) == 30
