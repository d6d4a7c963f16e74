"""Parameter sets in a plan: they decide predictions and nothing else, and travel with the plan."""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import SpecError
from engine.plan.compile import Plan, compile_plan
from engine.plan.document import plan_document, plan_from_document
from engine.spec.catalog import catalog_files
from engine.spec.experiment import Experiment

SHIPPED = catalog_files("calibration")["h100-sxm-80gb-vllm-0.24.0"].read_text(encoding="utf-8")


def plan(
    search: Path | None = None, *, calibration: str = "auto", devices: tuple[str, ...] = ("h100-sxm-80gb",)
) -> Plan:
    values: dict[str, Any] = {
        "version": 1,
        "name": "sets",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "sweep": {"axes": {"hardware": list(devices)}},
        "measurements": [
            {"kind": "analytical", "calibration": calibration},
            {"kind": "live", "target": {"kind": "local"}, "load": {"pattern": "closed", "concurrency": [1]}},
        ],
    }
    return compile_plan(Experiment.model_validate(values), search=() if search is None else (search,))


def fingerprints(found: Plan) -> dict[str, str]:
    return {task.kind: task.fingerprint for task in found.tasks}


def with_set(folder: Path, text: str) -> Path:
    target = folder / "hardware" / "calibrations"
    target.mkdir(parents=True, exist_ok=True)
    (target / "h100-sxm-80gb-vllm-0.24.0.yaml").write_text(text, encoding="utf-8")
    return folder


def test_new_parameters_are_new_predictions_and_old_measurements(tmp_path: Path) -> None:
    shipped = fingerprints(plan())
    same = fingerprints(plan(with_set(tmp_path, SHIPPED)))
    other = re.sub(r"launch: [0-9.]+ us", "launch: 99 us", SHIPPED, count=1)
    changed = fingerprints(plan(with_set(tmp_path, other)))
    assert same == shipped
    assert changed["analytical"] != shipped["analytical"]
    assert changed["live"] == shipped["live"]


def test_prose_of_a_set_repeats_nothing(tmp_path: Path) -> None:
    assert SHIPPED.count("\nnotes: ") == 1
    text = SHIPPED.split("\nnotes: ")[0] + "\nnotes: other words\n"
    assert fingerprints(plan(with_set(tmp_path, text))) == fingerprints(plan())


def test_a_bound_needs_no_set() -> None:
    found = plan(calibration="none")
    assert "calibration" not in found.entries
    assert found.blocks[0].combination.calibrations == {}


def test_sets_travel_with_the_plan() -> None:
    found = plan(devices=("h100-sxm-80gb", "h200-sxm", "mi300x"))
    again = plan_from_document(plan_document(found), to_run=True)
    assert again.fingerprint == found.fingerprint
    ours, theirs = found.blocks[1].combination.calibrations, again.blocks[1].combination.calibrations
    assert list(ours) == list(theirs)
    assert found.blocks[2].combination.calibrations == {}


def test_an_unknown_set_is_refused_at_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        plan(calibration="h100-sxm-80gb-vllm-0.25.0")
    (problem,) = caught.value.problems
    assert problem.message == "there is no parameter set `h100-sxm-80gb-vllm-0.25.0`"
    assert problem.hint == "did you mean `h100-sxm-80gb-vllm-0.24.0`?"
    assert problem.path == ("measurements", 0, "calibration")
