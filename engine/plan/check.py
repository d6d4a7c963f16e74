"""Everything that can be said about an experiment before it is planned, without NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import Problem, SpecError
from engine.plan.expand import Expansion, expand
from engine.plan.resolve import Resolver
from engine.spec.experiment import Experiment
from engine.spec.workload import COUNTS

_MOST_COMBINATIONS: Final = 2_000


def check(experiment: Experiment, *, search: Sequence[Path] = (), max_points: int | None = None) -> int:
    """Number of design points before drops; raises `SpecError` with every bad axis, name and combination."""
    resolver = Resolver(experiment, search)
    problems: list[Problem] = []
    expansion: Expansion | None = None
    try:
        expansion = expand(experiment, max_points=max_points)
    except SpecError as err:
        problems += err.problems
    try:
        resolver.check_names()
    except SpecError as err:
        problems += err.problems
    if problems or expansion is None:
        raise SpecError(problems)
    for values in itertools.islice(_choices(expansion), _MOST_COMBINATIONS):
        resolver.combination(values)
    return expansion.combinations


def _choices(expansion: Expansion) -> Iterator[dict[str, Any]]:
    counts = {f"workload.{name}" for name in COUNTS}
    for rows in itertools.product(*(factor.rows for factor in expansion.named)):
        chosen: dict[str, Any] = {}
        for factor, row in zip(expansion.named, rows, strict=True):
            chosen.update(
                (path, value) for path, value in zip(factor.paths, row, strict=True) if path not in counts
            )
        yield chosen
    for extra in expansion.extra:
        yield {path: value for path, value in extra.items() if path not in counts}
