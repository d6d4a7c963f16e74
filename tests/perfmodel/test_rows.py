"""Operator rows: order, hand-worked cells, sums over layers and models, formulas a reader can check."""

from __future__ import annotations

import re

import pytest

from engine.perfmodel.layers import model_blocks
from engine.perfmodel.operators import share_of
from engine.perfmodel.parameters import count_parameters
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OPERATOR_PHASES, OperatorRow, ceilings, operator_rows
from engine.spec.analytical import AnalyticalSettings
from engine.spec.catalog import catalog_files, load_model
from engine.spec.model import Model, Rope
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Speculation, Workload
from tests.perfmodel.shapes import LATENT, LLAMA_8B, MIXTRAL, MODELS, TINY, WINDOWED, deploy, device

CATALOGUE = sorted(catalog_files("model"))


def rows(model: Model = TINY, workload: Workload | None = None, **options: object) -> dict[str, OperatorRow]:
    """Decode rows by name (the last of each name)."""
    made = operator_rows(deploy(model, **options), workload or Workload(prompt_tokens=3), phases=["decode"])
    return {row.operator: row for row in made}


def test_rows_of_a_dense_layer_in_order():
    made = operator_rows(deploy(LLAMA_8B), Workload(), phases=["prefill"])
    assert [(row.operator, row.count) for row in made] == [
        ("embedding", 1),
        *((name, 32) for name in ("norm", "q", "k", "v", "RoPE q", "RoPE k", "KV append")),
        *((name, 32) for name in ("scores", "softmax", "context", "o", "residual", "norm")),
        *((name, 32) for name in ("gate", "up", "act", "down", "residual")),
        ("final norm", 1),
        ("LM head", 1),
    ]  # fmt: skip


def test_rows_of_a_mixture_of_experts():
    names = [row.operator for row in operator_rows(deploy(MIXTRAL), Workload(), phases=["decode"])]
    start = names.index("router")
    assert names[start : start + 6] == [
        "router", "expert gate", "expert up", "expert act", "expert down", "combine",
    ]  # fmt: skip


def test_a_tiny_decode_step_by_hand():
    # hidden 8, two query heads of 4, one key/value head, feed-forward 16, vocabulary 10, 16 bits;
    # prompt 3, so the step sees 4 positions.
    found = rows()
    q = found["q"]
    assert (q.flops, q.parameters) == (2 * 8 * 8, 64)
    assert (q.weight_bytes, q.input_bytes, q.output_bytes) == (128, 16, 16)
    assert (found["k"].flops, found["k"].parameters) == (2 * 8 * 4, 32)
    assert (found["norm"].flops, found["norm"].total_bytes) == (4 * 8, 2 * 8 * 2 + 8 * 2)
    assert (found["RoPE q"].flops, found["RoPE q"].total_bytes) == (3 * 8, 2 * 8 * 2)
    # read the new key and value as activations, write them to the cache
    assert (found["KV append"].input_bytes, found["KV append"].kv_write_bytes) == (16, 16)
    scores = found["scores"]
    assert (scores.flops, scores.input_bytes, scores.kv_read_bytes) == (2 * 2 * 4 * 4, 16, 4 * 4 * 2)
    assert (found["softmax"].flops, found["softmax"].total_bytes) == (5 * 2 * 4, 0)
    assert found["softmax"].intensity is None
    assert (found["context"].kv_read_bytes, found["context"].output_bytes) == (32, 16)
    assert (found["act"].flops, found["act"].total_bytes) == (5 * 16, 3 * 16 * 2)
    assert (found["residual"].flops, found["residual"].total_bytes) == (8, 3 * 8 * 2)
    assert (found["LM head"].flops, found["LM head"].weight_bytes) == (2 * 8 * 10, 8 * 10 * 2)
    assert (found["embedding"].flops, found["embedding"].input_bytes) == (0, 16)
    # decode attention of a layer moves at least K and V of 4 positions, the new pair, q and the output
    attention = scores.kv_read_bytes + found["context"].kv_read_bytes
    assert attention == 4 * 1 * (4 + 4) * 2


