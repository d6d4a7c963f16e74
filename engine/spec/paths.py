"""Which fields of an experiment can be swept, by dotted path, and how one value of each is checked.

The plan checks axes with this table and the editor schema types them from it, so both agree.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from engine.spec.docstrings import description_of
from engine.spec.experiment import Experiment
from engine.spec.settings import Uncoerced

NAMED: Final = ("model", "hardware", "quantization")
"""Sections that may be a catalogue name; their fields can be swept too, on top of the named entry."""
_SECTIONS: Final = (*NAMED, "workload", "parallelism")
_NOT_SWEPT: Final = frozenset(
    {"name", "notes", "source", "assumptions", "waivers", "aliases", "hub_id", "architecture", "confidence"}
    | {"ranges"}
)


@dataclass(frozen=True)
class SweepField:
    """A field an axis may name: `annotation` is the type of one value."""

    path: str
    annotation: Any
    description: str
    is_workload_count: bool
    """A plain whole number of `workload`: such values stay columns and are never resolved one by one."""

    def adapter(self) -> TypeAdapter[Any]:
        """What checks one value and turns units into base units."""
        return _adapter(self.path)


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    marked: Any = Annotated[sweepable()[path].annotation, Uncoerced()]
    return TypeAdapter(marked)


@cache
def sweepable() -> dict[str, SweepField]:
    """Every path an axis may name, in the order of the classes."""
    found: dict[str, SweepField] = {}
    for section in _SECTIONS:
        info = Experiment.model_fields[section]
        if section in NAMED:
            found[section] = SweepField(
                section, _annotation(info), description_of(Experiment, section) or "", False
            )
        for member in _models_in(info.annotation):
            _walk(member, section, found)
    return found


def _walk(owner: type[BaseModel], prefix: str, found: dict[str, SweepField]) -> None:
    for name, info in owner.model_fields.items():
        if name in _NOT_SWEPT:
            continue
        path = f"{prefix}.{name}"
        members = _models_in(info.annotation)
        if members:
            for member in members:
                _walk(member, path, found)
        elif get_origin(_bare(info.annotation)) not in (list, dict):
            count = prefix == "workload" and _bare(info.annotation) is int
            found[path] = SweepField(path, _annotation(info), description_of(owner, name) or "", count)


def _annotation(info: FieldInfo) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Settings classes directly behind a field, through `| None` and unions but not through lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []


def _bare(annotation: Any) -> Any:
    """The type of a field without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_bare(part) for part in get_args(annotation) if part is not type(None)]
        return parts[0] if len(parts) == 1 else annotation
    return annotation
