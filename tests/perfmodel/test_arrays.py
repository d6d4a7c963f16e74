"""The array path and the path of a single point give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from engine.perfmodel.point import predict_point
from engine.perfmodel.summary import BOUNDS, CHUNK, WorkloadArrays, free_memory, summarise
from engine.spec.model import Model, Rope
from engine.spec.workload import Parallelism, Speculation, Workload
from tests.perfmodel.shapes import H100, LATENT, LLAMA_8B, MIXTRAL, MODELS, deploy, device

NAMES = ("prompt_tokens", "output_tokens", "batch_size", "shared_prefix_tokens", "prefill_chunk_tokens")


def columns(n: int, seed: int, *, chunks: bool, riding: bool) -> WorkloadArrays:
    random = np.random.default_rng(seed)
    prompt = random.integers(2, 5000, n)
    return WorkloadArrays(
        prompt_tokens=prompt,
        output_tokens=random.integers(1, 600, n),
        batch_size=random.integers(1, 300, n),
        shared_prefix_tokens=(prompt * random.random(n) * 0.9).astype(np.int64) * random.integers(0, 2, n),
        prefill_chunk_tokens=random.integers(0, 900, n) if chunks else np.zeros(1, dtype=np.int64),
        prefill_tokens_per_step=random.integers(0, 500, n) if riding else np.zeros(1, dtype=np.int64),
    )


def at(arrays: WorkloadArrays, i: int, speculation: Speculation | None = None) -> Workload:
    def pick(name: str) -> int:
        column = getattr(arrays, name)
        return int(column[i if len(column) > 1 else 0])

    return Workload(
        **{name: pick(name) for name in NAMES if name != "prefill_chunk_tokens"},
        prefill_chunk_tokens=pick("prefill_chunk_tokens") or None,
        prefill_tokens_per_step=pick("prefill_tokens_per_step"),
        speculation=speculation,
    )


def disagreements(
    model: Model, arrays: WorkloadArrays, speculation: Speculation | None = None, **options: object
) -> list[tuple[object, ...]]:
    """Every place where the arrays say something else than the single point: none is expected."""
    deployment = deploy(model, device(memory="60 GB"), **options)
    summary = summarise(deployment, arrays, speculation=speculation)
    found: list[tuple[object, ...]] = []
    for i in range(len(arrays)):
        point = predict_point(deployment, at(arrays, i, speculation))
        if summary.fits[i] != point.fits:
            found.append((i, "fits"))
        for phase, metrics in point.phases.items():
            columns_of = summary.phases[phase]
            if set(metrics) | ({"bound"} if phase in point.bounds else set()) != set(columns_of):
                found.append((i, phase, set(columns_of) ^ set(metrics)))
            found += [
                (i, phase, name, columns_of[name][i], number)
                for name, number in metrics.items()
                if columns_of[name][i] != pytest.approx(number, rel=1e-12, nan_ok=True)
            ]
        found += [
            (i, phase, "bound", name)
            for phase, name in point.bounds.items()
            if BOUNDS[summary.phases[phase]["bound"][i]] != name
        ]
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_arrays_agree_with_single_points(model: Model):
    assert not disagreements(model, columns(12, 1, chunks=False, riding=False))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_chunked_and_mixed_steps_agree(model: Model):
    assert not disagreements(model, columns(8, 2, chunks=True, riding=True))


def test_speculation_and_splits_agree():
    arrays = columns(8, 3, chunks=False, riding=False)
    assert not disagreements(LLAMA_8B, arrays, Speculation(tokens=3, acceptance=0.6))
    assert not disagreements(
        LLAMA_8B, arrays, parallelism=Parallelism(tensor=2, pipeline=4, data=2, micro_batches=3)
    )
    assert not disagreements(MIXTRAL, arrays, parallelism=Parallelism(tensor=2, expert=4, data=2))
    assert not disagreements(LATENT, arrays, kv_block_tokens=16, attention="unfused", expert_tile=16)


def test_skewed_routing_agrees():
    assert not disagreements(
        MIXTRAL, columns(8, 4, chunks=False, riding=False), routing={"law": "zipf", "exponent": 1.0}
    )


def test_columns_of_one_value_stand_for_all():
    one = np.array([1024])
    many = np.full(50, 1024)
    batches = np.arange(1, 51)
    zero = np.zeros(1, dtype=np.int64)
    short = summarise(deploy(), WorkloadArrays(one, one, batches, zero, zero, zero))
    long = summarise(deploy(), WorkloadArrays(many, many, batches, zero, zero, zero))
    for phase, metrics in short.phases.items():
        for name, values in metrics.items():
            assert values.shape == (50,)
            np.testing.assert_array_equal(values, long.phases[phase][name])


def test_chunks_join_without_a_seam():
    n = 2 * CHUNK + 10
    # Slow axis first: within a chunk it is one number, across chunks it changes.
    batches = np.repeat([1, 4], [CHUNK + 5, CHUNK + 5])
    prompts = np.arange(n) % 1000 + 1
    out, zero = np.array([16]), np.zeros(1, dtype=np.int64)
    summary = summarise(deploy(MIXTRAL, H100), WorkloadArrays(prompts, out, batches, zero, zero, zero))
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 4, CHUNK + 5, n - 1):
        work = Workload(prompt_tokens=int(prompts[i]), output_tokens=16, batch_size=int(batches[i]))
        point = predict_point(deploy(MIXTRAL, H100), work)
        for name in ("tpot_s", "max_batch_size", "distinct_experts", "e2e_s"):
            assert summary.phases["request"][name][i] == pytest.approx(
                point.phases["request"][name], rel=1e-12
            )


def test_one_workload_as_columns():
    summary = summarise(deploy(), WorkloadArrays.of(Workload(prompt_tokens=512, prefill_chunk_tokens=128)))
    point = predict_point(deploy(), Workload(prompt_tokens=512, prefill_chunk_tokens=128))
    assert len(summary) == 1
    assert summary.phases["request"]["ttft_s"][0] == point.phases["request"]["ttft_s"]
    assert summary.phases["decode"]["bound"].dtype == np.int8


def test_what_does_not_fit_has_memory_but_no_time():
    small = deploy(hardware=device(memory="20 GB"))
    summary = summarise(small, WorkloadArrays.of(Workload(batch_size=64)))
    assert not summary.fits[0]
    request = summary.phases["request"]
    assert np.isnan(request["ttft_s"][0])
    assert np.isnan(request["output_tokens_per_s"][0])
    # Live at once: 8192 tokens of a prefill step, two residual copies and gate and up each, and logits.
    live = 8192 * (2 * 4096 + 2 * 14336) * 2 + 64 * 128_256 * 4
    left = 18e9 - 16_060_522_496 - 64 * 2304 * 131_072 - live
    assert request["memory_free_bytes"][0] == left
    # (18e9 - 16 060 522 496) / (2304 x 131 072 + 2048 x 36 864 x 2 + 128 256 x 4) = 4.27
    assert request["max_batch_size"][0] == 4


def test_beyond_the_window_of_the_model():
    model = LLAMA_8B.model_copy(update={"max_position_embeddings": 2048})
    zero = np.zeros(1, dtype=np.int64)
    prompts = np.array([1792, 1793])
    summary = summarise(
        deploy(model), WorkloadArrays(prompts, np.array([256]), np.array([1]), zero, zero, zero)
    )
    assert summary.beyond_context.tolist() == [False, True]


def test_scaled_positions_extend_the_context():
    rope = Rope(scaling="yarn", factor=4.0, original_max_position_embeddings=512)
    model = LLAMA_8B.model_copy(update={"rope": rope})
    assert not predict_point(deploy(model), Workload(prompt_tokens=1792, output_tokens=256)).beyond_context
    assert predict_point(deploy(model), Workload(prompt_tokens=1793, output_tokens=256)).beyond_context
    plain, scaled = (predict_point(deploy(m), Workload()).phases["prefill"] for m in (LLAMA_8B, model))
    assert plain == scaled


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_memory_alone_is_the_memory_of_the_summary(model: Model):
    for seed, chunks in ((6, False), (7, True)):
        arrays = columns(10, seed, chunks=chunks, riding=chunks)
        made = deploy(model, device(memory="60 GB"))
        np.testing.assert_array_equal(
            free_memory(made, arrays), summarise(made, arrays).phases["request"]["memory_free_bytes"]
        )
    assert np.isnan(free_memory(deploy(model, device(memory=None)), arrays)).all()


def test_unknown_memory_leaves_fit_open():
    summary = summarise(deploy(hardware=device(memory=None)), WorkloadArrays.of(Workload()))
    assert summary.fits[0]
    assert np.isnan(summary.phases["request"]["memory_free_bytes"][0])
    assert np.isnan(summary.phases["request"]["max_batch_size"][0])
    assert summary.phases["request"]["ttft_s"][0] > 0
