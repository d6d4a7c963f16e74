"""Prefix hits, chunks, mixed and speculative steps, split pools, energy and cost."""

from __future__ import annotations

import numpy as np
import pytest

from engine.perfmodel.disaggregated import LIMITS, Pools, disaggregate
from engine.perfmodel.point import predict_point
from engine.perfmodel.summary import WorkloadArrays
from engine.spec.model import Model
from engine.spec.workload import Parallelism, Speculation, Workload
from tests.perfmodel.shapes import (
    CHUNKED_LOCAL,
    H100,
    LLAMA_8B,
    MIXTRAL,
    MODELS,
    TINY,
    WINDOWED,
    deploy,
    device,
)

ENERGY = {
    "static_power": "80 W",
    "per_byte": "60 pJ/B",
    "per_flop": "0.5 pJ/FLOP",
    "source": "made up for a test",
}


def phases(
    model: Model = LLAMA_8B, draft: object = None, options: dict[str, object] | None = None, **work: object
):
    return predict_point(deploy(model, **(options or {})), Workload(**work), draft=draft).phases


def test_a_cached_prefix_costs_no_prefill_work():
    hit = phases(prompt_tokens=2048, shared_prefix_tokens=1536)["prefill"]
    cold = phases(prompt_tokens=2048)["prefill"]
    # 512 new tokens: their linear work, the same attention pairs less those of the prefix alone
    linear = 32 * 2 * (41_943_040 + 176_160_768)
    assert cold["flops"] - hit["flops"] > 1536 * linear
    assert hit["time_s"] < 0.3 * cold["time_s"]
    # the decode step reads the whole context all the same
    step = {"prompt_tokens": 2048, "batch_size": 4}
    assert phases(**step, shared_prefix_tokens=1536)["decode"] == phases(**step)["decode"]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_chunks_of_the_whole_prompt_change_nothing(model: Model):
    whole, one = phases(model, prompt_tokens=400), phases(model, prompt_tokens=400, prefill_chunk_tokens=400)
    assert one["prefill"] == pytest.approx(whole["prefill"])


def by_hand(model: Model, prompt: int, chunk: int, prefix: int) -> dict[str, float]:
    """A chunked prefill as separate prefills behind cached prefixes; the head runs in the last one."""
    total = {"flops": 0.0, "memory_traffic_bytes": 0.0, "time_s": 0.0}
    starts = list(range(prefix, prompt, chunk))
    for start in starts:
        end = min(start + chunk, prompt)
        part = phases(model, prompt_tokens=end, shared_prefix_tokens=start, batch_size=3)["prefill"]
        for name in total:
            total[name] += part[name]
    # every part above ran final norm and head; all but the last give it back
    h, v, b = model.hidden_size, model.vocab_size, 3
    extra = len(starts) - 1
    moved = (2 * b * h * 2 + h * 2) + (h * v * 2 + b * (h + v) * 2)
    total["flops"] -= extra * (4 * b * h + 2 * b * h * v)
    total["memory_traffic_bytes"] -= extra * moved
    head_s = max(2 * b * h * v / 312e12, (h * v * 2 + b * (h + v) * 2) / 2.039e12)
    total["time_s"] -= extra * (head_s + (2 * b * h * 2 + h * 2) / 2.039e12)
    return total


@pytest.mark.parametrize("model", [LLAMA_8B, MIXTRAL, WINDOWED, CHUNKED_LOCAL], ids=lambda m: m.name)
@pytest.mark.parametrize("prompt, chunk, prefix", [(400, 100, 0), (401, 64, 0), (333, 50, 30), (90, 7, 3)])
def test_chunked_prefill_is_the_sum_of_its_chunks(model: Model, prompt: int, chunk: int, prefix: int):
    found = phases(
        model, prompt_tokens=prompt, shared_prefix_tokens=prefix, prefill_chunk_tokens=chunk, batch_size=3
    )["prefill"]
    expected = by_hand(model, prompt, chunk, prefix)
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, rel=1e-9), name


def test_riding_prefill_slows_the_step_and_shares_the_weights():
    alone = phases(prompt_tokens=1024, batch_size=8)["decode"]
    mixed = phases(prompt_tokens=1024, batch_size=8, prefill_tokens_per_step=512)["decode"]
    apart = phases(prompt_tokens=512)["prefill"]
    assert alone["time_s"] < mixed["time_s"] < alone["time_s"] + apart["time_s"]
    # 512 more tokens through every matrix, and their attention: 512 x (1024 + 1) / 2 pairs in each layer
    linear = 32 * 2 * (41_943_040 + 176_160_768)
    attention = 32 * (4 * 128 + 5) * 32 * 512 * 1025 / 2
    elementwise = 32 * (2 * 4 * 4096 + 3 * (4096 + 1024) + 2 * 4096 + 5 * 14336)
    head = 0.5 * (2 * 4096 * 128_256 + 4 * 4096)
    assert mixed["flops"] - alone["flops"] == pytest.approx(512 * (linear + elementwise) + attention + head)


def test_expected_tokens_of_a_speculative_step():
    # (1 - 0.7^5) / (1 - 0.7)
    assert sum(0.7**i for i in range(5)) == pytest.approx(2.7731)
    plain = phases(prompt_tokens=512, output_tokens=100)
    free = phases(prompt_tokens=512, output_tokens=100, speculation=Speculation(tokens=4, acceptance=0.7))
    step = free["decode"]["time_s"]
    # five positions a step, still bound by the weights
    assert plain["decode"]["time_s"] < step < 1.05 * plain["decode"]["time_s"]
    assert free["request"]["tpot_s"] == pytest.approx(step / 2.7731, rel=0.01)
    assert free["decode"]["output_tokens_per_s"] == pytest.approx(2.7731 / step)


