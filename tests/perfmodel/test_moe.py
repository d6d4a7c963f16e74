"""Distinct experts against published tables and simulation; ranks of an expert group; tiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.moe import RoutingLaw, distinct_band, expected_tiles, routing_law, zipf_probabilities
from engine.perfmodel.point import predict_point
from engine.perfmodel.rows import operator_rows
from engine.spec.analytical import Routing
from engine.spec.model import MixtureOfExperts
from engine.spec.workload import Workload
from tests.perfmodel.shapes import MIXTRAL, deploy


def law(experts: int, per_token: int, routing: Routing | None = None, **more: int | None) -> RoutingLaw:
    moe = MixtureOfExperts(num_experts=experts, num_experts_per_tok=per_token, intermediate_size=8)
    return routing_law(moe, routing or Routing(), tile=more.get("tile"), ranks=more.get("ranks") or 1)


@pytest.mark.parametrize(
    "experts, per_token, expected",
    [
        (8, 2, {1: 2.00, 4: 5.47, 8: 7.20, 16: 7.92}),
        (64, 6, {8: 34.88, 32: 61.26}),
        (128, 8, {8: 51.62, 32: 111.77, 64: 125.94}),
        (256, 8, {8: 57.42, 32: 163.31, 64: 222.44}),
    ],
)
def test_uniform_routing(experts: int, per_token: int, expected: dict[int, float]):
    for tokens, distinct in expected.items():
        assert law(experts, per_token).distinct(SCALAR, tokens) == pytest.approx(distinct, abs=0.005)


@pytest.mark.parametrize(
    "experts, per_token, exponent, expected",
    [
        # Simulated top-k draws with Gumbel noise.
        (8, 2, 0.6, {4: 5.33, 8: 6.95, 16: 7.72}),
        (8, 2, 1.0, {4: 4.84, 8: 6.38, 16: 7.55}),
        (64, 6, 0.6, {8: 31.47, 32: 57.37}),
        (64, 6, 1.0, {8: 26.40, 32: 50.31}),
        (128, 8, 1.0, {8: 37.90, 32: 82.16, 64: 105.91}),
        (256, 8, 0.6, {8: 52.91, 32: 141.41, 64: 196.42}),
        (256, 8, 1.0, {8: 42.18, 32: 105.53, 64: 152.38}),
    ],
)
def test_skewed_routing_against_simulation(
    experts: int, per_token: int, exponent: float, expected: dict[int, float]
):
    skewed = law(experts, per_token, Routing(law="zipf", exponent=exponent))
    for tokens, distinct in expected.items():
        assert skewed.distinct(SCALAR, tokens) == pytest.approx(distinct, rel=0.017)


def test_measured_distinct_experts():
    # Hardware traces: 164 and 226 of 256 at 32 and 64 tokens, 115 of 128 at 32.
    assert law(256, 8).distinct(SCALAR, 32) == pytest.approx(164, rel=0.01)
    assert law(256, 8).distinct(SCALAR, 64) == pytest.approx(226, rel=0.02)
    assert law(128, 8).distinct(SCALAR, 32) == pytest.approx(115, rel=0.03)


def test_zipf_chances_are_chances():
    for exponent in (0.0, 0.6, 1.0, 2.0):
        chances = zipf_probabilities(64, 6, exponent)
        assert sum(chances) == pytest.approx(6)
        assert all(0 < p <= 1 for p in chances)
        assert list(chances) == sorted(chances, reverse=True)
    assert zipf_probabilities(64, 6, 0.0)[0] == pytest.approx(6 / 64)


def test_given_chances():
    chances = [1.0, 0.5, 0.25, 0.25]
    given = law(4, 2, Routing(law="given", probabilities=chances))
    # 1 + (1 - 0.5^2) + 2 (1 - 0.75^2)
    assert given.distinct(SCALAR, 2) == pytest.approx(1 + 0.75 + 2 * (1 - 0.5625))
    assert given.distinct(SCALAR, 2) < law(4, 2).distinct(SCALAR, 2)


def test_every_expert_for_every_token():
    assert law(4, 4).distinct(SCALAR, 1) == 4


def test_band_of_distinct_experts():
    assert distinct_band(256, 8, 4) == (8, 32)
    assert distinct_band(256, 8, 64) == (8, 256)


@pytest.mark.parametrize(
    "experts, tokens, ranks, expected", [(256, 32, 8, 24.2), (256, 32, 32, 7.9), (128, 32, 8, 15.9)]
)
def test_busiest_rank_has_more_than_its_share(experts: int, tokens: int, ranks: int, expected: float):
    load = law(experts, 8, ranks=ranks).load(SCALAR, tokens)
    assert load.device_distinct == pytest.approx(expected, abs=0.06)
    assert load.device_distinct > load.distinct / ranks


def test_rows_of_the_busiest_rank():
    load = law(256, 8, ranks=8).load(SCALAR, 32)
    assert load.rows == 256
    assert load.device_rows == pytest.approx(39.5, abs=0.05)


def test_one_token_occupies_a_rank():
    load = law(256, 8, ranks=64).load(SCALAR, 1)
    assert load.device_distinct >= 1
    assert load.device_rows >= 1


def test_mean_rank_and_busiest_rank_agree_with_simulation():
    random = np.random.default_rng(5)
    experts, k, tokens, ranks = 64, 4, 16, 4
    largest = []
    for _ in range(400):
        picks = np.concatenate([random.choice(experts, k, replace=False) for _ in range(tokens)])
        touched = np.unique(picks)
        largest.append(np.bincount(touched // (experts // ranks), minlength=ranks).max())
    load = law(experts, k, ranks=ranks).load(SCALAR, tokens)
    assert load.device_distinct == pytest.approx(np.mean(largest), rel=0.03)


@pytest.mark.parametrize(
    "tokens, chance, tile", [(1, 0.25, 8), (40, 0.1, 8), (300, 0.03, 16), (2000, 0.06, 64), (9000, 0.25, 128)]
)
def test_expected_tiles_against_the_binomial_law(tokens: int, chance: float, tile: int):
    logs = [
        math.lgamma(tokens + 1) - math.lgamma(i + 1) - math.lgamma(tokens - i + 1)
        + i * math.log(chance) + (tokens - i) * math.log1p(-chance)
        for i in range(tokens + 1)
    ]  # fmt: skip
    exact = sum(math.exp(p) * math.ceil(i / tile) for i, p in enumerate(logs))
    assert expected_tiles(tokens, chance, tile) == pytest.approx(exact, rel=2e-3)


def test_tiles_pad_rows_but_not_below_the_work():
    padded = law(128, 8, tile=64)
    plain = law(128, 8)
    assert plain.rows(SCALAR, 32) == 256
    # Nearly every touched expert gets a tile of its own: 111.8 tiles of 64 rows
    assert padded.rows(SCALAR, 32) == pytest.approx(64 * plain.distinct(SCALAR, 32), rel=0.01)
    assert padded.rows(SCALAR, 10_000) > plain.rows(SCALAR, 10_000)
    assert padded.rows(SCALAR, 10_000) < 1.1 * plain.rows(SCALAR, 10_000)


def test_tiles_show_in_the_rows_and_the_time():
    work = Workload(batch_size=64)
    tiled = deploy(MIXTRAL, expert_tile=64)
    (gate,) = [r for r in operator_rows(tiled, work, phases=["decode"]) if r.operator == "expert gate"]
    (bare,) = [
        r for r in operator_rows(deploy(MIXTRAL), work, phases=["decode"]) if r.operator == "expert gate"
    ]
    assert gate.flops > 3 * bare.flops
    assert (
        predict_point(tiled, work).phases["decode"]["flops"]
        > predict_point(deploy(MIXTRAL), work).phases["decode"]["flops"]
    )


def test_every_token_of_a_step_counts():
    riding = predict_point(deploy(MIXTRAL), Workload(batch_size=1, prefill_tokens_per_step=63))
    assert riding.phases["request"]["distinct_experts"] == pytest.approx(8 * (1 - 0.75**64))
