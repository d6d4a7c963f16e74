"""Defects seen in other tools, each as a test that this model does not have it.

The first line of each test says what goes wrong elsewhere and where it was seen.
"""

from __future__ import annotations

import pytest

from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OperatorPhase, OperatorRow, operator_rows
from engine.spec.catalog import load_model
from engine.spec.model import Model
from engine.spec.workload import Workload
from tests.perfmodel.shapes import A100, H100, LLAMA_8B, MIXTRAL, WINDOWED, deploy, device


def rows(model: Model, phase: OperatorPhase, batch: int = 1, **options: object) -> dict[str, OperatorRow]:
    work = Workload(prompt_tokens=2048, output_tokens=256, batch_size=batch)
    return {row.operator: row for row in operator_rows(deploy(model, **options), work, phases=[phase])}


def cache_bytes(model: Model, phase: OperatorPhase, **options: object) -> float:
    made = operator_rows(deploy(model, **options), Workload(prompt_tokens=2048), phases=[phase])
    return sum(row.count * row.kv_read_bytes for row in made)


def test_fused_attention_reads_the_same_cache():
    """Flash decode read every query head's cache: four times too much (LLM-Viewer 472f71f, issue 12)."""
    assert cache_bytes(LLAMA_8B, "decode", attention="fused") == cache_bytes(LLAMA_8B, "decode")
    for batch in (1, 64):
        work = Workload(batch_size=batch)
        fused = predict_point(deploy(attention="fused"), work).phases["decode"]["time_s"]
        unfused = predict_point(deploy(attention="unfused"), work).phases["decode"]["time_s"]
        assert fused <= unfused


def test_fused_attention_reads_keys_and_values():
    """The flash path counted one of K and V: 134.3 MB for 268.6 (LLM-para v2)."""
    assert cache_bytes(LLAMA_8B, "decode", attention="fused") == 2049 * 131_072
    assert cache_bytes(LLAMA_8B, "decode") == pytest.approx(268.6e6, abs=0.05e6)


def test_decode_reads_neither_k_nor_all_experts():
    """k experts whatever the batch (LLM-para, GenZ), or all of them (llm-analysis, InferSim)."""
    one = rows(MIXTRAL, "decode", 1)["expert up"].weight_bytes / (4096 * 14336 * 2)
    many = rows(MIXTRAL, "decode", 16)["expert up"].weight_bytes / (4096 * 14336 * 2)
    assert one == pytest.approx(2)
    assert many == pytest.approx(7.92, abs=0.005)


def test_expert_work_grows_with_every_token():
    """Integer division of tokens by experts gave no work at all for few tokens (GenZ prefill)."""
    work = [rows(MIXTRAL, "decode", batch)["expert up"].flops for batch in (1, 2, 3, 7)]
    assert work == [n * 2 * 2 * 4096 * 14336 for n in (1, 2, 3, 7)]


def test_every_token_runs_through_k_experts():
    """Expert FLOPs without the factor k (llm-analysis)."""
    found = rows(MIXTRAL, "prefill")
    assert found["expert up"].flops == 2048 * 2 * (2 * 4096 * 14336)


def test_latent_cache_is_not_expanded_in_decode():
    """The latent cache counted as if all heads were stored: 71 times too much (LLM-para v2)."""
    v3 = load_model("deepseek-v3")
    assert cache_bytes(v3, "decode") == 61 * 2049 * 576 * 2


def test_decode_attention_grows_with_the_context():
    """KV latency counted twice and attention FLOPs at one position: 24.5 ms for 16.2 (llm-analysis)."""
    found = predict_point(deploy(), Workload(batch_size=64)).phases["decode"]
    assert found["time_s"] == pytest.approx(16.181e-3, rel=1e-4)
    assert rows(LLAMA_8B, "decode")["scores"].flops == 2 * 32 * 128 * 2049


def test_rates_are_decimal():
    """Bandwidth read as binary gigabytes: 7.4 % too fast (GenZ); FLOP/s times 1024 (InferSim)."""
    read = rows(LLAMA_8B, "decode")["gate"]
    assert read.time_s == read.total_bytes / 2.039e12
    assert read.peak_flops_per_s == 312e12