def test_speculation_that_never_or_always_succeeds():
    def mean(acceptance: float) -> float:
        speculation = Speculation(tokens=3, acceptance=acceptance)
        return phases(prompt_tokens=512, output_tokens=100, speculation=speculation)["request"]["tpot_s"]

    step = phases(prompt_tokens=512, speculation=Speculation(tokens=3, acceptance=0))["decode"]["time_s"]
    assert mean(0.0) == pytest.approx(step, rel=0.01)
    assert mean(1.0) == pytest.approx(step / 4, rel=0.01)


def test_a_draft_model_costs_time():
    work = {"prompt_tokens": 512, "output_tokens": 100}
    speculation = Speculation(tokens=4, acceptance=0.7, draft_model="tiny")
    free = phases(**work, speculation=speculation)
    paid = phases(**work, speculation=speculation, draft=deploy(TINY))
    draft = phases(TINY, **work)
    assert paid["decode"]["time_s"] == pytest.approx(free["decode"]["time_s"] + 4 * draft["decode"]["time_s"])
    assert paid["prefill"]["time_s"] == pytest.approx(free["prefill"]["time_s"] + draft["prefill"]["time_s"])


def test_split_pools():
    first, second = deploy(hardware=H100), deploy()
    work = Workload(prompt_tokens=2048, output_tokens=257, batch_size=16)
    found = disaggregate(first, second, WorkloadArrays.of(work), pools=Pools(50e9, link_latency_s=1e-3))
    prompt = predict_point(first, work.model_copy(update={"batch_size": 1})).phases["request"]
    steps = predict_point(second, work).phases["request"]
    # 2048 tokens x 131 072 bytes over 50 GB/s
    assert found.transfer_s[0] == pytest.approx(2048 * 131_072 / 50e9 + 1e-3)
    assert found.ttft_s[0] == pytest.approx(prompt["ttft_s"] + found.transfer_s[0])
    assert found.tpot_s[0] == steps["tpot_s"]
    rates = (1 / prompt["ttft_s"], 16 / steps["generation_s"], 1 / found.transfer_s[0])
    assert found.requests_per_s[0] == pytest.approx(min(rates))
    assert LIMITS[found.limited_by[0]] == "decode"
    assert found.output_tokens_per_s_per_device[0] == pytest.approx(min(rates) * 257 / 2)
    more = disaggregate(first, second, WorkloadArrays.of(work), pools=Pools(50e9, decode_instances=8))
    assert LIMITS[more.limited_by[0]] == "prefill"


def test_a_split_cache_is_sent_whole():
    work = WorkloadArrays.of(Workload(prompt_tokens=100, output_tokens=4))
    alone = disaggregate(deploy(), deploy(), work, pools=Pools(50e9))
    split = disaggregate(deploy(parallelism=Parallelism(tensor=16)), deploy(), work, pools=Pools(50e9))
    assert alone.transfer_bytes[0] == split.transfer_bytes[0] == 100 * 131_072
    assert isinstance(alone.fits, np.ndarray)


def test_energy_is_static_power_bytes_and_operations():
    decode = phases(options={"hardware": device(energy=ENERGY, power="400 W")}, batch_size=4)["decode"]
    expected = 80 * decode["time_s"] + 60e-12 * decode["memory_traffic_bytes"] + 0.5e-12 * decode["flops"]
    assert decode["energy_j"] == pytest.approx(expected)
    assert decode["energy_per_output_token_j"] == pytest.approx(expected / 4)
    assert decode["average_power_w"] == pytest.approx(expected / decode["time_s"])
    assert decode["tokens_per_joule"] == pytest.approx(4 / expected)


def test_request_energy_is_that_of_its_phases():
    options = {"hardware": device(energy=ENERGY, power="400 W")}
    found = phases(options=options, prompt_tokens=300, output_tokens=1, batch_size=2)
    assert found["request"]["energy_j"] == pytest.approx(found["prefill"]["energy_j"])
    assert found["request"]["energy_per_request_j"] == pytest.approx(found["prefill"]["energy_j"] / 2)
    assert found["prefill"]["energy_per_prompt_token_j"] == pytest.approx(found["prefill"]["energy_j"] / 600)


def test_energy_is_absent_without_coefficients():
    found = phases()
    assert not [name for metrics in found.values() for name in metrics if "energy" in name or "power" in name]


def test_cost_from_the_price_of_a_device_hour():
    options = {"hardware": device(price="2 USD/h"), "parallelism": Parallelism(tensor=2)}
    request = phases(options=options)["request"]
    expected = 2 * 2 / 3600 / request["output_tokens_per_s"] * 1e6
    assert request["cost_per_million_output_tokens_usd"] == pytest.approx(expected)
    assert "cost_per_million_output_tokens_usd" not in phases()["request"]


def test_rates_of_a_request():
    request = phases(prompt_tokens=100, output_tokens=21, batch_size=4)["request"]
    assert request["output_tokens_per_s"] == pytest.approx(84 / request["e2e_s"])
    assert request["total_tokens_per_s"] == pytest.approx(484 / request["e2e_s"])
    assert request["requests_per_s"] == pytest.approx(4 / request["e2e_s"])
    assert request["prompt_tokens_per_s"] == pytest.approx(400 / request["ttft_s"])
    assert request["output_tokens_per_s_per_user"] == pytest.approx(1 / request["tpot_s"])
