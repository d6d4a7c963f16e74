"""The schemas as data: what they may hold, that they are up to date, and that loader and schema agree."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from engine.commands.loading import load_checked
from engine.errors import SpecError
from engine.metrics import METRICS
from engine.spec.document import read_document, validate
from engine.spec.paths import sweepable
from engine.spec.schema import SCHEMA_FILES, build_schemas, check_drift, schema_texts, write_schemas
from engine.spec.schema_passes import for_editors, pruned
from engine.spec.settings import Settings
from tests.source_tree import ROOT

# What every version of the server understands: draft-07 without tuples, plus its own words for messages.
KEYWORDS = {
    "$schema", "$defs", "$ref", "title", "description", "type", "enum", "const", "default", "examples",
    "properties", "patternProperties", "additionalProperties", "propertyNames", "format", "required",
    "items", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minProperties", "anyOf", "allOf", "if", "then", "else",
    "markdownDescription", "markdownEnumDescriptions", "patternErrorMessage", "errorMessage",
    "defaultSnippets",
}  # fmt: skip
NAMED_INSIDE = ("properties", "patternProperties", "$defs")


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    return build_schemas()


def inside(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema in a schema, itself included."""
    yield schema
    for key in NAMED_INSIDE:
        for inner in schema.get(key, {}).values():
            yield from inside(inner)
    for key in ("items", "additionalProperties", "if", "then", "else"):
        if isinstance(schema.get(key), dict):
            yield from inside(schema[key])
    for key in ("anyOf", "allOf"):
        for inner in schema.get(key, ()):
            yield from inside(inner)


def test_committed_schemas_are_what_the_classes_say():
    assert check_drift(ROOT / "schemas") == [], "run `engine schema --write schemas` and commit"


def test_the_text_does_not_depend_on_the_process():
    program = "from engine.spec.schema import schema_texts; print(''.join(schema_texts().values()), end='')"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    assert run.stdout.decode() == "".join(schema_texts().values())


def test_only_what_changed_is_written(tmp_path: Path):
    assert {path.name for path in write_schemas(tmp_path)} == set(SCHEMA_FILES)
    assert write_schemas(tmp_path) == []
    (tmp_path / "model.v1.json").write_text("{}")
    (tmp_path / "hardware.v1.json").unlink()
    assert check_drift(tmp_path) == ["hardware.v1.json", "model.v1.json"]
    assert [path.name for path in write_schemas(tmp_path)] == ["hardware.v1.json", "model.v1.json"]
    assert check_drift(tmp_path) == []


@pytest.mark.parametrize("name", SCHEMA_FILES)
def test_nothing_the_server_misreads(name: str, schemas: dict[str, dict[str, Any]]):
    schema = schemas[name]
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    used = {key for part in inside(schema) for key in part}
    assert used - KEYWORDS == set()
    for part in inside(schema):
        assert part.get("default", 0) is not None
        assert ("description" in part) == ("markdownDescription" in part)
        assert "defaultSnippets" not in part or part is schema


@pytest.mark.parametrize("name", SCHEMA_FILES)
def test_every_reference_leads_somewhere_and_every_definition_is_used(
    name: str, schemas: dict[str, dict[str, Any]]
):
    references = {part["$ref"].removeprefix("#/$defs/") for part in inside(schemas[name]) if "$ref" in part}
    assert references == set(schemas[name]["$defs"])


@pytest.mark.parametrize("name", SCHEMA_FILES)
def test_every_key_is_explained_under_its_own_name(name: str, schemas: dict[str, dict[str, Any]]):
    for part in inside(schemas[name]):
        if part.get("additionalProperties") is False:
            for key, inner in part["properties"].items():
                inner = {**schemas[name]["$defs"].get(inner.get("$ref", "")[8:], {}), **inner}
                assert inner.get("title") == key
                assert inner.get("description"), key


def test_every_sweepable_path_is_an_axis_and_a_row_and_a_condition(schemas: dict[str, dict[str, Any]]):
    sections = schemas["experiment.v1.json"]["$defs"]
    paths = set(sweepable())
    assert {"workload.batch_size", "quantization.kv_cache", "hardware.memory_bandwidth"} <= paths
    axes = sections["Sweep"]["properties"]["axes"]
    assert set(axes["properties"]) == paths
    assert set(sections["SweepRow"]["properties"]) == paths
    assert set(sections["Drop"]["properties"]["when"]["properties"]) == paths
    assert axes["properties"]["workload.batch_size"] == {
        "title": "workload.batch_size",
        "description": "Sequences processed together, over all data-parallel replicas.",
        "markdownDescription": "Sequences processed together, over all data-parallel replicas.",
        "type": "array",
        "items": {"$ref": "#/$defs/workload.batch_size"},
        "minItems": 1,
        "uniqueItems": True,
        "errorMessage": "Write a list, e.g. [a, b]",
    }


