"""Quantity fields: text with a unit in, a float in base units inside, text out."""

import re
from typing import Annotated

import pytest
from pydantic import Field, ValidationError
from pydantic_core import from_json

from engine.spec import quantity
from engine.spec.quantity import Bytes, Quantity, Seconds
from engine.spec.settings import Settings


class Disk(Settings):
    """A disk."""

    size: Annotated[Bytes, Field(gt=0, le=1e15)]
    seek: Seconds | None = None
    steps: tuple[Seconds, ...] = ()


def error_of(values: dict[str, object]) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        Disk.model_validate(values)
    error = caught.value.errors()[0]
    return str(error.get("ctx", {}).get("code", error["type"])), error["msg"]


def test_holds_base_units():
    disk = Disk.model_validate({"size": "80 GB", "seek": "5 ms", "steps": ["1 s", "1 min"]})
    assert (disk.size, disk.seek, disk.steps) == (80e9, 0.005, (1.0, 60.0))


def test_dumped_and_read_back_is_the_same():
    disk = Disk.model_validate({"size": "0.1 GiB", "seek": "1.7 us"})
    dumped = disk.model_dump_json()
    assert from_json(dumped)["seek"] == "1.7e-06 s"
    assert Disk.model_validate_json(dumped) == disk


def test_python_dump_keeps_numbers():
    assert Disk.model_validate({"size": "80 GB"}).model_dump()["size"] == 80e9


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (80, "needs-unit", "`80` needs a unit, e.g. `80 GB`"),
        (80.5, "needs-unit", "`80.5` needs a unit, e.g. `80 GB`"),
        ("80", "needs-unit", "`80` needs a unit, e.g. `80 GB`"),
        (True, "bad-type", "expected a number with a unit, e.g. `80 GB`"),
        (None, "bad-type", "expected a number with a unit, e.g. `80 GB`"),
        ([1], "bad-type", "expected a number with a unit, e.g. `80 GB`"),
        ("80 Gb", "bad-unit", "`80 Gb` is not a size"),
        ("0 GB", "greater_than", "Input should be greater than 0"),
        ("2 PB", "less_than_equal", "Input should be less than or equal to 1000000000000000"),
    ],
)
def test_refuses(value: object, code: str, message: str):
    assert error_of({"size": value}) == (code, message)


def test_numbers_in_base_units_need_trust():
    assert Disk.model_validate({"size": 80e9}, context={"trusted": True}).size == 80e9
    with pytest.raises(ValidationError):
        Disk.model_validate({"size": 80e9}, context={"trusted": False})
    with pytest.raises(ValidationError):
        Disk.model_validate({"size": float("nan")}, context={"trusted": True})


def test_schema_is_text_with_a_pattern_and_words_for_the_editor():
    shown = Disk.model_json_schema()["properties"]["size"]
    assert shown["type"] == "string"
    assert shown["patternErrorMessage"] == "Write a number with a unit, e.g. 80 GB"
    assert shown["examples"] == ["80 GB"]
    assert shown["pattern"].startswith("^")
    assert shown["pattern"].endswith("$")
    assert re.search(shown["pattern"], "80 GB")
    assert not re.search(shown["pattern"], "80 gigs")


def test_short_text_only_where_it_is_exact():
    assert Quantity("seconds").text_for_people(600.0) == "10 min"
    assert Quantity("bytes").text_for_people(85899345920.0) == "85899345920 B"


def test_every_dimension_has_its_field_type():
    marks = [getattr(getattr(quantity, name), "__metadata__", [None])[0] for name in quantity.__all__]
    dimensions = {mark.dimension for mark in marks if isinstance(mark, Quantity)}
    from engine.units import DIMENSIONS

    assert dimensions == set(DIMENSIONS)
