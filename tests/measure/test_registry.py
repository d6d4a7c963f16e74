"""Kinds of measurement are found when they are needed, and not before."""

import subprocess
import sys

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure import registry
from engine.measure.registry import find, measurement, versions
from engine.spec.analytical import AnalyticalSettings


def test_a_kind_is_found_with_its_version():
    found = find("analytical")
    assert (found.kind, found.settings) == ("analytical", AnalyticalSettings)
    assert versions(["analytical"]) == {"analytical": found.result_version}
    assert found.result_version >= 1


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(MeasurementError) as failure:
        find("guess")
    assert failure.value.message == "no measurement `guess`"
    assert failure.value.hint == "kinds: " + ", ".join(registry.MODULES)
    assert list(registry.MODULES)[:2] == ["analytical", "live"]


def test_an_absent_library_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_found", {})
    monkeypatch.setattr(registry, "MODULES", {"live": "engine_that_is_not_there"})
    with pytest.raises(EnvironmentMissing) as failure:
        find("live")
    assert (
        failure.value.message == "measurement `live` needs `engine_that_is_not_there`, which is not installed"
    )
    assert versions(["live"]) == {}


def test_a_function_registers_for_the_kind_of_its_settings(monkeypatch):
    monkeypatch.setattr(registry, "_found", {})

    @measurement(AnalyticalSettings, result_version=7, needs={"gpu"})
    def measure(settings, task, tools):
        return {}

    found = find("analytical")
    assert (found.function, found.result_version, found.needs) == (measure, 7, frozenset({"gpu"}))


def test_the_registry_loads_nothing_heavy():
    code = (
        "import sys, engine.measure.registry as r; r.find('analytical'); "
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