def test_metrics_are_closed_where_they_are_named(schemas: dict[str, dict[str, Any]]):
    schema = schemas["experiment.v1.json"]
    assert schema["$defs"]["Objective"]["properties"]["metric"]["enum"] == list(METRICS)
    require = schema["properties"]["scoring"]["properties"]["require"]
    assert list(require["properties"]) == list(METRICS)
    assert require["additionalProperties"] is False


def test_names_are_suggested_but_not_closed(schemas: dict[str, dict[str, Any]]):
    names = schemas["experiment.v1.json"]["$defs"]["hardware-name"]["anyOf"]
    assert names[0]["type"] == "string"
    assert {"h100-sxm-80gb", "rtx-4090"} <= {name.get("const") for name in names}


class Cat(Settings):
    """Purrs."""

    kind: Literal["cat"]
    """A cat."""
    lives: Annotated[int, Field(ge=1)] | None = None
    """How many are left,
    at most nine."""


class FastDog(Settings):
    """Barks."""

    kind: Literal["dog"]
    """A dog."""
    tail: Literal["long", "short"] | None = "long"
    """What it wags."""


class Home(Settings):
    """Where they live."""

    pets: list[Annotated[Cat | FastDog, Field(discriminator="kind")]]
    """Who lives here."""
    guest: FastDog | None = None
    """Who visits."""


@pytest.fixture(scope="module")
def home() -> dict[str, Any]:
    return pruned(for_editors(TypeAdapter(Home).json_schema()))


def test_a_tagged_union_lists_its_tags_and_branches_on_them(home: dict[str, Any]):
    assert home["properties"]["pets"]["items"] == {
        "title": "pet",
        "type": "object",
        "properties": {
            "kind": {
                "title": "kind",
                "description": "What this is.",
                "markdownDescription": "What this is.",
                "type": "string",
                "enum": ["cat", "dog"],
                "markdownEnumDescriptions": ["Purrs.", "Barks."],
                "errorMessage": "Write cat or dog",
            }
        },
        "required": ["kind"],
        "allOf": [
            {
                "if": {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{name}"},
            }
            for kind, name in (("cat", "Cat"), ("dog", "FastDog"))
        ],
    }


def test_an_optional_value_is_one_schema_with_its_own_words(home: dict[str, Any]):
    assert home["$defs"]["Cat"]["properties"]["lives"] == {
        "title": "lives",
        "description": "How many are left, at most nine.",
        "markdownDescription": "How many are left, at most nine.",
        "type": ["integer", "null"],
        "minimum": 1,
        "errorMessage": "Write a whole number",
    }
    tail = home["$defs"]["FastDog"]["properties"]["tail"]
    assert (tail["enum"], tail["type"]) == (["long", "short", None], ["string", "null"])
    assert (tail["default"], tail["errorMessage"]) == ("long", "Write long or short")


def test_an_optional_section_keeps_the_fields_name_and_text(home: dict[str, Any]):
    guest = home["properties"]["guest"]
    assert (guest["title"], guest["description"]) == ("guest", "Who visits.")
    assert guest["type"] == ["object", "null"]
    assert set(guest["properties"]) == {"kind", "tail"}


def test_sections_are_called_as_people_would(home: dict[str, Any]):
    assert (home["title"], home["$defs"]["FastDog"]["title"]) == ("home", "fast dog")


def test_passes_leave_their_input_alone():
    raw = TypeAdapter(Home).json_schema()
    before = json.dumps(raw)
    for_editors(raw)
    assert json.dumps(raw) == before


def schema_of(path: Path) -> str:
    """The schema file named in a document's first line."""
    return re.findall(r"schemas/(\S+)", path.read_text(encoding="utf-8"))[0]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/editor/good").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_the_editor_lets_pass_is_valid(path: Path):
    kind = SCHEMA_FILES[schema_of(path)]
    assert isinstance(validate(read_document(path), kind), kind)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/editor/broken").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_the_editor_marks_is_refused_on_the_same_lines(path: Path):
    marks = re.findall(r"^(\d+):\d+ (.*)", path.with_suffix(".txt").read_text(encoding="utf-8"), re.MULTILINE)
    # What is missing has no place of its own: each side points at another part of the section.
    marked = {int(line) for line, text in marks if not text.startswith("Missing property")}
    with pytest.raises(SpecError) as caught:
        load(path)
    assert marked - {problem.line for problem in caught.value.problems} == set()


def load(path: Path) -> None:
    """What `engine check` and the catalogue do with a file."""
    if schema_of(path) == "experiment.v1.json":
        load_checked(path)
    else:
        validate(read_document(path), SCHEMA_FILES[schema_of(path)])
