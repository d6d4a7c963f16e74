"""Everything that can be said about an experiment before it is planned, without NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import Problem, SpecError
from engine.perfmodel.deployment import Deployment, Issue, check_deployment
from engine.plan.expand import DropRule, Expansion, expand, label_of
from engine.plan.resolve import Combination, Resolver
from engine.plan.variants import repeated_measurements
from engine.spec.analytical import AnalyticalSettings
from engine.spec.experiment import Experiment
from engine.spec.sweep import Sweep
from engine.spec.workload import COUNTS

_MOST_COMBINATIONS: Final = 2_000


def check(
    experiment: Experiment, *, search: Sequence[Path] = (), max_points: int | None = None
) -> tuple[Problem, ...]:
    """What a run would skip, each with its reason; raises `SpecError` with every bad axis, name and
    combination, or when no combination at all is possible."""
    resolver = Resolver(experiment, search, calibrated=False)
    problems = repeated_measurements(experiment.measurements)
    expansion: Expansion | None = None
    try:
        expansion = expand(experiment, max_points=max_points)
    except SpecError as err:
        problems += err.problems
    try:
        resolver.check_names()
    except SpecError as err:
        problems += err.problems
    if experiment.sweep != Sweep() and not experiment.has_points:
        problems.append(_sweep_of_logs())
    if problems or expansion is None:
        raise SpecError(problems)
    if not experiment.has_points:
        return ()
    return _impossible(experiment, expansion, resolver)


def _sweep_of_logs() -> Problem:
    return Problem(
        code="nothing-to-sweep",
        message="`sweep` varies nothing where only logs are read: each run brings its own point",
        hint="remove it, or add a measurement such as `kind: analytical`",
        path=("sweep",),
    )


def _impossible(experiment: Experiment, expansion: Expansion, resolver: Resolver) -> tuple[Problem, ...]:
    """Combinations that no device can run as asked, such as fp8 on a device without it."""
    settings = next((m for m in experiment.measurements if isinstance(m, AnalyticalSettings)), None)
    skipped: dict[str, Problem] = {}
    possible = 0
    for values in itertools.islice(_choices(expansion), _MOST_COMBINATIONS):
        combination = resolver.combination(values)
        if any(_drops_all_of(rule, combination) for rule in expansion.drops):
            continue
        issues = [i for i in _issues(combination, settings) if i.severity == "error"]
        possible += not issues
        for issue in issues:
            place = _place_of(experiment, issue.field, values)
            hint = "leave it out under `sweep.drop`, or choose another" if expansion.named else None
            skipped.setdefault(
                issue.message, Problem(code="impossible", message=issue.message, path=place, hint=hint)
            )
    if skipped and not possible:
        raise SpecError(list(skipped.values()))
    return tuple(skipped.values())


def _issues(combination: Combination, settings: AnalyticalSettings | None) -> list[Issue]:
    c = combination
    conventions = settings or AnalyticalSettings(kind="analytical")
    return check_deployment(Deployment(c.model, c.hardware, c.quantization, c.parallelism, conventions))


def _drops_all_of(rule: DropRule, combination: Combination) -> bool:
    return all(
        combination.label_at(path) in {label_of(v) for v in values} for path, values in rule.when.items()
    )


def _place_of(experiment: Experiment, field: str, values: dict[str, Any]) -> tuple[str | int, ...]:
    """Where the setting an issue is about stands: the axis value that brought it in, or the plain field."""
    section = field.split(".")[0]
    for path in (field, section):
        for i, value in enumerate(experiment.sweep.axes.get(path, ())):
            if path in values and label_of(value) == label_of(values[path]):
                return ("sweep", "axes", path, i)
    return tuple(field.split("."))


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
