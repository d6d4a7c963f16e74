"""What a field may hold, read from its annotation: messages need more than pydantic's errors say."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.spec.quantity import Quantity
from engine.units import EXAMPLES

__all__ = ["Kind", "Shape", "kind_of", "shape_of"]

Shape = Literal["section", "list", "text", "number", "switch", "nothing"]


def shape_of(value: object) -> Shape:
    """What a plain value looks like in YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "switch"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "section" if isinstance(value, Mapping) else "list"


@dataclass(frozen=True, slots=True)
class Kind:
    """An annotation without `Annotated` and without `| None`."""

    annotation: Any
    metadata: tuple[object, ...] = ()
    nullable: bool = False
    tag: str | None = None
    """Key that tells the members of a tagged union apart."""

    @property
    def model(self) -> type[BaseModel] | None:
        """The settings class, when this is a section."""
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None

    @property
    def members(self) -> tuple[Kind, ...]:
        """The members of a union of several, in order; empty for everything else."""
        if not _is_union(self.annotation):
            return ()
        return tuple(kind_of(member) for member in get_args(self.annotation) if member is not type(None))

    @property
    def tags(self) -> dict[str, Kind]:
        """Tag -> member of a tagged union."""
        found: dict[str, Kind] = {}
        for member in self.members if self.tag else ():
            if member.model is not None:
                values = kind_of(member.model.model_fields[str(self.tag)].annotation).choices
                found.update({str(value): member for value in values})
        return found

    @property
    def choices(self) -> tuple[object, ...]:
        """The only values allowed, where they are listed."""
        if get_origin(self.annotation) is Literal:
            return get_args(self.annotation)
        if isinstance(self.annotation, type) and issubclass(self.annotation, Enum):
            return tuple(member.value for member in self.annotation)
        return ()

    @property
    def texts(self) -> list[str]:
        """The texts among the values that are listed, members of a union included."""
        own = [choice for choice in self.choices if isinstance(choice, str)]
        return own + [text for member in self.members for text in member.texts]

    @property
    def takes_any_text(self) -> bool:
        """Whether a text in quotes would do."""
        is_text = self.annotation is str
        return is_text or any(member.takes_any_text for member in self.members)

    @property
    def quantity(self) -> Quantity | None:
        """The quantity this holds, if it is one, or a union with one."""
        own = next((mark for mark in self.metadata if isinstance(mark, Quantity)), None)
        return own or next((member.quantity for member in self.members if member.quantity), None)

    @property
    def item(self) -> Kind | None:
        """What the items of a list or the values of a mapping hold; None when anything goes."""
        arguments = [arg for arg in get_args(self.annotation) if arg is not Ellipsis]
        origin = get_origin(self.annotation)
        if not arguments or not isinstance(origin, type):
            return None
        if issubclass(origin, Mapping):
            return kind_of(arguments[-1])
        return kind_of(arguments[0]) if issubclass(origin, Sequence | set | frozenset) else None

    @property
    def shapes(self) -> frozenset[Shape]:
        """The shapes a value of this kind may have."""
        if self.annotation is Any:
            return frozenset(get_args(Shape))
        if self.members:
            return frozenset(shape for member in self.members for shape in member.shapes)
        if self.quantity is not None:
            return frozenset({"text"})
        if self.choices:
            return frozenset(shape_of(choice) for choice in self.choices)
        return frozenset({self._own_shape()})

    def _own_shape(self) -> Shape:
        origin = get_origin(self.annotation) or self.annotation
        if not isinstance(origin, type):
            return "text"
        if issubclass(origin, BaseModel | Mapping):
            return "section"
        if issubclass(origin, bool):
            return "switch"
        if issubclass(origin, int | float):
            return "number"
        is_list = issubclass(origin, Sequence | set | frozenset) and not issubclass(origin, str | bytes)
        return "list" if is_list else "text"

    def describe(self) -> str:
        """What belongs here, in words that follow "must be"."""
        if self.tag is not None:
            return f"a section with `{self.tag}`"
        if self.members:
            # The long words for a section read better at the end.
            words = dict.fromkeys(member.describe() for member in self.members)
            return join_or(sorted(words, key=lambda word: "section" in word))
        if self.quantity is not None:
            return f"a number with a unit such as `{EXAMPLES[self.quantity.dimension]}`"
        if self.choices:
            return join_or([f"`{shown(choice)}`" for choice in self.choices])
        if self.annotation is int:
            return "a whole number"
        return _WORDS[self._own_shape()]

    def member_labelled(self, label: str) -> Kind | None:
        """The member of a union that pydantic calls by this label in the place of an error."""
        if self.tag is not None:
            return self.tags.get(label)
        return next((member for member in self.members if member._is_labelled(label)), None)

    def _is_labelled(self, label: str) -> bool:
        if self.model is not None:
            return re.search(rf"\b{re.escape(self.model.__name__)}\b", label) is not None
        if self.choices:
            return label.startswith(("literal[", "str-enum[", "enum[", "int-enum["))
        if self.quantity is not None:
            return label.startswith("function-")
        origin = get_origin(self.annotation) or self.annotation
        name = origin.__name__ if isinstance(origin, type) else ""
        return re.search(rf"(?:^|[-\s]){re.escape(name)}(?:\[|$)", label) is not None