def test_sixteen_bit_work_uses_the_sixteen_bit_peak():
    """The fp32 vector peak for 16-bit work: 1590 ms for 102 (LLM-para)."""
    sheet = device(peak={"fp32": "19.5 TFLOP/s", "bf16": "312 TFLOP/s"})
    found = predict_point(deploy(hardware=sheet), Workload()).phases["prefill"]
    assert found["time_s"] == pytest.approx(102.038e-3, rel=1e-4)


def test_output_head_is_there_at_two_operations_a_weight():
    """Head missing or at one operation a multiply-add (InferSim, TRA)."""
    assert rows(LLAMA_8B, "decode")["LM head"].flops == 2 * 4096 * 128_256


def test_footprint_holds_embedding_and_head():
    """Footprint without embedding and head: 13.96 GB for 16.06 (LLM-Viewer)."""
    assert predict_point(deploy(), Workload()).phases["request"]["weights_bytes"] == pytest.approx(
        16.06e9, rel=1e-4
    )


def test_embedding_is_a_gather_and_the_head_sees_one_token():
    """Embedding as a matrix product, head over the whole prompt: 35.09 TFLOP for 29.69 (GenZ)."""
    found = rows(LLAMA_8B, "prefill")
    assert found["embedding"].flops == 0
    assert found["embedding"].total_bytes == 2048 * 4096 * 4
    assert found["LM head"].flops == 2 * 4096 * 128_256


def test_gated_feed_forward_has_three_matrices():
    """Two matrices for a gated layer (BLIS, LLMRoofline)."""
    found = rows(LLAMA_8B, "decode")
    assert sum(found[name].parameters for name in ("gate", "up", "down")) == 3 * 4096 * 14336


def test_activation_is_as_wide_as_the_feed_forward():
    """Activation sized by the hidden instead of the intermediate width (LLM-Viewer, issue 16)."""
    assert rows(LLAMA_8B, "decode")["act"].total_bytes == 3 * 14336 * 2


def test_windows_limit_reading_and_storage():
    """A window stored but never used (GenZ); windowed layers at full length in the cache (AIC 1537)."""
    long = Workload(prompt_tokens=1000, output_tokens=1)
    made = operator_rows(deploy(WINDOWED), long, phases=["decode"])
    read = {row.layer_kind: row.kv_read_bytes for row in made if row.operator == "scores"}
    # keys of two heads of 16 at two bytes: 32 positions in a window, 1001 without
    assert read == {"window+dense": 32 * 64, "full+dense": 1001 * 64}
    assert predict_point(deploy(WINDOWED), long).phases["request"]["kv_cache_bytes"] == 128 * (3 * 32 + 1001)


def test_causal_prefill_computes_half():
    """Prefill attention over the full rectangle (most tools)."""
    assert rows(LLAMA_8B, "prefill")["scores"].flops == 2 * 32 * 128 * 2048 * 2049 / 2


def test_energy_stays_below_board_power():
    """Energy constants read as percentages: 35.1 kW for a 700 W board (GenZ)."""
    hungry = {
        "static_power": "100 W",
        "per_byte": "10 nJ/B",
        "per_flop": "100 pJ/FLOP",
        "source": "made up for a test",
    }
    sheet = device(power="700 W", energy=hungry)
    phases = predict_point(deploy(hardware=sheet), Workload(batch_size=32)).phases
    for phase in phases.values():
        assert phase["average_power_w"] <= 700 * (1 + 1e-12)
    # a request is no more than its phases, each within the limit
    assert phases["request"]["energy_j"] <= 700 * phases["request"]["e2e_s"] * (1 + 1e-12)


def test_what_does_not_fit_has_no_latency():
    """A time for a model that does not fit the device (LLM-para)."""
    found = predict_point(deploy(MIXTRAL, A100.model_copy(update={"memory": 80e9})), Workload())
    assert not found.fits
    assert found.phases["request"]["memory_free_bytes"] < 0
    assert found.phases["decode"]["time_s"] != found.phases["decode"]["time_s"]


def test_phases_are_not_added_together():
    """Totals that add a prompt and one decode step (LLM-para): ours count every step of a request."""
    found = predict_point(deploy(hardware=H100), Workload(prompt_tokens=64, output_tokens=3)).phases
    steps = [
        predict_point(deploy(hardware=H100), Workload(prompt_tokens=64 + i)).phases["decode"]["flops"]
        for i in range(2)
    ]
    assert found["request"]["flops"] == found["prefill"]["flops"] + sum(steps)
