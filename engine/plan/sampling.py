"""Random design points over ranges, the same for the same seed on every machine."""

from __future__ import annotations

import math
import random

from engine.spec.sweep import Range, Sample


def draw(sample: Sample) -> list[tuple[int, ...]]:
    """Rows of whole numbers, one column per range."""
    generator = random.Random(sample.seed)  # noqa: S311 - repeatable design points, not secrets
    columns = [[_at(span, u) for u in _unit_draws(sample, generator)] for span in sample.ranges.values()]
    return list(zip(*columns, strict=True))


def _unit_draws(sample: Sample, generator: random.Random) -> list[float]:
    if sample.method == "random":
        return [generator.random() for _ in range(sample.points)]
    # Latin hypercube: one draw in each of n equal slices, in random order.
    slices = list(range(sample.points))
    generator.shuffle(slices)
    return [(s + generator.random()) / sample.points for s in slices]


def _at(span: Range, u: float) -> int:
    if span.log:
        return round(math.exp(math.log(span.low) + u * (math.log(span.high) - math.log(span.low))))
    return round(span.low + u * (span.high - span.low))
