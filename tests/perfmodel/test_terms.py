"""Attended pairs and positions against brute force, and sums over steps against loops."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.step import positive_sum
from engine.perfmodel.terms import Attended, Geometry, attended, attended_runs, stepwise_runs

FULL, SLIDING, CHUNKED, SPARSE = "full", "sliding", "chunked", "sparse"


def visible(kind: str, window: int, query: int, key: int, *, causal: bool) -> bool:
    if causal and key > query:
        return False
    if kind == SLIDING:
        return key > query - window
    if kind == CHUNKED:
        return key // window == query // window
    return True


def brute_force(kind: str, window: int, p: int, s: int, *, causal: bool = True) -> tuple[int, int]:
    pairs = [
        (q, k) for q in range(p, p + s) for k in range(p + s) if visible(kind, window, q, k, causal=causal)
    ]
    return len(pairs), len({k for _, k in pairs})


@pytest.mark.parametrize("kind", [FULL, SLIDING, CHUNKED])
def test_causal_pairs_and_positions_against_brute_force(kind: str):
    for p, s, w in itertools.product(range(12), range(1, 9), range(1, 14)):
        found = attended(SCALAR, Geometry(kind, w), cached=p, new=s)
        pairs, touched = brute_force(kind, w, p, s)
        assert found.pairs == pairs, (p, s, w)
        if kind == CHUNKED:
            # Cached positions from the start of the first token's chunk on.
            assert found.positions == p + s - p // w * w >= touched
        else:
            assert found.positions == touched, (p, s, w)


def test_bidirectional_attention_sees_the_rectangle():
    for p, s in itertools.product(range(5), range(1, 5)):
        found = attended(SCALAR, Geometry(FULL, causal=False), cached=p, new=s)
        assert (
            (found.pairs, found.positions) == brute_force(FULL, 0, p, s, causal=False) == (s * (p + s), p + s)
        )


def test_one_token_reads_what_it_attends_to():
    for kind, p in itertools.product((FULL, SLIDING, CHUNKED, SPARSE), range(40)):
        found = attended(SCALAR, Geometry(kind, 7), cached=p, new=1)
        assert found.pairs == found.positions
    assert attended(SCALAR, Geometry(SLIDING, 7), cached=30, new=1).pairs == 7
    assert attended(SCALAR, Geometry(CHUNKED, 7), cached=30, new=1).pairs == 30 % 7 + 1


def test_sparse_prefill_may_touch_the_whole_context():
    found = attended(SCALAR, Geometry(SPARSE, 4), cached=0, new=10)
    # 1 + 2 + 3 + 4, then six queries with four positions each
    assert (found.pairs, found.positions) == (10 + 24, 10)


def total(runs: list[Attended]) -> tuple[float, float]:
    pairs = positions = 0.0
    for run in runs:
        for i in range(round(run.steps)):
            pairs += run.repeat * (run.pairs + i * run.pairs_step)
            positions += run.repeat * (run.positions + i * run.positions_step)
    return pairs, positions


def looped(geometry: Geometry, p: int, s: int, steps: int) -> tuple[float, float]:
    each = [attended(SCALAR, geometry, cached=p + i * s, new=s) for i in range(steps)]
    return sum(x.pairs for x in each), sum(x.positions for x in each)


@pytest.mark.parametrize("kind", [FULL, SLIDING, CHUNKED, SPARSE])
def test_runs_of_single_tokens_against_a_loop(kind: str):
    for p, steps, w in itertools.product(range(12), range(9), range(1, 14)):
        geometry = Geometry(kind, w)
        runs = attended_runs(SCALAR, geometry, cached=p, new=1, stride=1, steps=steps)
        assert total(runs) == pytest.approx(looped(geometry, p, 1, steps)), (p, steps, w)


@pytest.mark.parametrize("kind", [FULL, SLIDING, SPARSE])
def test_runs_of_prefill_chunks_against_a_loop(kind: str):
    for p, s, steps, w in itertools.product(range(6), range(2, 7), range(6), range(1, 20, 3)):
        geometry = Geometry(kind, w)
        runs = attended_runs(SCALAR, geometry, cached=p, new=s, stride=s, steps=steps)
        assert total(runs) == pytest.approx(looped(geometry, p, s, steps)), (p, s, steps, w)


def test_chunked_local_prefill_goes_step_by_step():
    for p, s, steps, w in itertools.product(range(4), range(2, 6), range(5), range(3, 9)):
        geometry = Geometry(CHUNKED, w)
        runs = stepwise_runs(SCALAR, geometry, cached=p, new=s, stride=s, steps=steps)
        assert total(runs) == pytest.approx(looped(geometry, p, s, steps))


def test_many_chunk_local_steps_are_ramps():
    # 200 steps of 8 after a cached prefix of 16: chunks of 32 hold whole steps, so ramps are exact
    aligned = Geometry(CHUNKED, 32)
    runs = stepwise_runs(SCALAR, aligned, cached=16, new=8, stride=8, steps=200)
    assert len(runs) == 64 + 3
    assert total(runs) == pytest.approx(looped(aligned, 16, 8, 200))
    # steps of 7 straddle the edges: off by less than a step in a chunk
    runs = stepwise_runs(SCALAR, Geometry(CHUNKED, 320), cached=0, new=7, stride=7, steps=3000)
    assert total(runs) == pytest.approx(looped(Geometry(CHUNKED, 320), 0, 7, 3000), rel=7 / 320)


def test_cutting_a_prompt_keeps_the_pairs():
    whole = attended(SCALAR, Geometry(FULL), cached=0, new=4096)
    (runs,) = attended_runs(SCALAR, Geometry(FULL), cached=0, new=512, stride=512, steps=8)
    pairs, positions = total([runs])
    assert pairs == whole.pairs == 4096 * 4097 / 2
    # Every chunk reads the cache anew: 512 (1 + 2 + ... + 8)
    assert positions == 512 * 36


numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))


@given(start=numbers, slope=numbers, steps=st.integers(0, 200))
def test_positive_sum_against_a_loop(start: float, slope: float, steps: int):
    expected = sum(max(0.0, start + i * slope) for i in range(steps))
    assert positive_sum(SCALAR, start, slope, steps) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_positive_sum_of_flat_series():
    assert positive_sum(SCALAR, 2.0, 0.0, 5) == 10.0
    assert positive_sum(SCALAR, -2.0, 0.0, 5) == 0.0
    assert positive_sum(SCALAR, 3.0, -1.0, 10) == 3 + 2 + 1
