"""The same shape in llm-analysis 0.2.2 (PyPI): equal where the conventions agree, explained where not.

Its numbers were printed by `LLMAnalysis.inference(batch_size_per_gpu=1, seq_len=2048,
num_tokens_to_generate=256)` with efficiencies of 1 on an A100 sheet. It knows no gated feed-forward and
wants widths that are multiples of the hidden size, hence a plain one of 4 x 4096.
"""

from __future__ import annotations

import pytest

from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import OperatorPhase, operator_rows
from engine.spec.workload import Workload
from tests.perfmodel.shapes import LLAMA_8B, deploy

PLAIN = LLAMA_8B.model_copy(
    update={"name": "plain", "intermediate_size": 16384, "gated_ffn": False, "tie_word_embeddings": True}
)
WORK = Workload(prompt_tokens=2048, output_tokens=256)
MATRIX_PRODUCTS = {"q", "k", "v", "o", "scores", "context", "up", "down", "LM head"}

WEIGHT_MEMORY = 12_325_494_784
KV_CACHE_MEMORY = 301_989_888
PREFILL_FLOPS = 27_440_546_054_144
DECODE_FLOPS = 12_325_486_592
DECODE_FEED_FORWARD_S = 0.004213331617459539
KV_CACHE_S = 0.00029621372045120155
PREFILL_FEED_FORWARD_S = 0.056385211680820516


def matrix_flops(phase: OperatorPhase, **settings: object) -> float:
    made = operator_rows(deploy(PLAIN, **settings), WORK, phases=[phase])
    return sum(row.count * row.flops for row in made if row.operator in MATRIX_PRODUCTS)


def layer_time(phase: OperatorPhase, *names: str) -> float:
    made = operator_rows(deploy(PLAIN), WORK, phases=[phase])
    return sum(row.count * row.time_s for row in made if row.operator in names)


def test_weights_and_cache_agree():
    request = predict_point(deploy(PLAIN), WORK).phases["request"]
    assert request["weights_bytes"] == WEIGHT_MEMORY
    assert request["kv_cache_bytes"] == KV_CACHE_MEMORY


def test_prefill_work_agrees_under_its_conventions():
    # It computes masked pairs and logits of every prompt token.
    assert matrix_flops("prefill", causal=False, lm_head="all") == PREFILL_FLOPS
    # Ours by default: half of the pairs, and one token's logits.
    pairs = 32 * 4 * 4096 * (2048 * 2048 - 2048 * 2049 // 2)
    logits = 2047 * 2 * 4096 * 128_256
    assert matrix_flops("prefill") == PREFILL_FLOPS - pairs - logits


def test_decode_work_differs_by_the_context():
    # It takes decode attention at a sequence of one token; the step sees 2049 positions.
    assert matrix_flops("decode") - DECODE_FLOPS == 32 * 4 * 4096 * (2049 - 1)


def test_feed_forward_times_agree():
    # Both are bound by weights in decode and by arithmetic in prefill; ours adds the activation function,
    # which it does not have, and in decode the traffic of activations.
    assert layer_time("decode", "up", "down") == pytest.approx(DECODE_FEED_FORWARD_S, rel=1e-3)
    assert layer_time("prefill", "up", "down") == pytest.approx(PREFILL_FEED_FORWARD_S, rel=1e-3)


def test_cache_time_is_counted_twice_there():
    # Twice the cache at its final length, for every step; ours reads it once, at the step's length.
    made = operator_rows(deploy(PLAIN), WORK, phases=["decode"])
    read = sum(row.count * row.kv_read_bytes for row in made) / 2.039e12
    assert pytest.approx(2 * KV_CACHE_MEMORY / 2.039e12) == KV_CACHE_S
    assert read == pytest.approx(KV_CACHE_S / 2 * 2049 / 2304)
