"""What fits: hand-worked sizes, and closed forms against trying every value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perfmodel.capacity import cache_tokens, maximum_batch, maximum_context, memory_fit
from engine.perfmodel.deployment import Deployment
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Speculation, Workload
from tests.perfmodel.shapes import LATENT, LLAMA_8B, MIXTRAL, TINY, WINDOWED, deploy, device


def fit(model: Model = TINY, work: Workload | None = None, **options: object):
    return memory_fit(
        deploy(model, **options), work or Workload(prompt_tokens=6, output_tokens=2, batch_size=3)
    )


def test_a_tiny_model_by_hand():
    found = fit()
    # per layer: attention 2 x 64 + 2 x 32, feed-forward 3 x 128, norms 16; two tables of 80, one norm of 8
    assert found.weights_bytes == 2 * (2 * (192 + 384 + 16) + 160 + 8)
    # 3 sequences x 8 tokens x 2 layers x 2 x 4 elements x 2 bytes
    assert found.kv_cache_bytes == 3 * 8 * 2 * 8 * 2
    # 18 prompt tokens x (2 x 8 residual + 2 x 16 gate and up) x 2 bytes, and fp32 logits of 3 sequences
    assert found.activations_bytes == 18 * 48 * 2 + 3 * 10 * 4
    assert found.needed_bytes == found.weights_bytes + found.kv_cache_bytes + found.activations_bytes
    assert (found.fits, found.shortfall_bytes) == (True, 0)


def test_blocks_round_each_sequence_up():
    assert fit(kv_block_tokens=5).kv_cache_bytes == 3 * 10 * 2 * 8 * 2


def test_windowed_layers_keep_their_window():
    work = Workload(prompt_tokens=90, output_tokens=10)
    # per token and layer: K and V of two heads of 16 at two bytes = 128
    assert fit(WINDOWED, work).kv_cache_bytes == 128 * (3 * 32 + 100)
    assert fit(WINDOWED, work, kv_layout="full").kv_cache_bytes == 128 * 400


def test_latent_cache_is_independent_of_heads():
    work = Workload(prompt_tokens=90, output_tokens=10)
    assert fit(LATENT, work).kv_cache_bytes == 3 * 100 * (64 + 16) * 2


def test_shared_prefix_is_cached_once():
    work = Workload(prompt_tokens=96, output_tokens=4, batch_size=10, shared_prefix_tokens=64)
    per_token = 2 * 8 * 2
    assert fit(TINY, work).kv_cache_bytes == per_token * (64 + 10 * 36)
    # only whole blocks are shared
    assert fit(TINY, work, kv_block_tokens=50).kv_cache_bytes == per_token * (50 + 10 * 50)


def test_group_scales_take_room():
    plain = fit(LLAMA_8B, Workload(), quantization=Quantization(weight_attn=4, weight_ffn=4))
    scaled = fit(LLAMA_8B, Workload(), quantization=Quantization(weight_attn=4, weight_ffn=4, group_size=128))
    matrices = 32 * (41_943_040 + 176_160_768)
    assert scaled.weights_bytes - plain.weights_bytes == matrices / 128 * 2


def test_cache_in_eight_bits():
    half = fit(TINY, quantization=Quantization(kv_cache=8)).kv_cache_bytes
    assert half == fit().kv_cache_bytes / 2


def test_unfused_scores_take_room():
    work = Workload(prompt_tokens=100, output_tokens=28)
    extra = fit(TINY, work, attention="unfused").activations_bytes - fit(TINY, work).activations_bytes
    # 100 live tokens x 2 heads x 128 positions x 2 bytes
    assert extra == 100 * 2 * 128 * 2


def test_a_step_bounds_live_prompt_tokens():
    work = Workload(prompt_tokens=1000, output_tokens=1, batch_size=4)
    assert fit(TINY, work, step_tokens=512).activations_bytes == 512 * 48 * 2 + 4 * 10 * 4
    chunked = Workload(prompt_tokens=1000, output_tokens=1, batch_size=4, prefill_chunk_tokens=100)
    assert fit(TINY, chunked).activations_bytes == 400 * 48 * 2 + 4 * 10 * 4


def test_tensor_group_shares_weights_and_cache():
    alone = fit(LLAMA_8B, Workload())
    split = fit(LLAMA_8B, Workload(), parallelism=Parallelism(tensor=4))
    norms = 2 * (32 * 2 * 4096 + 4096)
    assert split.weights_bytes == (alone.weights_bytes - norms) / 4 + norms
    assert split.kv_cache_bytes == alone.kv_cache_bytes / 4
    # 16 devices for 8 heads: each head is held twice
    assert (
        fit(LLAMA_8B, Workload(), parallelism=Parallelism(tensor=16)).kv_cache_bytes
        == alone.kv_cache_bytes / 8
    )


def test_pipeline_stages_share_layers():
    alone = fit(LLAMA_8B, Workload())
    split = fit(LLAMA_8B, Workload(), parallelism=Parallelism(pipeline=4))
    assert split.kv_cache_bytes == alone.kv_cache_bytes / 4
    # the last stage: 8 layers, the last norm and the output head
    assert split.weights_bytes == 2 * (8 * 218_112_000 + 4096 + 128_256 * 4096)


def test_tied_tables_are_held_at_both_ends_of_a_pipeline():
    tied = LLAMA_8B.model_copy(update={"tie_word_embeddings": True})
    untied = fit(LLAMA_8B, Workload(), parallelism=Parallelism(pipeline=4)).weights_bytes
    assert fit(tied, Workload(), parallelism=Parallelism(pipeline=4)).weights_bytes == untied
    assert fit(LLAMA_8B, Workload()).weights_bytes - fit(tied, Workload()).weights_bytes == 2 * 128_256 * 4096


def test_expert_group_shares_experts():
    alone = fit(MIXTRAL, Workload()).weights_bytes
    split = fit(MIXTRAL, Workload(batch_size=8), parallelism=Parallelism(data=8, expert=8)).weights_bytes
    assert alone - split == 32 * 7 * 3 * 4096 * 14336 * 2


def test_draft_model_takes_room():
    work = Workload(prompt_tokens=6, output_tokens=2, speculation=Speculation(tokens=1))
    alone = memory_fit(deploy(LLAMA_8B), work)
    both = memory_fit(deploy(LLAMA_8B), work, draft=deploy(TINY))
    assert both.weights_bytes - alone.weights_bytes == fit().weights_bytes
    assert both.kv_cache_bytes - alone.kv_cache_bytes == 8 * 2 * 8 * 2


def test_reserve_and_utilisation():
    small = device(memory="10 MB")
    assert fit(hardware=small, memory_utilization=0.5).usable_bytes == 5e6
    assert fit(hardware=small, reserve=1e6).needed_bytes == fit(hardware=small).needed_bytes + 1e6
    driver = device(memory="10 MB", usable_memory="9 MB")
    assert fit(hardware=driver, memory_utilization=1.0).usable_bytes == 9e6


def test_shortfall():
    found = fit(LLAMA_8B, Workload(), hardware=device(memory="16 GB"))
    assert not found.fits
    assert found.shortfall_bytes == found.needed_bytes - 0.9 * 16e9


def test_unknown_memory():
    unknown = deploy(hardware=device(memory=None))
    assert memory_fit(unknown, Workload()).usable_bytes is None
    assert maximum_batch(unknown, Workload()) is maximum_context(unknown, Workload()) is None
    assert cache_tokens(unknown) is None


def searched(made: Deployment, work: Workload, *, what: str) -> int:
    """The largest value below 400 that fits, found by trying."""
    best = 0
    for value in range(1, 400):
        changes = {"batch_size": value} if what == "batch" else {"prompt_tokens": value - work.output_tokens}
        if what == "context" and value <= work.output_tokens:
            continue
        if memory_fit(made, work.model_copy(update=changes)).fits:
            best = value
    return best


@pytest.mark.parametrize("model", [TINY, WINDOWED], ids=lambda m: m.name)
@given(
    memory=st.integers(150_000, 1_500_000),
    prompt=st.integers(1, 80),
    output=st.integers(1, 30),
    block=st.sampled_from([1, 16]),
    step=st.sampled_from([40, 8192]),
)
@settings(max_examples=20, deadline=None)
def test_largest_batch_is_the_one_found_by_trying(
    model: Model, memory: int, prompt: int, output: int, block: int, step: int
):
    options = {"kv_block_tokens": block, "step_tokens": step}
    work = Workload(prompt_tokens=prompt, output_tokens=output)
    made = deploy(model, device(memory=f"{memory} B"), **options)
    expected = searched(made, work, what="batch")
    found = maximum_batch(made, work)
    assert found == expected or (found >= 399 == expected)


@pytest.mark.parametrize("model", [TINY, WINDOWED], ids=lambda m: m.name)
@given(
    memory=st.integers(150_000, 600_000),
    batch=st.integers(1, 12),
    output=st.integers(1, 20),
    block=st.sampled_from([1, 16]),
    step=st.sampled_from([40, 8192]),
)
@settings(max_examples=20, deadline=None)
def test_longest_context_is_the_one_found_by_trying(
    model: Model, memory: int, batch: int, output: int, block: int, step: int
):
    options = {"kv_block_tokens": block, "step_tokens": step}
    work = Workload(prompt_tokens=1, output_tokens=output, batch_size=batch)
    made = deploy(model, device(memory=f"{memory} B"), **options)
    expected = searched(made, work, what="context")
    found = maximum_context(made, work)
    # Below the output alone there is no prompt to try.
    assert found == expected or (found >= 399 == expected) or (expected == 0 and found <= output + 1)


def test_every_layer_windowed_has_no_longest_context():
    model = WINDOWED.model_copy(update={"layers": None})
    assert maximum_context(deploy(model), Workload(prompt_tokens=8)) is None


def test_nothing_fits_beside_too_large_weights():
    small = deploy(LLAMA_8B, device(memory="8 GB"))
    assert maximum_batch(small, Workload()) == maximum_context(small, Workload()) == cache_tokens(small) == 0
