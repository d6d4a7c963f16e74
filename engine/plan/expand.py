"""Check a sweep value by value and lay it out as factors of a product.

Pure Python: `engine check` runs this without NumPy. Every mistake of a sweep is found in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from engine.errors import PlanError, Problem, SpecError
from engine.spec.experiment import Experiment
from engine.spec.paths import NAMED, SweepField, sweepable
from engine.spec.suggest import nearest
from engine.spec.sweep import Assignment, Sample
from engine.spec.tree import Origins, Source, Span

MAX_MEASURED_POINTS: Final = 10_000
MAX_PREDICTED_POINTS: Final = 100_000_000
_SECTION_ORDER: Final = (*NAMED, "parallelism", "workload")

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Factor:
    """One factor of the product: an axis has one path, tied rows have several."""

    kind: str
    """`axis`, `tie` or `sample`."""
    paths: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def is_numeric(self) -> bool:
        """All its paths are plain counts of the workload, so it stays columnar."""
        return all(sweepable()[path].is_workload_count for path in self.paths)


@dataclass(frozen=True)
class DropRule:
    """Typed form of one `drop` entry."""

    when: dict[str, tuple[Any, ...]]
    because: str


@dataclass(frozen=True)
class Expansion:
    """A sweep with every value checked and typed."""

    named: tuple[Factor, ...]
    """Factors that choose names or settings, model and hardware outermost."""
    numeric: tuple[Factor, ...]
    """Factors over counts of the workload, in the order written."""
    extra: tuple[dict[str, Any], ...]
    """Single points on top of the product."""
    drops: tuple[DropRule, ...]

    @property
    def combinations(self) -> int:
        """Points before drops."""
        return math.prod(len(f.rows) for f in (*self.named, *self.numeric)) + len(self.extra)


def expand(experiment: Experiment, *, max_points: int | None = None) -> Expansion:
    """Factors, extra points and drop rules of an experiment; raises `SpecError` with every mistake."""
    checker = _Checker()
    sweep = experiment.sweep
    factors = [*checker.axes(sweep.axes), *checker.ties(sweep.tie)]
    if sweep.sample is not None:
        factors += checker.sample(sweep.sample)
    extra = tuple(
        {path: checker.value(path, value, ("sweep", "points", i, path)) for path, value in row.items()}
        for i, row in enumerate(sweep.points)
    )
    checker.refuse_repeated_rows("points", [tuple(sorted(row.items())) for row in extra])
    drops = tuple(
        DropRule(
            {
                path: checker.choices(path, value, ("sweep", "drop", i, "when", path))
                for path, value in drop.when.items()
            },
            drop.because,
        )
        for i, drop in enumerate(sweep.drop)
    )
    checker.finish()
    named = sorted((f for f in factors if not f.is_numeric), key=_section_rank)
    numeric = tuple(f for f in factors if f.is_numeric)
    expansion = Expansion(tuple(named), numeric, extra, drops)
    _refuse_explosion(experiment, expansion, max_points)
    return expansion


def _section_rank(factor: Factor) -> int:
    return min(_SECTION_ORDER.index(path.split(".")[0]) for path in factor.paths)


def _refuse_explosion(experiment: Experiment, expansion: Expansion, max_points: int | None) -> None:
    measured = any(m.kind in ("live", "energy") for m in experiment.measurements)
    limit = max_points or (MAX_MEASURED_POINTS if measured else MAX_PREDICTED_POINTS)
    count = expansion.combinations
    if count > limit:
        kind = "measured" if measured else "predicted"
        raise PlanError(
            f"the sweep has {count:,} points, more than the {limit:,} that are {kind} without asking",
            hint=f"shorten an axis, draw a `sample`, or pass `--max-points {count}`",
        )


class _Checker:
    """Collects problems while values are typed, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.used: dict[str, str] = {}

    def finish(self) -> None:
        if self.problems:
            raise SpecError(self.problems)

    def complain(self, code: str, message: str, path: tuple[str | int, ...], hint: str | None = None) -> None:
        self.problems.append(Problem(code=code, message=message, path=path, hint=hint))

    def axes(self, axes: dict[str, list[Any]]) -> Iterator[Factor]:
        for path, values in axes.items():
            place = ("sweep", "axes", path)
            if not self.claim(path, "axes", place):
                continue
            if not values:
                self.complain(
                    "empty-axis",
                    f"axis `{path}` has no values",
                    place,
                    "give at least one value, or remove the axis",
                )
                continue
            rows = tuple((self.value(path, value, (*place, i)),) for i, value in enumerate(values))
            self.refuse_repeats(path, [row[0] for row in rows], place)
            yield Factor("axis", (path,), rows)

    def ties(self, ties: list[Assignment]) -> Iterator[Factor]:
        if not ties:
            return
        paths = tuple(ties[0])
        if not paths:
            self.complain("empty-tie", "a tied row sets no field", ("sweep", "tie", 0))
            return
        known = [self.claim(path, "tie", ("sweep", "tie", 0, path)) for path in paths]
        for i, row in enumerate(ties):
            if set(row) != set(paths):
                names = ", ".join(f"`{path}`" for path in paths)
                self.complain(
                    "tie-keys",
                    f"every tied row sets the same fields; the first one sets {names}",
                    ("sweep", "tie", i),
                )
                return
        if all(known):
            rows = tuple(
                tuple(self.value(path, row[path], ("sweep", "tie", i, path)) for path in paths)
                for i, row in enumerate(ties)
            )
            self.refuse_repeated_rows("tie", rows)
            yield Factor("tie", paths, rows)

    def sample(self, sample: Sample) -> Iterator[Factor]:
        from engine.plan.sampling import draw

        paths = tuple(sample.ranges)
        known = [self.claim(path, "sample", ("sweep", "sample", "ranges", path)) for path in paths]
        for path, span in sample.ranges.items():
            place = ("sweep", "sample", "ranges", path)
            if span.high < span.low or (span.log and span.low <= 0):
                self.complain(
                    "bad-range", f"range of `{path}` must rise" + (" from above 0" if span.log else ""), place
                )
                return
            if path in sweepable() and not sweepable()[path].is_workload_count:
                self.complain(
                    "not-a-number", f"`{path}` cannot be sampled; only counts of `workload` can", place
                )
                return
        if all(known):
            rows = tuple(
                tuple(
                    self.value(p, v, ("sweep", "sample", "ranges", p))
                    for p, v in zip(paths, row, strict=True)
                )
                for row in dict.fromkeys(draw(sample))  # rounding may draw the same counts twice
            )
            yield Factor("sample", paths, rows)

    def claim(self, path: str, where: str, place: tuple[str | int, ...]) -> bool:
        """Whether `path` is a field that nothing else in the sweep varies."""
        if self.field(path, place) is None:
            return False
        if path in self.used:
            self.complain(
                "swept-twice",
                f"`{path}` is varied in both `{self.used[path]}` and `{where}`",
                place,
                "keep one of them",
            )
            return False
        self.used[path] = where
        return True

    def field(self, path: str, place: tuple[str | int, ...]) -> SweepField | None:
        known = sweepable()
        if path in known:
            return known[path]
        near = _nearest(path, known)
        section = path.split(".")[0]
        options = [p for p in known if p.startswith(section + ".")] or [*NAMED, "workload.batch_size"]
        hint = f"did you mean `{near}`?" if near else "fields that can be swept: " + ", ".join(options[:8])
        self.complain("unknown-axis", f"`{path}` names no field that can be swept", place, hint)
        return None

    def value(self, path: str, value: Any, place: tuple[str | int, ...]) -> Any:
        """One value, typed; problems are noted and the raw value is returned."""
        field = self.field(path, place)
        if field is None:
            return value
        try:
            return field.adapter().validate_python(value)
        except ValidationError as err:
            self.problems += value_problems(err, value, field.annotation, place)
            return value

    def choices(self, path: str, value: Any, place: tuple[str | int, ...]) -> tuple[Any, ...]:
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        return tuple(self.value(path, item, place) for item in values)

    def refuse_repeats(self, path: str, values: list[Any], place: tuple[str | int, ...]) -> None:
        seen: set[str] = set()
        for i, value in enumerate(values):
            text = label_of(value)
            if text in seen:
                self.complain(
                    "repeated-value", f"axis `{path}` lists `{text}` twice", (*place, i), "remove one"
                )
            seen.add(text)

    def refuse_repeated_rows(self, section: str, rows: Sequence[tuple[Any, ...]]) -> None:
        seen: dict[str, int] = {}
        for i, row in enumerate(rows):
            first = seen.setdefault(repr(row), i)
            if first != i:
                self.complain(
                    "repeated-row",
                    f"row {i + 1} of `sweep.{section}` repeats row {first + 1}",
                    ("sweep", section, i),
                    "remove one",
                )


def _nearest(path: str, known: Iterable[str]) -> str | None:
    """The sweepable path that was probably meant; None when nothing is near."""
    section, _, field = path.partition(".")
    inside = {p.partition(".")[2]: p for p in known if p.startswith(section + ".")}
    # The section is right as a rule; counting its letters would make every field in it look near.
    if inside:
        found = nearest(field, inside)
        return inside[found] if found else None
    return nearest(path, known)


def value_problems(
    err: ValidationError, value: Any, annotation: Any, place: tuple[str | int, ...]
) -> list[Problem]:
    """What pydantic refused in one value, in the engine's words, without a place in a text."""
    # Only a sweep with mistakes pays for loading what explains them.
    from engine.spec.diagnose import problems_from

    nowhere = Origins(Span(Source("", ""), 0, 0, 0))
    found = problems_from(err, values=value, origins=nowhere, model_class=annotation, path=place)
    return [Problem(code=p.code, message=p.message, hint=p.hint, path=p.path or place) for p in found]


def label_of(value: Any) -> str:
    """Short text of a swept value."""
    if isinstance(value, BaseModel):
        name = getattr(value, "name", "custom")
        return str(name) if name != "custom" else "custom " + value.model_dump_json(exclude_unset=True)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
