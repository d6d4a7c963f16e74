"""Experiment -> Plan. Pure: no GPU, no torch, no network; nothing is run."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.errors import NothingSelected, Problem, SpecError
from engine.plan.expand import DropRule, Expansion, Factor, expand, label_of
from engine.plan.fingerprint import fingerprint
from engine.plan.goals import with_goals
from engine.plan.point import Block, Grid, GridFactor, Point, Task, make_point
from engine.plan.resolve import Combination, Entries, Resolver
from engine.plan.variants import variants
from engine.spec.experiment import Experiment
from engine.spec.workload import COUNTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPAN_POINTS: Final = 65_536
"""Most points of one analytical task: a shard of a few megabytes."""
SPAN_COMBINATIONS: Final = 512
"""Most combinations of one analytical task: each is worked out anew, which takes milliseconds."""
_WHOLE_EXPERIMENT: Final = ("run_folder", "training", "device_probe")
_PER_POINT: Final = ("live", "energy")


@dataclass(frozen=True)
class Dropped:
    """What one drop rule removed."""

    when: dict[str, Any]
    because: str
    points: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run will do, decided before anything is run."""

    experiment: Experiment
    expansion: Expansion
    blocks: tuple[Block, ...]
    dropped: tuple[Dropped, ...]
    tasks: tuple[Task, ...]
    entries: Entries
    """Every catalogue entry the plan rests on: a run can be opened again after the catalogue moved."""
    variants: tuple[str | None, ...]
    """What tells each measurement from others of its kind; None where there is no other."""

    @property
    def size(self) -> int:
        """Design points."""
        return self.blocks[-1].points.stop if self.blocks else 0

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all tasks in order."""
        return fingerprint([task.fingerprint for task in self.tasks])

    def point(self, number: int) -> Point:
        """The resolved point with this number; raises `IndexError` outside the plan."""
        if not 0 <= number < self.size:
            raise IndexError(number)
        block = self.blocks[bisect_right(self.blocks, number, key=lambda b: b.first_point) - 1]
        position = number - block.first_point
        return make_point(block, position)


def compile_plan(
    experiment: Experiment,
    *,
    search: Sequence[Path] = (),
    versions: Mapping[str, int] | None = None,
    only: Sequence[str] = (),
    max_points: int | None = None,
    entries: Entries | None = None,
) -> Plan:
    """The plan of an experiment. `search` holds the folders with a user's own catalogue, `versions` the
    `result_version` of each kind of measurement, `only` the kinds to keep (all when empty), `entries`
    what to use instead of the catalogue's own."""
    experiment = with_goals(experiment)
    labels = variants(experiment.measurements)
    expansion = expand(experiment, max_points=max_points)  # every value typed, every mistake at once
    resolver = Resolver(experiment, search, entries=entries)
    resolver.check_names()  # each catalogue name at each place it is used
    blocks, dropped = _blocks(expansion, resolver) if experiment.has_points else ((), ())
    _check_counts(blocks)
    if experiment.has_points and not blocks:
        raise NothingSelected("every point of the sweep is dropped", hint="loosen a rule under `sweep.drop`")
    tasks = tuple(_tasks(experiment, blocks, versions or {}, only))
    if not tasks:
        raise NothingSelected(f"no measurement of kind {', '.join(f'`{k}`' for k in only)} in this spec")
    return Plan(experiment, expansion, blocks, dropped, tasks, resolver.entries, tuple(labels))


def _blocks(expansion: Expansion, resolver: Resolver) -> tuple[tuple[Block, ...], tuple[Dropped, ...]]:
    removed = [0] * len(expansion.drops)
    blocks: list[Block] = []
    first = 0
    numeric = tuple(_laid_out(factor) for factor in expansion.numeric)
    product = math.prod(len(factor.rows) for factor in expansion.named)
    for i, (values, factors) in enumerate(_assignments(expansion, numeric)):
        combination = resolver.combination({p: v for p, v in values.items() if not _is_count(p)})
        grid = _grid(combination, {p: v for p, v in values.items() if _is_count(p)}, factors)
        if expansion.drops:
            grid = _without_dropped(grid, expansion.drops, combination, removed)
        if not grid.size:
            continue
        block = Block(combination, grid, first)
        if i >= product:
            _refuse_repeated_point(block, i - product, blocks)
        blocks.append(block)
        first += grid.size
    rules = (
        Dropped({p: [label_of(v) for v in vs] for p, vs in rule.when.items()}, rule.because, count)
        for rule, count in zip(expansion.drops, removed, strict=True)
    )
    return tuple(blocks), tuple(rules)


def _refuse_repeated_point(single: Block, row: int, others: Sequence[Block]) -> None:
    """A single point that the product has too would be measured twice and counted twice."""
    wanted = single.grid.columns()
    for block in others:
        if block.identity != single.identity:
            continue
        found = block.grid.columns()
        same = np.logical_and.reduce([found[name] == wanted[name] for name in COUNTS])
        if same.any():
            number = block.first_point + int(same.argmax())
            message = f"row {row + 1} of `sweep.points` is point {number} of the sweep already"
            place = ("sweep", "points", row)
            raise SpecError(
                [Problem(code="repeated-point", message=message, hint="remove the row", path=place)]
            )


def _is_count(path: str) -> bool:
    return path.startswith("workload.") and path.removeprefix("workload.") in COUNTS


def _laid_out(factor: Factor) -> GridFactor:
    """A factor over counts as columns; an absent chunk is 0."""
    values = np.array([[value or 0 for value in row] for row in factor.rows], dtype=np.int64)
    return GridFactor(tuple(path.removeprefix("workload.") for path in factor.paths), values)


