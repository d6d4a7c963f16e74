"""Errors carry data, survive a process border, and know their exit code."""

import pickle

import pytest

from engine import errors
from engine.errors import (
    CatalogError,
    EngineError,
    LocatedError,
    PlanError,
    Problem,
    SpecError,
    StoreBusy,
    UnitError,
)

CODES = {
    "CatalogError": 2,
    "EngineError": 4,
    "EnvironmentMissing": 3,
    "LocatedError": 2,
    "MeasurementError": 4,
    "NothingSelected": 5,
    "PlanError": 2,
    "ReportError": 4,
    "SpecError": 2,
    "StoreBusy": 3,
    "StoreError": 3,
    "ThresholdError": 1,
    "UnitError": 2,
    "UsageError": 2,
}


def test_exit_codes_are_those_of_the_docstring():
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    found = {name: cls.exit_code for name, cls in classes.items() if issubclass(cls, EngineError)}
    assert found == CODES
    assert errors.__doc__ is not None
    for name, code in CODES.items():
        assert f"{name} " in errors.__doc__
        line = next(line for line in errors.__doc__.splitlines() if f"{name} " in line)
        assert line.split(name)[1].split()[0] == str(code)


def test_public_names_are_those_defined_here():
    defined = {n for n, v in vars(errors).items() if getattr(v, "__module__", None) == "engine.errors"}
    assert defined | {"EXIT_INTERRUPTED"} == set(errors.__all__)


def test_a_plain_text_becomes_one_problem():
    error = SpecError("no such thing", hint="look again", code="no-thing")
    assert error.problems == (Problem(code="no-thing", message="no such thing", hint="look again"),)
    assert str(error) == "no such thing"


def test_several_problems_are_all_in_the_text():
    error = CatalogError([Problem(code="a", message="one"), Problem(code="b", message="two")])
    assert str(error) == "one; two"


@pytest.mark.parametrize(
    "error",
    [
        SpecError([Problem(code="a", message="one", file="f", line=3, column=4, path=("x", 0))], hint="h"),
        PlanError("too big", hint="less", step="fit in memory", point="p7"),
        StoreBusy("held", pid=12),
        UnitError("bad", hint="write `GB`", code="needs-unit"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_borders_whole(error: EngineError):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_data_is_kept_for_whoever_shows_the_error():
    assert PlanError("too big", step="fit in memory").data == {"step": "fit in memory"}


def test_located_errors_share_a_root():
    assert issubclass(SpecError, LocatedError)
    assert issubclass(CatalogError, LocatedError)
