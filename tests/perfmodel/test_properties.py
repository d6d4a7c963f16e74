"""What must hold for every model, device and workload."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.moe import RoutingLaw, zipf_probabilities
from engine.perfmodel.point import predict_point
from engine.perfmodel.quantized import TensorFormat
from engine.perfmodel.rows import operator_rows
from engine.perfmodel.terms import Geometry, attended
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload
from tests.perfmodel.shapes import MODELS, deploy, device

models = st.sampled_from(MODELS)
workloads = st.builds(
    Workload,
    prompt_tokens=st.integers(1, 6000),
    output_tokens=st.integers(1, 500),
    batch_size=st.integers(1, 256),
)
NARROW = Quantization(weight_attn=4, weight_ffn=4, kv_cache=8)
PHASES = ("prefill", "decode", "decode_last")
quick = settings(max_examples=60, deadline=None)


def times(model: Model, work: Workload, **sheet: str) -> list[float]:
    peak, bandwidth = sheet.get("peak", "312 TFLOP/s"), sheet.get("bandwidth", "2.039 TB/s")
    made = deploy(model, device(peak={"bf16": peak}, memory_bandwidth=bandwidth))
    phases = predict_point(made, work).phases
    return [*(phases[phase]["time_s"] for phase in PHASES), phases["request"]["e2e_s"]]


def no_less(larger: list[float], smaller: list[float]) -> bool:
    return all(x >= y * (1 - 1e-12) for x, y in zip(larger, smaller, strict=True))


@given(model=models, work=workloads, more=st.integers(1, 300))
@quick
def test_more_sequences_take_no_less_time(model: Model, work: Workload, more: int):
    assert no_less(
        times(model, work.model_copy(update={"batch_size": work.batch_size + more})), times(model, work)
    )


@given(model=models.filter(lambda m: m.name != "chunked-local"), work=workloads, more=st.integers(1, 3000))
@quick
def test_a_longer_prompt_takes_no_less_time(model: Model, work: Workload, more: int):
    # Chunk-local layers are left out: a step just behind a chunk's edge rightly reads less.
    longer = work.model_copy(update={"prompt_tokens": work.prompt_tokens + more})
    assert no_less(times(model, longer), times(model, work))


@given(model=models, work=workloads, factor=st.floats(1, 20))
@quick
def test_a_faster_device_takes_no_more_time(model: Model, work: Workload, factor: float):
    slow = times(model, work)
    assert no_less(slow, times(model, work, bandwidth=f"{2.039 * factor:.6f} TB/s"))
    assert no_less(slow, times(model, work, peak=f"{312 * factor:.6f} TFLOP/s"))


@given(model=models, work=workloads)
@quick
def test_no_phase_beats_the_roofline(model: Model, work: Workload):
    phases = predict_point(deploy(model), work).phases
    for phase in PHASES:
        found = phases[phase]
        bound = max(found["flops"] / 312e12, found["memory_traffic_bytes"] / 2.039e12)
        assert found["time_s"] >= bound * (1 - 1e-12)
        assert found["mfu"] <= 1 + 1e-12
        assert found["mbu"] <= 1 + 1e-12


@given(model=models, work=workloads)
@quick
def test_rows_lie_on_their_roof(model: Model, work: Workload):
    for row in operator_rows(deploy(model), work):
        # times from above: the larger of the two sides, exactly
        assert row.time_s == max(
            row.flops / row.peak_flops_per_s, row.total_bytes / row.bandwidth_bytes_per_s
        )
        if row.flops:
            assert row.flops / row.time_s == pytest.approx(row.attainable_flops_per_s)
        parts = row.weight_bytes + row.input_bytes + row.output_bytes + row.kv_read_bytes + row.kv_write_bytes
        assert row.total_bytes == pytest.approx(parts)
        assert row.total_bytes >= 0


@given(
    cached=st.integers(0, 500), new=st.integers(1, 500), window=st.integers(1, 600),
    kind=st.sampled_from(["full", "sliding", "chunked"]),
)  # fmt: skip
@settings(max_examples=200)
def test_causal_never_attends_to_more_than_the_rectangle(cached: int, new: int, window: int, kind: str):
    causal = attended(SCALAR, Geometry(kind, window), cached=cached, new=new)
    assert causal.pairs <= new * (cached + new)
    assert causal.pairs <= attended(SCALAR, Geometry("full"), cached=cached, new=new).pairs
    assert causal.positions <= cached + new


@given(
    experts=st.integers(1, 300),
    share=st.floats(0.01, 1),
    tokens=st.integers(1, 2000),
    exponent=st.floats(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_distinct_experts_stay_in_their_band(experts: int, share: float, tokens: int, exponent: float):
    k = max(1, int(experts * share))
    uniform = RoutingLaw(experts, k, uniform=True, probabilities=()).distinct(SCALAR, tokens)
    chances = zipf_probabilities(experts, k, exponent)
    skewed = RoutingLaw(experts, k, uniform=k == experts, probabilities=chances).distinct(SCALAR, tokens)
    for found in (uniform, skewed):
        assert k * (1 - 1e-9) <= found <= min(experts, k * tokens) * (1 + 1e-9)
    # Any skew touches fewer experts than none.
    assert skewed <= uniform * (1 + 1e-9)


@given(
    rows=st.integers(1, 5000), columns=st.integers(1, 5000), bits=st.sampled_from([1.58, 4.0, 6.0, 8.0]),
    group=st.sampled_from([16, 32, 128, 16384]), extra=st.integers(1, 36),
)  # fmt: skip
def test_scales_take_room(rows: int, columns: int, bits: float, group: int, extra: int):
    bare = TensorFormat(bits).matrix_bytes(rows, columns)
    scaled = TensorFormat(bits, group, extra).matrix_bytes(rows, columns)
    assert scaled > bare
    # no group is smaller than half of what a whole number of groups holds
    assert scaled - bare <= (rows * columns / group + columns) * extra / 8 + extra / 8


@given(model=models.filter(lambda m: m.mla is None), work=workloads)
@quick
def test_narrow_formats_move_less(model: Model, work: Workload):
    # Latent models are left out: another format may make the other form the faster one.
    wide = predict_point(deploy(model), work).phases
    narrow = predict_point(deploy(model, quantization=NARROW), work).phases
    for phase in PHASES:
        assert narrow[phase]["memory_traffic_bytes"] < wide[phase]["memory_traffic_bytes"]
        assert narrow[phase]["flops"] == pytest.approx(wide[phase]["flops"])