def test_roof_of_a_row():
    found = rows(LLAMA_8B, Workload(prompt_tokens=2048))["q"]
    # 33 554 432 FLOPs over 33 570 816 bytes
    assert found.intensity == pytest.approx(33_554_432 / 33_570_816)
    assert found.attainable_flops_per_s == pytest.approx(found.intensity * 2.039e12)
    assert found.share_of_peak == pytest.approx(found.attainable_flops_per_s / 312e12)
    assert found.bound == "memory"
    assert found.time_s == pytest.approx(33_570_816 / 2.039e12)


@pytest.mark.parametrize("phase", OPERATOR_PHASES)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_rows_add_up_to_the_phase(model: Model, phase: str):
    work = Workload(prompt_tokens=300, output_tokens=20, batch_size=8)
    made = operator_rows(deploy(model), work, phases=[phase])
    metrics = predict_point(deploy(model), work).phases[phase]
    assert sum(r.count * r.flops for r in made) == pytest.approx(metrics["flops"], rel=1e-12)
    assert sum(r.count * r.total_bytes for r in made) == pytest.approx(
        metrics["memory_traffic_bytes"], rel=1e-12
    )
    assert sum(r.count * r.time_s for r in made) == pytest.approx(metrics["time_s"], rel=1e-12)
    assert sum(r.share_of_time for r in made) == pytest.approx(1)


def test_mixed_and_speculative_steps_add_up():
    deployment = deploy(WINDOWED)
    for work in (
        Workload(prompt_tokens=300, batch_size=8, prefill_tokens_per_step=64),
        Workload(prompt_tokens=300, batch_size=8, speculation=Speculation(tokens=3)),
    ):
        made = operator_rows(deployment, work, phases=["decode"])
        metrics = predict_point(deployment, work).phases["decode"]
        assert sum(r.count * r.flops for r in made) == pytest.approx(metrics["flops"])
        assert sum(r.count * r.time_s for r in made) == pytest.approx(metrics["time_s"])


@pytest.mark.parametrize("name", CATALOGUE)
def test_rows_hold_every_parameter_of_the_catalogue(name: str):
    model = load_model(name)
    share = share_of(model, Quantization(), Parallelism(), AnalyticalSettings(kind="analytical"))
    blocks = model_blocks(share)
    expected = count_parameters(model)
    assert sum(b.count * sum(o.parameters for o in b.operators) for b in blocks) == expected.total
    # 16 bits everywhere: two stored bytes a parameter
    assert sum(b.count * sum(o.stored_bytes for o in b.operators) for b in blocks) == 2 * expected.total
    kinds = {f"{layer.attention_kind}+{layer.feed_forward_kind}": layer for layer in expected.layers}
    for block in blocks:
        if block.name in kinds:
            assert block.count == kinds[block.name].layers
            assert sum(o.parameters for o in block.operators) == kinds[block.name].total


def test_formulas_give_the_numbers():
    """Every formula, with its symbols' values put in, evaluates to the cells of its row."""
    for model in MODELS:
        for row in operator_rows(deploy(model), Workload(prompt_tokens=77, batch_size=3)):
            flops_text, bytes_text, *rest = row.formula.split("; ")
            values = dict(re.findall(r"([A-Z]) = ([0-9.e+]+)", rest[-1] if rest else ""))
            assert evaluated(flops_text.removeprefix("FLOPs "), values) == pytest.approx(row.flops, rel=1e-4)
            moved = evaluated(bytes_text.removeprefix("bytes "), values)
            assert moved == pytest.approx(row.total_bytes, rel=1e-4), (row.operator, row.formula)


def evaluated(formula: str, values: dict[str, str]) -> float:
    text = formula.replace("·", "*")
    text = re.sub(r"\b([A-Z])\b", lambda match: values[match[1]], text)
    assert re.fullmatch(r"[0-9.e+*() ]+", text), formula
    total: float = eval(text, {"__builtins__": {}})  # only digits and operators are left
    return total


def test_fused_projections_read_their_input_once():
    separate, fused = rows(LLAMA_8B), rows(LLAMA_8B, fused_qkv=True, fused_gate_up=True)
    assert separate["k"].input_bytes == separate["v"].input_bytes == separate["up"].input_bytes == 8192
    assert fused["k"].input_bytes == fused["v"].input_bytes == fused["up"].input_bytes == 0
    assert fused["q"].input_bytes == fused["gate"].input_bytes == 8192


