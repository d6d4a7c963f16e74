"""What tells several measurements of one kind apart, in words for tables and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from engine.errors import Problem, SpecError
from engine.spec.measurement import Measurement

_MOST_TRIED: Final = 3
"""Settings at once that are tried; beyond, all that differ are named."""


def variants(measurements: Sequence[Measurement]) -> list[str | None]:
    """For each measurement the settings that tell it from all others of its kind, as `path=value`: as few as
    do, the first in the file; None where there is no other. Raises `SpecError` for two that are equal."""
    problems = repeated_measurements(measurements)
    if problems:
        raise SpecError(problems)
    dumped = _dumped(measurements)
    return [_label(i, dumped) for i in range(len(dumped))]


def _label(index: int, dumped: Sequence[Mapping[str, Any]]) -> str | None:
    own = dumped[index]
    kind = [d for d in dumped if d["kind"] == own["kind"]]
    names = dict.fromkeys(name for d in kind for name in d)
    differing = [name for name in names if any(d.get(name) != own.get(name) for d in kind)]
    for count in range(1, len(differing)):
        enough = next((some for some in combinations(differing, count) if _tell_apart(some, kind)), None)
        if enough is not None:
            differing = list(enough)
            break
        if count == _MOST_TRIED:
            break
    return ", ".join(f"{name}={_shown(own.get(name))}" for name in differing) or None


def _tell_apart(names: Sequence[str], measurements: Sequence[Mapping[str, Any]]) -> bool:
    return len({tuple(_shown(m.get(name)) for name in names) for m in measurements}) == len(measurements)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def repeated_measurements(measurements: Sequence[Measurement]) -> list[Problem]:
    """A problem for every measurement that is there already."""
    dumped = _dumped(measurements)
    firsts = [next(j for j, other in enumerate(dumped) if other == one) for one in dumped]
    return [
        Problem(
            code="repeated-measurement",
            message=f"measurement {i + 1} is the same as measurement {first + 1}",
            hint="remove one, or change a setting",
            path=("measurements", i),
        )
        for i, first in enumerate(firsts)
        if first != i
    ]


def _dumped(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    return [dict(_leaves(m.model_dump(mode="json"))) for m in measurements]
