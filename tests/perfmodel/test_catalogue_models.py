"""Every catalogue model through the performance model: rows, phases, generations and splits agree."""

from __future__ import annotations

import math

import pytest

from engine.perfmodel.deployment import check_deployment
from engine.perfmodel.parameters import count_parameters
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import operator_rows
from engine.spec.catalog import catalog_files, load_model
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import deploy

CATALOGUE = sorted(catalog_files("model"))
WORK = Workload(prompt_tokens=1500, output_tokens=6, batch_size=4)


def test_there_are_at_least_forty_models():
    assert len(CATALOGUE) >= 40


@pytest.mark.parametrize("name", CATALOGUE)
def test_rows_phases_and_generation_agree(name: str):
    deployment = deploy(load_model(name))
    phases = predict_point(deployment, WORK).phases
    made = operator_rows(deployment, WORK)
    for phase in ("prefill", "decode", "decode_last"):
        rows = [row for row in made if row.phase == phase]
        assert sum(r.count * r.flops for r in rows) == pytest.approx(phases[phase]["flops"], rel=1e-9)
        assert sum(r.count * r.time_s for r in rows) == pytest.approx(phases[phase]["time_s"], rel=1e-9)
        moved = sum(r.count * r.total_bytes for r in rows)
        assert moved == pytest.approx(phases[phase]["memory_traffic_bytes"], rel=1e-9)
    steps = [
        predict_point(deployment, WORK.model_copy(update={"prompt_tokens": 1500 + i})).phases["decode"][
            "time_s"
        ]
        for i in range(5)
    ]
    assert phases["request"]["generation_s"] == pytest.approx(sum(steps), rel=1e-9)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_decode_step_reads_about_the_active_weights(name: str):
    """One sequence reads the parameters one token uses, once each."""
    model = load_model(name)
    count = count_parameters(model)
    made = operator_rows(deploy(model), Workload(prompt_tokens=16), phases=["decode"])
    read = sum(row.count * row.weight_bytes for row in made) / 2
    # Sinks and router biases are below a thousandth; a tied head is read like any other.
    assert read == pytest.approx(count.active, rel=2e-3)


@pytest.mark.parametrize("name", CATALOGUE)
def test_prefill_work_is_about_two_operations_a_weight_and_token(name: str):
    """Matrix work of a short prompt: two FLOPs for each active parameter, logits for one token only."""
    model = load_model(name)
    count = count_parameters(model)
    made = operator_rows(deploy(model), Workload(prompt_tokens=64), phases=["prefill"])
    layers = sum(r.count * r.flops for r in made if r.layer_kind not in ("embedding", "head"))
    head = model.vocab_size * (model.embedding_size or model.hidden_size)
    # Attention pairs, norms and activation functions come on top; small models have relatively more.
    assert 0.99 < layers / (2 * 64 * (count.active - head)) < 1.25


@pytest.mark.parametrize("name", CATALOGUE)
def test_splitting_over_two_devices_saves_time_and_memory(name: str):
    model = load_model(name)
    split = deploy(model, parallelism=Parallelism(tensor=2), link_latency=0.0)
    if any(issue.severity == "error" for issue in check_deployment(split)):
        pytest.skip("heads do not divide by two")
    work = Workload(prompt_tokens=2048, batch_size=8)
    one, two = predict_point(deploy(model), work).phases, predict_point(split, work).phases
    for phase in ("prefill", "decode"):
        alone = two[phase]["time_s"] - two[phase]["communication_s"]
        # What is replicated - norms, routers, latent projections - keeps it above a half.
        assert 0.5 * (1 - 1e-9) <= alone / one[phase]["time_s"] < 0.75
        assert two[phase]["flops"] >= one[phase]["flops"] * (1 - 1e-9)
    assert two["request"]["weights_bytes"] < 0.6 * one["request"]["weights_bytes"]
    assert math.isfinite(two["request"]["tpot_s"])