_WORDS: dict[Shape, str] = {
    "section": "a section of `key: value` lines",
    "list": "a list",
    "text": "text",
    "number": "a number",
    "switch": "`true` or `false`",
    "nothing": "nothing",
}


def kind_of(annotation: Any, metadata: Sequence[object] = (), *, tag: str | None = None) -> Kind:
    """The kind behind an annotation and the marks around it."""
    marks, nullable = list(metadata), False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *inner = get_args(annotation)
            marks.extend(_unpacked(inner))
        elif _is_union(annotation) and type(None) in get_args(annotation):
            nullable = True
            rest = tuple(arg for arg in get_args(annotation) if arg is not type(None))
            annotation = rest[0] if len(rest) == 1 else Union[rest]  # noqa: UP007
        else:
            break
    for mark in marks:
        if isinstance(mark, FieldInfo) and isinstance(mark.discriminator, str):
            tag = mark.discriminator
    return Kind(annotation, tuple(marks), nullable, tag)


def field_kind(info: FieldInfo) -> Kind:
    """The kind of a field of a settings class."""
    tag = info.discriminator if isinstance(info.discriminator, str) else None
    return kind_of(info.annotation, info.metadata, tag=tag)


def field_named(model: type[BaseModel], key: str) -> FieldInfo | None:
    """The field behind a key as users write it."""
    return next((info for name, info in model.model_fields.items() if (info.alias or name) == key), None)


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a section, as users write them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def keys_below(model: type[BaseModel]) -> dict[str, list[str]]:
    """Every key of the sections below `model`, each with the dotted paths of the sections that have it."""
    homes: dict[str, list[str]] = {}
    for path, section in _sections(model, "", ()):
        for key in keys_of(section) if path else ():
            homes.setdefault(key, []).append(path)
    return homes


def _sections(
    model: type[BaseModel], path: str, above: tuple[type[BaseModel], ...]
) -> Iterator[tuple[str, type[BaseModel]]]:
    if model in above:
        return
    yield path, model
    for key in keys_of(model):
        kind = field_kind(cast("FieldInfo", field_named(model, key)))
        for member in kind.members or (kind,):
            if member.model is not None and not kind.tag:
                yield from _sections(member.model, f"{path}.{key}".lstrip("."), (*above, model))


def shown(value: object) -> str:
    """A plain value as YAML writes it, cut to a readable length."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def join_or(parts: Sequence[str]) -> str:
    """`a`, `b` or `c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _unpacked(marks: Sequence[object]) -> Iterator[object]:
    for mark in marks:
        yield mark
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
