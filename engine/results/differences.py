"""What differs between two runs besides their numbers: the spec as resolved, and where they were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.units import short_text

if TYPE_CHECKING:
    import pyarrow as pa

_CATALOGUE: Final = "x-catalogue"
_LONGEST: Final = 120
_MOST_VALUES: Final = 4
_OF_THE_MOMENT: Final = ("id", "started", "ended", "exit_code", "command", "seed")
"""Entries of a session that differ between any two runs; a comparison names them with the runs."""
ABSENT: Final = "none"


@dataclass(frozen=True)
class Difference:
    """One value that differs; None where a run has none."""

    path: str
    """Dotted, as in the spec: `workload.prompt_tokens`, `measurements.live.repeats`."""
    before: str | None
    after: str | None

    def __str__(self) -> str:
        """`path: old -> new`, as `engine plan` says it."""
        return f"{self.path}: {_or_none(self.before)} -> {_or_none(self.after)}"


def _or_none(text: str | None) -> str:
    return ABSENT if text is None else text


def spec_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Every value of two resolved specs that differs, by path.

    Entries of the catalogue are looked into only where both runs have one of that name: what else a run has
    follows from the names it uses. Their paths are those of the spec: `hardware.h100-sxm-80gb.memory`.
    """
    ours = {key: value for key, value in before.items() if key != _CATALOGUE}
    theirs = {key: value for key, value in after.items() if key != _CATALOGUE}
    found = list(_differences(ours, theirs))
    entries_before, entries_after = before.get(_CATALOGUE) or {}, after.get(_CATALOGUE) or {}
    for kind in sorted({*entries_before, *entries_after}):
        mine, other = entries_before.get(kind) or {}, entries_after.get(kind) or {}
        for name in sorted({*mine, *other}):
            path = f"{kind}.{name}"
            if name in mine and name in other:
                found += _differences(mine[name], other[name], path)
            else:
                found.append(
                    Difference(path, "used" if name in mine else None, "used" if name in other else None)
                )
    return tuple(found)


def _differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    mine, other = _entries(before), _entries(after)
    if mine is not None and other is not None:
        for key in dict.fromkeys([*other, *mine]):
            here = f"{path}.{key}" if path else key
            yield from _differences(mine.get(key), other.get(key), here)
    elif before != after:
        yield Difference(path, shown(before), shown(after))


def _entries(value: Any) -> dict[str, Any] | None:
    """A mapping by key, or a list of mappings by what names its items; None for anything else."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return dict(zip(_item_names(value), value, strict=True))
    return None


def _item_names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """`live`, `live[2]`: by kind, metric or name, numbered where that repeats; else by position."""
    counts: dict[str, int] = {}
    names = []
    for position, item in enumerate(items):
        name = next((str(item[key]) for key in ("kind", "metric", "name") if item.get(key)), f"[{position}]")
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f"{name}[{counts[name]}]")
    return names


def shown(value: Any) -> str | None:
    """A value in one line; long ones are cut."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = "[" + ", ".join(_or_none(shown(item)) for item in value) + "]"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_or_none(shown(item))}" for key, item in value.items()) + "}"
    else:
        text = short_text(str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."


def environment_differences(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    *,
    observed: tuple[pa.Table | None, pa.Table | None] = (None, None),
) -> tuple[Difference, ...]:
    """What differs between the machines of two runs: host, devices, drivers, versions, source state; and
    what was observed while they ran: clocks, settings of the server. A run made in several sessions shows
    each value it had."""
    sides = [_facts(sessions, table) for sessions, table in zip((before, after), observed, strict=True)]
    mine, other = sides
    return tuple(
        Difference(path, mine.get(path), other.get(path))
        for path in dict.fromkeys([*mine, *other])
        if mine.get(path) != other.get(path)
    )


def _facts(sessions: Sequence[Mapping[str, Any]], observed: pa.Table | None) -> dict[str, str]:
    values: dict[str, dict[str, None]] = {}
    for session in sessions:
        for path, value in _flat(session):
            if path not in _OF_THE_MOMENT and value is not None:
                values.setdefault(path, {})[str(shown(value))] = None
    facts = {path: _joined(found) for path, found in values.items()}
    seen: dict[str, set[str]] = {}
    for row in observed.to_pylist() if observed is not None else []:
        if row["observed"] is not None:
            seen.setdefault(f"observed.{row['setting']}", set()).add(row["observed"])
    facts |= {path: _joined(sorted(found)) for path, found in sorted(seen.items())}
    return facts


def _joined(found: Iterable[str]) -> str:
    texts = list(found)
    more = len(texts) - _MOST_VALUES
    return "; ".join(texts[:_MOST_VALUES]) + (f"; {more} more" if more > 0 else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        elif value != []:
            yield path, value
