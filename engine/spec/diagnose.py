"""What pydantic found, told as located problems in words that name the key, the value and the way out.

pydantic's places hold parts that are no keys (tags of unions, labels of their members); they are told apart
by walking the values and the settings classes side by side. `wording.py` has the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.errors import Problem
from engine.spec.kinds import Kind, field_kind, field_named, kind_of, shape_of
from engine.spec.tree import Origins, Path, Plain
from engine.spec.wording import Choice, Found, Place, meant_key, problem_of

__all__ = ["problems_from"]

_CROWD = 3


def problems_from(
    validation_error: ValidationError,
    *,
    values: Plain | Mapping[str, Any],
    origins: Origins,
    model_class: Any,
    path: Path = (),
) -> list[Problem]:
    """Located problems for everything pydantic refused in `values`, unsorted, one per mistake.

    `model_class` is the settings class or annotation validated against; `path` leads from the root of the
    document to `values`, when only a part of it was validated.
    """
    root = kind_of(model_class)
    start = Place(path, _as_plain(values), root)
    errors = validation_error.errors(include_url=False)
    found = [Found(error, *_walk(error, start), root, origins) for error in errors]
    settled = _settle(found, 0)
    meant = {
        (item.place.path[:-1], meant_key(item)) for item in settled if item.error["type"] == "extra_forbidden"
    }
    # A misspelt key is one mistake, even where the right one is required.
    told = [item for item in settled if (item.place.path, _missing_key(item)) not in meant]
    return [problem_of(item) for item in _gathered(told)]


def _as_plain(values: Any) -> Plain:
    return dict(values) if isinstance(values, Mapping) else values


# Places


def _walk(error: ErrorDetails, start: Place) -> tuple[Place, Kind | None]:
    """Where an error is, and the kind of the section that holds it."""
    place = section = start
    for part in error["loc"]:
        section = place
        place = _step(place, part)
    return (section, section.kind) if error["type"] == "missing" else (place, section.kind)


def _step(place: Place, part: str | int) -> Place:
    kind = place.kind
    if kind is not None and kind.members:
        member = kind.member_labelled(str(part))
        choices = place.choices
        if kind.tag is None:
            choices = (*choices, Choice(place.path, place.value, kind, member))
        return Place(place.path, place.value, member, choices, place.field)
    field = field_named(kind.model, part) if kind and kind.model and isinstance(part, str) else None
    inner = field_kind(field) if field is not None else kind.item if kind and not kind.model else None
    value = place.value
    if isinstance(value, dict) and isinstance(part, str) and part in value:
        return Place((*place.path, part), value[part], inner, place.choices, field)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return Place((*place.path, part), value[part], inner, place.choices, place.field)
    # A label of pydantic's own, such as `[key]` or the name of a validator: no step in the document.
    return place


# Unions


def _settle(found: Sequence[Found], level: int) -> list[Found]:
    """Leave out what is said about members of a union that the user did not mean."""
    result = [item for item in found if len(item.place.choices) <= level]
    groups: dict[Path, list[Found]] = {}
    for item in found:
        if len(item.place.choices) > level:
            groups.setdefault(item.place.choices[level].path, []).append(item)
    for group in groups.values():
        result.extend(_settle_group(group, level))
    return result


def _settle_group(group: Sequence[Found], level: int) -> list[Found]:
    choice = group[0].place.choices[level]
    value = choice.value
    fitting = [member for member in choice.union.members if shape_of(value) in member.shapes]
    by_member = [[i for i in group if i.place.choices[level].member == member] for member in fitting]
    candidates = [items for items in by_member if items]
    if len(candidates) == 1 or (candidates and shape_of(value) == "section"):
        return _settle(min(candidates, key=len), level + 1)
    place = Place(choice.path, value, choice.union, (), group[0].place.field)
    error = ErrorDetails(type="union", loc=(), msg="", input=value)
    return [replace(group[0], error=error, place=place)]


def _missing_key(item: Found) -> str:
    return str(item.error["loc"][-1]) if item.error["type"] == "missing" else ""


def _gathered(found: Sequence[Found]) -> list[Found]:
    """Keys missing in one section told together, where they are several."""
    groups: dict[Path, list[Found]] = {}
    for item in found:
        if item.error["type"] == "missing":
            groups.setdefault(item.place.path, []).append(item)
    crowded = {path: items for path, items in groups.items() if len(items) >= _CROWD}
    rest = [i for i in found if i.error["type"] != "missing" or i.place.path not in crowded]
    return rest + [replace(items[0], missing=tuple(map(_missing_key, items))) for items in crowded.values()]
