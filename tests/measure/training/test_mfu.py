"""FLOPs of training: limits, and the causal convention against the operator table."""

import pytest

from engine.errors import CatalogError, MeasurementError
from engine.measure.training.mfu import causal_flops, mfu, node_peak, reference_departures, reference_flops
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.rows import operator_rows
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.model import Model, SlidingWindow
from engine.spec.workload import Workload

TINY = Model(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=16,
    vocab_size=10,
)  # fmt: skip

# Matrix products of the operator table; the rest is elementwise.
PRODUCTS = {"q", "k", "v", "o", "scores", "context", "gate", "up", "down", "router"}
PRODUCTS |= {f"expert {name}" for name in ("gate", "up", "down")}


def test_the_causal_convention_by_hand() -> None:
    found = causal_flops(TINY, 3)
    # query and output 2 x 8 x 8, keys and values 2 x 8 x 4; 3 tokens see 1 + 2 + 3 keys of 4 heads of 2
    assert found.attention == 2 * (2 * (2 * 64 + 2 * 32) * 3 + 4 * 8 * 6)
    assert found.feed_forward == 2 * 2 * 3 * 8 * 16 * 3
    assert (found.embedding, found.head) == (0, 2 * 10 * 8 * 3)
    assert found.training == 3 * found.forward


def test_the_reference_convention_by_hand() -> None:
    found = reference_flops(TINY, 3)
    assert found.attention == 2 * (4 * 64 * 3 + 4 * 2 * 2 * 8 * 3 + 4 * 9 * 8 + 6 * 4 * 9)
    assert found.feed_forward == 2 * 6 * 8 * 16 * 3
    assert found.embedding == found.head == 2 * 10 * 8 * 3


def test_a_window_sees_no_more_than_its_size() -> None:
    windowed = TINY.model_copy(update={"sliding_window": SlidingWindow(tokens=2)})
    chunked = TINY.model_copy(update={"sliding_window": SlidingWindow(tokens=2, kind="chunked")})
    wide = TINY.model_copy(update={"sliding_window": SlidingWindow(tokens=50)})
    pairs = 4 * 8 * 2  # FLOPs of a pair in both layers
    # 5 tokens: 15 pairs in full, 1 + 2 x 4 in a window of 2, 3 + 3 + 1 in chunks of 2
    full = causal_flops(TINY, 5).attention
    assert causal_flops(windowed, 5).attention == full - pairs * (15 - 9)
    assert causal_flops(chunked, 5).attention == full - pairs * (15 - 7)
    assert causal_flops(wide, 5).attention == full


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-4b", "mixtral-8x7b", "gemma-3-4b"])
@pytest.mark.parametrize("tokens", [64, 2048])
def test_the_causal_convention_against_the_operator_table(name: str, tokens: int) -> None:
    model = load_model(name)
    deployment = Deployment(model, load_hardware("h200-sxm"), load_quantization("bf16"))
    rows = operator_rows(deployment, Workload(prompt_tokens=tokens, batch_size=1), phases=("prefill",))
    found = causal_flops(model, tokens)
    products = [row for row in rows if row.operator in PRODUCTS]
    assert found.attention + found.feed_forward == sum(row.count * row.flops for row in products)
    # A prompt needs the logits of its last position only; training needs them all.
    (head,) = (row.flops for row in rows if row.operator == "LM head")
    assert found.head == head * tokens


def test_what_the_conventions_do_not_know() -> None:
    with pytest.raises(MeasurementError, match="the reference FLOP convention knows dense layers"):
        reference_flops(load_model("mixtral-8x7b"), 128)
    with pytest.raises(MeasurementError, match="the causal FLOP convention knows softmax attention"):
        causal_flops(load_model("deepseek-v3"), 128)


def test_where_a_model_is_not_what_the_reference_convention_takes_it_for() -> None:
    # Qwen3-0.6B has heads of 128 where 1024 / 16 is 64.
    assert list(reference_departures(load_model("llama-3.1-8b"))) == []
    assert list(reference_departures(load_model("qwen3-0.6b"))) == [
        "the reference convention takes heads of 64, hidden size over heads; those of `qwen3-0.6b` have 128"
    ]
    ungated = load_model("llama-3.1-8b").model_copy(update={"gated_ffn": False})
    assert list(reference_departures(ungated)) == [
        "the reference convention counts three feed-forward matrices a layer; `llama-3.1-8b` has two"
    ]


def test_peaks_of_nodes() -> None:
    assert node_peak("trn1", devices=None).basis == "3040 TFLOP/s, bf16"
    eight = node_peak("h100-sxm-80gb", devices=8)
    assert eight.flops_per_s == 8 * load_hardware("h100-sxm-80gb").peak.bf16  # type: ignore[operator]
    with pytest.raises(CatalogError):
        node_peak("trn9", devices=4)
    with pytest.raises(MeasurementError, match="has no peak in `fp8`"):
        node_peak("v100-sxm2-32gb", devices=8, precision="fp8")


def test_mfu_scales_as_it_must() -> None:
    one = mfu(1e15, 2.0, nodes=1, peak_flops_per_s=4e15)
    assert one == 0.5
    assert mfu(1e15, 2.0, nodes=4, peak_flops_per_s=4e15) == one / 4
    assert mfu(1e15, 4.0, nodes=2, peak_flops_per_s=4e15) == one