def test_fused_attention_is_one_row_with_the_same_traffic():
    streamed, fused = rows(LLAMA_8B), rows(LLAMA_8B, attention="fused")
    three = [streamed[name] for name in ("scores", "softmax", "context")]
    assert fused["attention"].flops == sum(r.flops for r in three) == (2 * 128 + 2 * 128 + 5) * 32 * 4
    assert fused["attention"].total_bytes == sum(r.total_bytes for r in three)


def test_unfused_attention_writes_and_reads_scores():
    work = Workload(prompt_tokens=64, batch_size=2)
    made = operator_rows(deploy(LLAMA_8B, attention="unfused"), work, phases=["prefill"])
    found = {row.operator: row for row in made}
    scores = 2 * 32 * 64 * 64 * 2
    assert found["scores"].output_bytes == scores
    assert (found["softmax"].input_bytes, found["softmax"].output_bytes) == (scores, scores)
    assert found["context"].input_bytes == scores
    # masked pairs are computed as well
    assert found["scores"].flops == 2 * 32 * 128 * 2 * 64 * 64


def test_minor_terms_are_counted_on_request():
    plain, counted = rows(LLAMA_8B), rows(LLAMA_8B, rope_table=True)
    # sine and cosine of a token: 128 values at 32 bits
    assert counted["RoPE q"].input_bytes - plain["RoPE q"].input_bytes == 128 * 4
    plain, counted = rows(MIXTRAL), rows(MIXTRAL, router_softmax=True)
    assert counted["router"].flops - plain["router"].flops == 5 * 8


def test_position_scaling_is_recorded():
    scaled = LLAMA_8B.model_copy(update={"rope": Rope(scaling="llama3", factor=8.0)})
    found, plain = rows(scaled)["RoPE q"], rows(LLAMA_8B)["RoPE q"]
    assert found.formula == "FLOPs 3·T·4096; bytes 2·T·4096·2; llama3 scaling by 8; T = 1"
    assert (found.flops, found.total_bytes) == (plain.flops, plain.total_bytes)


def test_collectives_are_rows():
    found = rows(LLAMA_8B, Workload(batch_size=4), parallelism=Parallelism(tensor=2))
    row = found["layer sums"]
    assert (row.count, row.layer_kind, row.bound) == (64, "communication", "communication")
    # ring over two devices: 2 (2 - 1) / 2 of 4 tokens x 4096 x 2 bytes
    assert row.total_bytes == 4 * 4096 * 2
    assert row.formula == (
        "all-reduce of 32768 B over 2 devices: sends 32768 B; 2 µs latency; "
        "NVLink3 (data sheet, bidirectional total per device)"
    )


def test_rows_name_the_form_of_latent_attention():
    prompt = operator_rows(deploy(LATENT), Workload(prompt_tokens=512), phases=["prefill"])
    step = operator_rows(deploy(LATENT), Workload(prompt_tokens=512, batch_size=64), phases=["decode"])
    assert "kv up" in {row.operator for row in prompt}
    assert {"q absorb", "v up"} <= {row.operator for row in step}
    assert not {"kv up"} & {row.operator for row in step}


def test_cache_level_of_a_device():
    sheet = device(l2="40 MB", l2_bandwidth="7 TB/s")
    found = rows(LLAMA_8B, hardware=sheet)
    assert (found["k"].fits_l2, found["gate"].fits_l2) == (True, False)
    assert found["k"].l2_attainable_flops_per_s == pytest.approx(found["k"].intensity * 7e12)
    assert found["gate"].l2_attainable_flops_per_s is None
    assert rows(LLAMA_8B)["k"].fits_l2 is None
    lines = {c.name: (c.kind, c.value) for c in ceilings(deploy(hardware=sheet))}
    assert lines == {
        "bf16": ("compute", 312e12),
        "int8": ("compute", 624e12),
        "memory": ("bandwidth", 2.039e12),
        "L2": ("bandwidth", 7e12),
    }
