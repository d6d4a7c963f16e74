"""JSON Schema of everything users write, generated from the settings classes for their editors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import TypeAdapter

from engine.spec.calibration import Calibration
from engine.spec.catalog import Kind, entries, packaged_root
from engine.spec.docstrings import description_of
from engine.spec.experiment import Experiment
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.schema_passes import Json, for_editors, pruned
from engine.spec.schema_sweep import sweep_adapters, type_sweep
from engine.spec.settings import Settings

__all__ = ["SCHEMA_FILES", "build_schemas", "check_drift", "schema_texts", "write_schemas"]

SCHEMA_FILES: Final[dict[str, type[Settings]]] = {
    "experiment.v1.json": Experiment,
    "calibration.v1.json": Calibration,
    "hardware.v1.json": Hardware,
    "model.v1.json": Model,
    "quantization.v1.json": Quantization,
}
_NAMED: Final[dict[Kind, type[Settings]]] = {
    "model": Model,
    "hardware": Hardware,
    "quantization": Quantization,
}
# What a new file starts with; editors offer it in an empty one.
_SKELETON: Final = {
    "version": 1,
    "name": "${1:my-experiment}",
    "model": "${2:llama-3.1-8b}",
    "hardware": "${3:h100-sxm-80gb}",
    "quantization": "${4:bf16}",
    "workload": {"prompt_tokens": "${5:2048}", "output_tokens": "${6:256}"},
    "sweep": {"axes": {"workload.batch_size": "[${7:1, 8, 32}]"}},
    "measurements": [{"kind": "analytical"}],
}


_OF_LOGS: Final[Json] = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"const": "run_folder"}},
}
_ONLY_LOGS: Final[Json] = {
    "required": ["measurements"],
    "properties": {"measurements": {"type": "array", "minItems": 1, "items": _OF_LOGS}},
}


def build_schemas() -> dict[str, Json]:
    """File name -> schema, ready for editors."""
    return {
        name: _experiment_schema() if model is Experiment else _file_schema(model.model_json_schema())
        for name, model in SCHEMA_FILES.items()
    }


def schema_texts() -> dict[str, str]:
    """File name -> the text to commit; the same settings always give the same text."""
    return {
        name: json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
        for name, schema in build_schemas().items()
    }


def write_schemas(folder: Path | None = None) -> list[Path]:
    """Write every schema file and return the ones that changed; the project's own folder by default."""
    folder = folder or packaged_root() / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, text in schema_texts().items():
        if _text_of(folder / name) != text:
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
            changed.append(folder / name)
    return changed


def check_drift(folder: Path | None = None) -> list[str]:
    """Names of schema files that are missing or differ from what the settings classes say."""
    folder = folder or packaged_root() / "schemas"
    return [name for name, text in schema_texts().items() if _text_of(folder / name) != text]


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _experiment_schema() -> Json:
    adapters: dict[str, TypeAdapter[Any]] = {"": TypeAdapter(Experiment), **sweep_adapters()}
    found, shared = TypeAdapter.json_schemas(
        [(path, "validation", adapter) for path, adapter in adapters.items()]
    )
    by_path = {path: schema for (path, _mode), schema in found.items()}
    experiment = cast("Json", shared["$defs"]).pop("Experiment")
    del by_path[""]
    definitions = type_sweep(shared["$defs"], by_path)
    schema = _file_schema({**experiment, "$defs": definitions})
    # Where only logs are read, each run brings its own model and device.
    schema["if"] = {"anyOf": [schema["if"], _ONLY_LOGS]}
    return {**schema, "defaultSnippets": [_snippet()]}


def _snippet() -> Json:
    return {
        "label": "new experiment",
        "description": "Everything an experiment needs.",
        "body": _SKELETON,
    }


def _file_schema(schema: Json) -> Json:
    """The schema of a whole file: what every file may hold at its top level, after the passes for editors."""
    names: Json = {f"{kind}-name": _names(kind) for kind in _NAMED}
    file: Json = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "properties": {**schema["properties"], "include": _INCLUDE},
        "patternProperties": {"^x-": {"title": "x-", "description": "Not read: a home for YAML anchors."}},
        # What is missing here may stand in an included file.
        "if": {"required": ["include"]},
        "else": {"required": schema.get("required", [])},
        "$defs": {**schema.get("$defs", {}), **names},
    }
    file.pop("required", None)
    return pruned(for_editors(_with_names(file)))


_ANY_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 500}
_INCLUDE: Final[Json] = {
    "title": "include",
    "description": "Files to start from, relative to this one. Mappings are merged, later files and this one "
    "win, lists are replaced.",
    "anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}],
}


def _names(kind: Kind) -> Json:
    """Any text, with the catalogue's names as suggestions: users have folders of their own."""
    about = description_of(Experiment, kind) or ""
    known = [
        {"title": kind, "const": entry.name, "description": f"{entry.title}: {entry.summary}\n\n{about}"}
        for entry in entries(kind)
        if entry.shipped and entry.readable
    ]
    # The empty `properties` tell this apart from its own first member, or hovers show both.
    return {"title": kind, "properties": {}, "anyOf": [{"title": kind, **_ANY_NAME}, *known]}


def _with_names(node: Any) -> Any:
    """Every `section or name` union with its names taken from the catalogue."""
    if isinstance(node, dict):
        replaced = {key: _with_names(value) for key, value in node.items()}
        branches = node.get("anyOf")
        kind = _kind_of_union(branches) if isinstance(branches, list) else None
        if kind is not None:
            replaced["anyOf"] = [replaced["anyOf"][0], {"$ref": f"#/$defs/{kind}-name"}]
        return replaced
    return [_with_names(value) for value in node] if isinstance(node, list) else node


def _kind_of_union(branches: Sequence[Json]) -> Kind | None:
    for kind, model in _NAMED.items():
        if len(branches) == 2 and branches[0].get("$ref") == f"#/$defs/{model.__name__}":
            return kind if branches[1].get("type") == "string" else None
    return None