def _assignments(
    expansion: Expansion, numeric: tuple[GridFactor, ...]
) -> Iterator[tuple[dict[str, Any], tuple[GridFactor, ...]]]:
    """Each choice of names with the number factors to lay out under it; extra points come last."""
    for rows in itertools.product(*(factor.rows for factor in expansion.named)):
        values: dict[str, Any] = {}
        for factor, row in zip(expansion.named, rows, strict=True):
            values.update(zip(factor.paths, row, strict=True))
        yield values, numeric
    for values in expansion.extra:
        yield values, ()


def _grid(combination: Combination, fixed: dict[str, Any], factors: tuple[GridFactor, ...]) -> Grid:
    base = {name: getattr(combination.workload, name) or 0 for name in COUNTS}
    base.update({path.removeprefix("workload."): value or 0 for path, value in fixed.items()})
    return Grid(base, factors)


def _without_dropped(
    grid: Grid, drops: tuple[DropRule, ...], combination: Combination, removed: list[int]
) -> Grid:
    """The grid without points that a rule matches; each dropped point counts for the first such rule."""
    applicable = [
        (i, rule) for i, rule in enumerate(drops)
        if all(
            combination.label_at(p) in {label_of(v) for v in vs}
            for p, vs in rule.when.items()
            if not _is_count(p)
        )
    ]  # fmt: skip
    if not applicable:
        return grid
    kept: list[NDArray[np.int64]] = []
    for start, columns in grid.pieces():
        alive = np.ones(len(columns["batch_size"]), dtype=bool)
        for i, rule in applicable:
            hit = alive.copy()
            for path, values in rule.when.items():
                if _is_count(path):
                    hit &= np.isin(columns[path.removeprefix("workload.")], [v or 0 for v in values])
            removed[i] += int(hit.sum())
            alive &= ~hit
        kept.append(start + np.flatnonzero(alive))
    left = np.concatenate(kept)
    return grid if len(left) == grid.size else Grid(grid.base, grid.factors, left)


def _check_counts(blocks: Sequence[Block]) -> None:
    """What no single value shows: a prefix must be shorter than its prompt at every point."""
    for block in blocks:
        varied = {name for factor in block.grid.factors for name in factor.names}
        if not (block.grid.base["shared_prefix_tokens"] or "shared_prefix_tokens" in varied):
            continue
        example, bad = (0, 0), 0
        for _, columns in block.grid.pieces():
            prefix, prompt = columns["shared_prefix_tokens"], columns["prompt_tokens"]
            hit = np.flatnonzero(prefix >= prompt)
            if len(hit) and not bad:
                example = int(prefix[hit[0]]), int(prompt[hit[0]])
            bad += len(hit)
        if bad:
            message = (
                f"`workload.shared_prefix_tokens` {example[0]} is not below "
                f"`workload.prompt_tokens` {example[1]} at {bad} points"
            )
            raise SpecError([Problem(code="prefix-too-long", message=message, path=("sweep",))])


def _tasks(
    experiment: Experiment, blocks: Sequence[Block], versions: Mapping[str, int], only: Sequence[str]
) -> Iterator[Task]:
    for i, settings in enumerate(experiment.measurements):
        if only and settings.kind not in only:
            continue
        if settings.kind in _WHOLE_EXPERIMENT:
            spans: Iterator[tuple[tuple[Block, int, int], ...]] = iter([()])
        elif settings.kind in _PER_POINT:
            spans = (((b, n, n + 1),) for b in blocks for n in range(b.grid.size))
        else:
            spans = _spans(blocks)
        version = versions.get(settings.kind, 1)
        asked = fingerprint(settings)
        for span in spans:
            needed = _with_calibrations(asked, span) if _predicts(settings) else asked
            subject = fingerprint(
                settings.kind, [[b.identity, b.grid.identity(start, stop)] for b, start, stop in span]
            )
            key = fingerprint(subject, needed, version)
            yield Task(key, settings.kind, i, settings, span, subject, version)


def _predicts(settings: Any) -> bool:
    """Whether new parameter sets make a task new: predictions, and recordings with a prediction beside.

    What was metered on a device is not metered again for them: its rows name the set they are compared with.
    """
    return settings.kind == "analytical" or getattr(settings, "source", None) == "replay"


def _with_calibrations(asked: str, span: Sequence[tuple[Block, int, int]]) -> str:
    """The settings of a prediction with the parameter sets it may use: new parameters, new predictions."""
    sets = {name: s for block, _, _ in span for name, s in block.combination.calibrations.items()}
    return fingerprint(asked, [[name, sets[name]] for name in sorted(sets)]) if sets else asked


def _spans(blocks: Sequence[Block]) -> Iterator[tuple[tuple[Block, int, int], ...]]:
    """Slices of at most `SPAN_POINTS` points and `SPAN_COMBINATIONS` combinations that never cross a model
    or a device, so that adding a device to an axis leaves every other task as it was."""
    for _, group in itertools.groupby(blocks, key=_family):
        span: list[tuple[Block, int, int]] = []
        room = SPAN_POINTS
        for block in group:
            start = 0
            while start < block.grid.size:
                stop = min(start + room, block.grid.size)
                span.append((block, start, stop))
                room -= stop - start
                start = stop
                if room == 0 or len(span) == SPAN_COMBINATIONS:
                    yield tuple(span)
                    span, room = [], SPAN_POINTS
        if span:
            yield tuple(span)


def _family(block: Block) -> tuple[str, str]:
    labels = block.combination.labels
    return labels["model"].split("{")[0], labels["hardware"].split("{")[0]
