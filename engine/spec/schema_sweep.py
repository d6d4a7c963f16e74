"""Types the sweep by path: an axis `workload.batch_size` takes a list of what that field takes."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from engine.spec.paths import sweepable
from engine.spec.schema_passes import Json

__all__ = ["sweep_adapters", "type_sweep"]


def sweep_adapters() -> dict[str, TypeAdapter[Any]]:
    """Path -> what checks one value of it."""
    return {path: field.adapter() for path, field in sweepable().items()}


def type_sweep(definitions: Json, values: dict[str, Json]) -> Json:
    """The definitions with every sweep section typed; `values` holds the schema of one value of each path."""
    fields = sweepable()
    of_path = {
        path: {**schema, "title": path, "description": fields[path].description or f"Values of {path}."}
        for path, schema in values.items()
    }
    row = {path: {"$ref": _reference(path)} for path in of_path}
    axes = {path: _axis(path, of_path[path]) for path in of_path}
    conditions = {path: _value_or_list(path, of_path[path]) for path in of_path}
    ranges = {
        path: {"$ref": "#/$defs/Range", "title": path, "description": of_path[path]["description"]}
        for path, field in fields.items()
        if field.is_workload_count
    }
    return {
        **definitions,
        **of_path,
        "SweepRow": _closed(row) | {"title": "row"},
        "Sweep": _with_properties(
            definitions["Sweep"],
            axes=_closed(axes),
            tie={"type": "array", "items": {"$ref": _reference("SweepRow")}},
            points={"type": "array", "items": {"$ref": _reference("SweepRow")}},
        ),
        "Drop": _with_properties(definitions["Drop"], when=_closed(conditions) | {"minProperties": 1}),
        "Sample": _with_properties(definitions["Sample"], ranges=_closed(ranges) | {"minProperties": 1}),
    }


def _reference(name: str) -> str:
    return f"#/$defs/{name}"


def _closed(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _axis(path: str, value: Json) -> Json:
    return {
        "type": "array",
        "title": path,
        "description": value["description"],
        "items": {"$ref": _reference(path)},
        "minItems": 1,
        "uniqueItems": True,
    }


def _value_or_list(path: str, value: Json) -> Json:
    # The single value first: editors explain a mistake against the first member.
    several = {"type": "array", "items": {"$ref": _reference(path)}, "minItems": 1}
    return {
        "title": path,
        "description": value["description"],
        "anyOf": [{"$ref": _reference(path)}, several],
    }


def _with_properties(section: Json, **replaced: Json) -> Json:
    """The section with some properties replaced, each keeping its title and description."""
    properties = dict(section["properties"])
    for name, schema in replaced.items():
        words = {key: properties[name][key] for key in ("title", "description") if key in properties[name]}
        properties[name] = words | schema | words
    return {**section, "properties": properties}
