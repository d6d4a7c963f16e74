"""How many pairs attention computes and how many positions it reads: closed forms for every mask.

`s` new tokens follow `p` cached ones; the context `c = p + s` includes them. Formulas are per sequence
and per head; they were checked against brute force (see the tests).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.perfmodel.arithmetic import Arithmetic, Values, scaled, shifted

_STEPS_ONE_BY_ONE: Final = 64


class Attended(NamedTuple):
    """A run of steps over which pairs and positions change evenly from step to step."""

    pairs: Values
    """Query-key pairs of the first step, per sequence and head."""
    positions: Values
    """Cached positions read in the first step, per sequence."""
    pairs_step: Values = 0
    """Growth of `pairs` from one step to the next."""
    positions_step: Values = 0
    steps: Values = 1
    repeat: Values = 1
    """How often this run occurs."""


@dataclass(frozen=True)
class Geometry:
    """Which positions a layer's tokens may see."""

    kind: str
    """`full`, `sliding`, `chunked` or `sparse` (the best `window` positions, read one by one)."""
    window: int = 0
    causal: bool = True
    rectangle: bool = False
    """Masked pairs are computed too (unfused attention)."""


def attended(a: Arithmetic, geometry: Geometry, *, cached: Values, new: Values) -> Attended:
    """Pairs and positions of one step of `new` tokens after `cached` ones."""
    p, s, w = cached, new, geometry.window
    context = shifted(s, p)
    if geometry.kind == "full":
        if isinstance(s, int) and s == 1:
            return Attended(context, context)
        pairs = s * context if _dense(geometry) else shifted(s * (s + 1) / 2, scaled(s, p))
        return Attended(pairs, context)
    if geometry.kind == "chunked":
        return _chunked(a, geometry, p, s)
    pairs, positions = _sliding(a, p, s, w)
    if geometry.kind == "sparse":
        # Each query reads its own choice of positions; together they may touch the whole context.
        positions = a.where(s <= 1, positions, context)
    if _dense(geometry):
        pairs = s * positions
    return Attended(pairs, positions)


def _dense(geometry: Geometry) -> bool:
    return geometry.rectangle or not geometry.causal


def _sliding(a: Arithmetic, p: Values, s: Values, w: int) -> tuple[Values, Values]:
    # The first `ramp` tokens still see everything before them.
    ramp = a.minimum(a.maximum(w - p, 0), s)
    pairs = ramp * p + ramp * (ramp + 1) / 2 + (s - ramp) * w
    return pairs, a.minimum(p + s, w + s - 1)


def _chunked(a: Arithmetic, geometry: Geometry, p: Values, s: Values) -> Attended:
    w = geometry.window
    context = p + s
    start = a.floor(p / w) * w
    positions = context - start
    if _dense(geometry):
        return Attended(s * positions, positions)
    # Triangles of whole chunks between the chunk of the first and of the last token.
    inside = p - start
    end = context - a.floor(context / w) * w
    whole = a.floor(context / w) - a.floor(p / w)
    pairs = whole * (w * (w + 1) / 2) + end * (end + 1) / 2 - inside * (inside + 1) / 2
    return Attended(pairs, positions)


def attended_runs(
    a: Arithmetic, geometry: Geometry, *, cached: Values, new: Values, stride: Values, steps: Values
) -> list[Attended]:
    """`steps` steps of `new` tokens, the cache growing by `stride` each: runs whose terms are even.

    Exact when a step is one token, or when `stride` equals `new` (prefill in chunks); with speculative
    steps the few that straddle a window's edge are taken at their middle.
    """
    p, s, w = cached, new, geometry.window
    if geometry.kind == "full":
        first = attended(a, geometry, cached=p, new=s)
        return [Attended(first.pairs, first.positions, s * stride, stride, steps)]
    if geometry.kind == "chunked":
        return _chunked_runs(a, geometry, p, s, stride, steps)
    return _windowed_runs(a, geometry, p, s, stride, steps, w)


def _windowed_runs(
    a: Arithmetic,
    geometry: Geometry,
    p: Values,
    s: Values,
    stride: Values,
    steps: Values,
    w: int,
) -> list[Attended]:
    # Steps that start at or below w - s see everything; those that start at w or later are full.
    growing = _count(a, a.floor((w - s - p) / stride) + 1, steps)
    below = _count(a, a.ceil((w - p) / stride), steps)
    edge = below - growing
    full = Geometry("full", 0, geometry.causal, geometry.rectangle)
    first = attended(a, full, cached=p, new=s)
    middle = attended(a, geometry, cached=p + stride * (growing + a.maximum(edge - 1, 0) / 2), new=s)
    last = attended(a, geometry, cached=a.maximum(p, w), new=s)
    return [
        Attended(first.pairs, first.positions, s * stride, stride, growing),
        Attended(middle.pairs, middle.positions, 0, 0, edge),
        Attended(
            last.pairs,
            last.positions if geometry.kind != "sparse" else _sparse_tail(a, p, s, stride, below, last),
            0,
            0 if geometry.kind != "sparse" else a.where(s <= 1, 0, stride),
            steps - below,
        ),
    ]


def _sparse_tail(
    a: Arithmetic, p: Values, s: Values, stride: Values, below: Values, last: Attended
) -> Values:
    return a.where(s <= 1, last.positions, p + stride * below + s)


def _chunked_runs(
    a: Arithmetic, geometry: Geometry, p: Values, s: Values, stride: Values, steps: Values
) -> list[Attended]:
    """Decoding token by token walks up a ramp of `w` positions again and again."""
    w = geometry.window
    inside = p - a.floor(p / w) * w
    head = a.minimum(steps, a.ceil((w - inside) / stride))
    left = steps - head
    period = w / stride
    whole = a.floor(left / period)
    tail = left - whole * period
    return [
        Attended(s * inside + s * (s + 1) / 2, inside + s, s * stride, stride, head),
        Attended(s * (s + 1) / 2, s, s * stride, stride, period, whole),
        Attended(s * (s + 1) / 2, s, s * stride, stride, tail),
    ]


def _count(a: Arithmetic, value: Values, steps: Values) -> Values:
    return a.minimum(a.maximum(value, 0), steps)


def stepwise_runs(
    a: Arithmetic, geometry: Geometry, *, cached: Values, new: Values, stride: Values, steps: Values
) -> list[Attended]:
    """The same steps one by one, for chunk-local layers whose prefill steps cut chunks anywhere.

    Exact for the first steps; those beyond are taken as ramps, which is exact where steps divide chunks.
    """
    exact = a.minimum(steps, _STEPS_ONE_BY_ONE)
    found = []
    for i in range(max(1, int(a.largest(exact)))):
        step = attended(a, geometry, cached=cached + i * stride, new=new)
        found.append(Attended(step.pairs, step.positions, steps=1.0, repeat=a.where(steps > i, 1, 0)))
    if a.largest(steps) > _STEPS_ONE_BY_ONE:
        rest = a.maximum(steps - _STEPS_ONE_BY_ONE, 0)
        found += _chunked_runs(a, geometry, cached + _STEPS_ONE_BY_ONE * stride, new, stride, rest)
    return found
