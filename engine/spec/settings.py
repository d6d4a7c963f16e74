"""The base of every settings class: what users write is closed, frozen and never coerced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler

from engine.spec.docstrings import description_of
from engine.spec.quantity import Quantity

if TYPE_CHECKING:
    # Loading the schema generator takes 30 ms, and only the editor schema needs it.
    from pydantic import GetJsonSchemaHandler
    from pydantic.fields import ComputedFieldInfo, FieldInfo
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

__all__ = ["Settings", "Uncoerced", "quantity_of_field"]

_SCALARS = frozenset({"int", "float", "str", "bool"})
_NOT_SCHEMA = frozenset({"metadata", "serialization", "default"})


def _key_as_title(name: str, info: FieldInfo | ComputedFieldInfo) -> str:
    # Editors show the title on hover; a generated "Prompt Tokens" is not what one types.
    return info.alias or name


def _refuse_coercion(schema: object) -> None:
    if isinstance(schema, dict):
        if schema.get("type") in _SCALARS:
            cast("dict[str, object]", schema).setdefault("strict", True)
        for key, inner in schema.items():
            if key not in _NOT_SCHEMA:
                _refuse_coercion(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _refuse_coercion(inner)


class Uncoerced:
    """Mark for `Annotated`: scalars of a single field are as strict as in a whole section."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _refuse_coercion(schema)
        return schema


def _quantity_of(annotation: object, metadata: Sequence[object]) -> Quantity | None:
    """The quantity a field holds, looking through `Seconds | None`."""
    for mark in metadata:
        if isinstance(mark, Quantity):
            return mark
    for member in get_args(annotation):
        if isinstance(member, Quantity):
            return member
        found = _quantity_of(member, getattr(member, "__metadata__", ()))
        if found is not None:
            return found
    return None


def quantity_of_field(model: type[BaseModel], name: str) -> Quantity | None:
    """The quantity a field of a settings class holds; None for plain numbers and everything else."""
    field = model.model_fields[name]
    return _quantity_of(field.annotation, field.metadata)


class Settings(BaseModel):
    """A section of a spec: unknown keys fail, nothing can be changed later, and `"1"` is not `1`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        field_title_generator=_key_as_title,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # `strict=True` for the whole class would also refuse a YAML list where a tuple is declared, and
        # text where a path or an enumeration is; only scalars must not turn into one another.
        schema = handler(source)
        _refuse_coercion(schema)
        return schema

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        result = handler(schema)
        properties = handler.resolve_ref_schema(result).get("properties", {})
        for name, field in cls.model_fields.items():
            shown = properties[field.alias or name]
            description = description_of(cls, name)
            if description is not None:
                shown.setdefault("description", description)
            quantity = _quantity_of(field.annotation, field.metadata)
            # Editors offer the default as a completion, so it must be text one may write.
            if quantity is not None and isinstance(field.default, int | float):
                shown["default"] = quantity.text_for_people(field.default)
        return result
