"""The base class: closed, frozen, never coerced, described by its docstrings."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from engine.spec.docstrings import describe, description_of
from engine.spec.experiment import Experiment
from engine.spec.quantity import Seconds
from engine.spec.settings import Settings, Uncoerced


class Inner(Settings):
    """A part."""

    depth: int = 1
    """How deep.

    In metres."""


class Outer(Settings):
    """A whole."""

    size: int = 1
    """How large."""
    share: float = 0.5
    name: str = "x"
    on: bool = False
    sizes: tuple[int, ...] = ()
    limits: dict[str, int] = {}
    wait: Seconds | None = 90.0
    """How long."""
    inner: Inner = Inner()
    either: int | Literal["auto"] = "auto"
    short: Annotated[str, Field(description="Said otherwise.")] = ""
    """Not this."""


class Derived(Outer):
    """One more."""

    size: int = 2
    """How large this time."""


@pytest.mark.parametrize(
    "values",
    [
        {"size": "1"},
        {"size": True},
        {"size": 1.0},
        {"share": "0.5"},
        {"share": True},
        {"name": 1},
        {"on": 1},
        {"on": "yes"},
        {"sizes": ["1"]},
        {"sizes": "12"},
        {"limits": {"a": "1"}},
        {"inner": {"depth": "1"}},
        {"either": "1"},
        {"share": float("nan")},
        {"share": float("inf")},
        {"extra": 1},
    ],
    ids=str,
)
def test_refuses(values: dict[str, Any]):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert caught.value.error_count() >= 1


def test_accepts_what_loses_nothing():
    settings = Outer.model_validate({"share": 1, "sizes": [1, 2], "either": 3})
    assert (settings.share, settings.sizes, settings.either) == (1.0, (1, 2), 3)


def test_is_frozen():
    with pytest.raises(ValidationError):
        Outer().size = 2  # type: ignore[misc]


def test_single_fields_can_be_as_strict():
    adapter = TypeAdapter(Annotated[int | None, Uncoerced()])
    assert adapter.validate_python(8) == 8
    with pytest.raises(ValidationError):
        adapter.validate_python("8")


def test_schema_shows_keys_docstrings_and_defaults_with_units():
    shown = Outer.model_json_schema()["properties"]
    assert (shown["size"]["title"], shown["size"]["description"]) == ("size", "How large.")
    assert shown["wait"]["default"] == "90 s"
    assert shown["short"]["description"] == "Said otherwise."
    assert "description" not in shown["share"]


def test_descriptions_come_from_the_nearest_class():
    assert description_of(Derived, "size") == "How large this time."
    assert description_of(Derived, "wait") == "How long."
    assert description_of(Inner, "depth") == "How deep.\n\nIn metres."
    assert describe(Outer, Outer.model_fields["size"]) == "How large."


def test_classes_inside_functions_are_described_too():
    class Local(Settings):
        """Here."""

        here: int = 1
        """Where it is."""

    assert description_of(Local, "here") == "Where it is."


def test_a_spec_that_only_reads_logs_needs_neither_model_nor_device() -> None:
    """Each run brings its own; with any other measurement both stay required."""
    logs = {"kind": "run_folder", "path": "runs"}
    only = {"version": 1, "name": "logs", "measurements": [logs]}
    found = Experiment.model_validate(only)
    assert (found.model, found.hardware, found.has_points) == ("from the logs", "from the logs", False)
    with pytest.raises(ValidationError) as caught:
        Experiment.model_validate({**only, "measurements": [logs, {"kind": "analytical"}]})
    assert [error["loc"] for error in caught.value.errors()] == [("model",), ("hardware",)]
