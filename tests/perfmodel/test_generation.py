"""The mean over a generation is exact: closed forms against a loop over every decode step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.perfmodel.point import predict_point
from engine.spec.model import Model
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import (
    CHUNKED_LOCAL,
    H100,
    LATENT,
    LLAMA_8B,
    MIXTRAL,
    TINY,
    WINDOWED,
    deploy,
    device,
)

# A device whose ridge lies in the middle of what these models do, so that operators change sides.
BALANCED = device(name="balanced", peak={"bf16": "40 GFLOP/s"}, memory_bandwidth="10 GB/s")


def loop(model: Model, prompt: int, output: int, batch: int, **options: object) -> tuple[float, float, float]:
    deployment = deploy(model, BALANCED, **options)
    time = flops = moved = 0.0
    for step in range(output - 1):
        point = predict_point(
            deployment, Workload(prompt_tokens=prompt + step, output_tokens=1, batch_size=batch)
        ).phases["decode"]
        time += point["time_s"]
        flops += point["flops"]
        moved += point["memory_traffic_bytes"]
    return time, flops, moved


def whole(
    model: Model, prompt: int, output: int, batch: int, **options: object
) -> tuple[float, float, float]:
    workload = Workload(prompt_tokens=prompt, output_tokens=output, batch_size=batch)
    phases = predict_point(deploy(model, BALANCED, **options), workload).phases
    request, prefill = phases["request"], phases["prefill"]
    return (
        request["generation_s"],
        request["flops"] - prefill["flops"],
        request["memory_traffic_bytes"] - prefill["memory_traffic_bytes"],
    )


@pytest.mark.parametrize("model", [TINY, WINDOWED, CHUNKED_LOCAL], ids=lambda m: m.name)
@given(prompt=st.integers(1, 120), output=st.integers(2, 90), batch=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_generation_is_the_sum_of_its_steps(model: Model, prompt: int, output: int, batch: int):
    assert whole(model, prompt, output, batch) == pytest.approx(loop(model, prompt, output, batch), rel=1e-9)


@pytest.mark.parametrize("attention", ["streamed", "fused", "unfused"])
@pytest.mark.parametrize("model", [LLAMA_8B, MIXTRAL], ids=lambda m: m.name)
def test_generation_of_large_models(model: Model, attention: str):
    options = {"attention": attention}
    assert whole(model, 500, 40, 16, **options) == pytest.approx(
        loop(model, 500, 40, 16, **options), rel=1e-9
    )


@pytest.mark.parametrize("form", ["absorbed", "expanded"])
def test_generation_with_latent_attention(form: str):
    assert whole(LATENT, 60, 30, 4, mla=form) == pytest.approx(loop(LATENT, 60, 30, 4, mla=form), rel=1e-9)


def test_generation_over_a_tensor_group():
    options = {"parallelism": Parallelism(tensor=2, overlap=0.25)}
    assert whole(MIXTRAL, 300, 20, 8, **options) == pytest.approx(
        loop(MIXTRAL, 300, 20, 8, **options), rel=1e-9
    )


def test_mean_time_per_token():
    request = predict_point(deploy(hardware=H100), Workload(prompt_tokens=100, output_tokens=11)).phases[
        "request"
    ]
    assert request["tpot_s"] == request["generation_s"] / 10
    assert request["e2e_s"] == request["ttft_s"] + request["generation_s"]


def test_a_single_token_has_no_time_between_tokens():
    request = predict_point(deploy(), Workload(output_tokens=1)).phases["request"]
    assert request["generation_s"] == 0
    assert math.isnan(request["tpot_s"])
    assert request["e2e_s"] == request["ttft_s"]


def test_decode_last_is_the_step_that_sees_prompt_and_output():
    phases = predict_point(deploy(), Workload(prompt_tokens=100, output_tokens=50)).phases
    later = predict_point(deploy(), Workload(prompt_tokens=149, output_tokens=1)).phases
    assert phases["decode_last"] == pytest.approx(later["decode"])
    assert later["decode"] == pytest.approx(later["decode_last"])
