"""What the LLM-para document promises of its analysis, line by line."""

from __future__ import annotations

import pytest

from engine.perfmodel.llm_para import llm_para_rows
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OperatorPhase, OperatorRow, operator_rows
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload
from tests.perfmodel.shapes import LLAMA_8B, MIXTRAL, deploy

LLAMA_2 = load_model("llama-2-7b")


def rows(
    model: Model, phase: OperatorPhase, work: Workload | None = None, **options: object
) -> dict[str, OperatorRow]:
    made = operator_rows(deploy(model, **options), work or Workload(), phases=[phase])
    return {row.operator: row for row in made}


def test_prefill_of_llama_2():
    found = rows(LLAMA_2, "prefill")
    projections = sum(found[name].count * found[name].flops for name in ("q", "k", "v"))
    assert projections == 2 * 3 * 4096**2 * 2048 * 32


def test_decode_attention_is_linear_in_the_context():
    works = [Workload(prompt_tokens=n - 1) for n in (1000, 2000, 3000)]
    flops = [rows(LLAMA_2, "decode", work)["scores"].flops for work in works]
    assert flops == [2 * 32 * 128 * n for n in (1000, 2000, 3000)]


def test_phases_see_the_declared_contexts():
    work = Workload(prompt_tokens=100, output_tokens=28)
    assert rows(LLAMA_2, "decode", work)["scores"].flops == 2 * 32 * 128 * 101
    assert rows(LLAMA_2, "decode_last", work)["scores"].flops == 2 * 32 * 128 * 128
    phases = [row["Phase"] for row in llm_para_rows(LLAMA_2, Quantization(), work)]
    assert list(dict.fromkeys(phases)) == ["Prefill", "Decode", "Decode_Last"]


def test_grouped_heads_shrink_keys_and_values():
    grouped = rows(LLAMA_8B, "decode")
    full = rows(LLAMA_8B.model_copy(update={"num_key_value_heads": 32}), "decode")
    assert full["k"].parameters == 4 * grouped["k"].parameters
    assert full["scores"].kv_read_bytes == 4 * grouped["scores"].kv_read_bytes
    assert full["scores"].flops == grouped["scores"].flops


def test_two_of_eight_experts():
    experts, dense = rows(MIXTRAL, "prefill"), rows(LLAMA_8B, "prefill")
    for expert, single in (("expert gate", "gate"), ("expert up", "up"), ("expert down", "down")):
        assert experts[expert].flops == 2 * dense[single].flops
        assert experts[expert].parameters == 8 * dense[single].parameters
    assert experts["router"].parameters == 8 * 4096


def test_gated_layers_have_three_matrices():
    plain = LLAMA_8B.model_copy(update={"gated_ffn": False})
    for model, count in ((LLAMA_8B, 3), (plain, 2)):
        found = rows(model, "decode")
        matrices = [name for name in ("gate", "up", "down") if name in found]
        assert len(matrices) == count
        assert sum(found[name].parameters for name in matrices) == count * 4096 * 14336


def test_bits_of_each_component_are_exact():
    narrow = Quantization(weight_attn=4, weight_ffn=8, kv_cache=8, activation=16, rope=32)
    before, after = rows(LLAMA_8B, "decode"), rows(LLAMA_8B, "decode", quantization=narrow)
    for name, share in (("q", 4), ("o", 4), ("gate", 2), ("down", 2)):
        assert after[name].weight_bytes * share == before[name].weight_bytes
    assert after["scores"].kv_read_bytes * 2 == before["scores"].kv_read_bytes


def test_ternary_weights():
    found = rows(LLAMA_8B, "decode", quantization=Quantization(weight_ffn=1.58))
    assert found["gate"].weight_bytes == pytest.approx(found["gate"].parameters * 1.58 / 8)
    bitnet = load_model("bitnet-b1.58-2b4t")
    form = load_quantization("bitnet-1.58")
    point = predict_point(deploy(bitnet, load_hardware("h100-sxm-80gb"), form), Workload())
    assert point.phases["request"]["weights_bytes"] < 0.5 * 2 * point.phases["request"]["parameters"]


def test_bytes_of_a_matrix_product():
    row = rows(LLAMA_8B, "prefill", Workload(prompt_tokens=64))["up"]
    m, k, n = 64, 4096, 14336
    assert (row.input_bytes, row.output_bytes, row.weight_bytes) == (2 * m * k, 2 * m * n, 2 * k * n)


def test_density_is_operations_over_bytes():
    for row in operator_rows(deploy(LLAMA_8B), Workload()):
        if row.total_bytes:
            moved = (
                row.input_bytes + row.output_bytes + row.weight_bytes + row.kv_read_bytes + row.kv_write_bytes
            )
            assert row.intensity == pytest.approx(row.flops / moved)


@pytest.mark.parametrize(
    "name, total", [("llama-2-7b", 6.738e9), ("mixtral-8x7b", 46.7e9), ("llama-3-8b", 8.03e9)]
)
def test_parameters_with_embeddings(name: str, total: float):
    made = operator_rows(deploy(load_model(name)), Workload(), phases=["decode"])
    assert sum(row.count * row.parameters for row in made) == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize(
    "device, ridge",
    [
        ("a100", 12.54),
        ("h100", 20.0),
        ("snapdragon-8-gen-2", 84.96),
        ("dram-pim", 1.0),
        ("nand-pim", 1.0),
        ("xeon-platinum", 13.67),
        ("m2-ultra", 34.0),
        ("mi250x", 14.60),
    ],
)
def test_ridge_points_of_the_documents_devices(device: str, ridge: float):
    sheet = load_hardware(f"document-{device}")
    peak = max(value for _, value in sheet.peak if isinstance(value, float))
    assert peak / sheet.memory_bandwidth == pytest.approx(ridge, abs=0.005)


def test_labels_follow_the_ridge():
    for row in operator_rows(deploy(LLAMA_8B), Workload(batch_size=4)):
        if row.intensity is not None:
            ridge = row.peak_flops_per_s / row.bandwidth_bytes_per_s
            assert row.bound == ("memory" if row.intensity < ridge else "compute")
            attainable = min(row.peak_flops_per_s, row.intensity * row.bandwidth_bytes_per_s)
            assert row.attainable_flops_per_s == attainable
