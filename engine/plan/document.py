"""A plan as a file: everything needed to make the same plan again, whatever the catalogue says by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from engine.errors import EngineError, PlanError
from engine.plan.compile import Plan, compile_plan
from engine.plan.fingerprint import digest_of
from engine.plan.stored import names_of
from engine.spec.calibration import Calibration
from engine.spec.experiment import Experiment
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization

FORMAT: Final = 1
_ENTRY_CLASSES: Final[dict[str, type[BaseModel]]] = {
    "model": Model,
    "hardware": Hardware,
    "quantization": Quantization,
    "calibration": Calibration,
}


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as data for JSON: the experiment, the catalogue entries it rests on, and what it came to."""
    return {
        "format": FORMAT,
        "name": plan.experiment.name,
        "fingerprint": plan.fingerprint,
        "points": plan.size,
        "names": _names(plan),
        "tasks": [
            {"kind": t.kind, "points": t.size, "fingerprint": t.fingerprint, "subject": t.subject}
            for t in plan.tasks
        ],
        "dropped": [{"when": d.when, "because": d.because, "points": d.points} for d in plan.dropped],
        "versions": {task.kind: task.result_version for task in plan.tasks},
        "only": sorted({task.kind for task in plan.tasks}),
        "experiment": plan.experiment.model_dump(mode="json"),
        "entries": {
            kind: {name: entry.model_dump(mode="json") for name, entry in sorted(entries.items())}
            for kind, entries in plan.entries.items()
        },
    }


def plan_from_document(document: Mapping[str, Any], *, to_run: bool) -> Plan:
    """The plan a document describes; raises `PlanError` when it is damaged or cannot be made again.

    A plan `to_run` must come out exactly as it was written. One to read old results by need not: where a
    later engine knows further settings, only what points are called and which counts they have must agree,
    and tasks keep the fingerprints under which their results lie.
    """
    if document.get("format") != FORMAT:
        raise PlanError(
            f"the plan has format {document.get('format')}, this engine reads {FORMAT}",
            hint="use the version of the engine that wrote it",
        )
    try:
        expected, written = document["fingerprint"], document["tasks"]
        experiment = Experiment.model_validate(document["experiment"])
        entries = {
            kind: {name: _ENTRY_CLASSES[kind].model_validate(entry) for name, entry in found.items()}
            for kind, found in document["entries"].items()
        }
        plan = compile_plan(
            experiment,
            entries=entries,
            versions=document["versions"],
            only=document["only"],
            # The limit was passed when the plan was made; drops only ever make it smaller.
            max_points=max(document["points"] + sum(d["points"] for d in document["dropped"]), 1),
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as err:
        raise PlanError("the plan is damaged", hint="run the spec again to write a new one") from err
    except EngineError as err:
        raise PlanError(f"the plan cannot be made again: {err.message}", hint=err.hint) from err
    if plan.fingerprint == expected:
        return plan
    if to_run or document.get("names") != _names(plan):
        raise PlanError(
            "the plan does not come out as it was written: this engine resolves the same text differently",
            hint="use the version of the engine that wrote it, or run the spec again",
        )
    tasks = (
        replace(task, fingerprint=old["fingerprint"], subject=old["subject"])
        for task, old in zip(plan.tasks, written, strict=True)
    )
    return replace(plan, tasks=tuple(tasks))


def _names(plan: Plan) -> str:
    """Fingerprint of what the points of every task are called and which counts they have."""
    return digest_of(names_of(task) for task in plan.tasks)


def resolved_experiment(plan: Plan) -> dict[str, Any]:
    """The experiment with every default written out; entries of the catalogue stand under `x-catalogue`."""
    catalogue = {
        kind: {
            name: entry.model_dump(mode="json", exclude_none=True) for name, entry in sorted(found.items())
        }
        for kind, found in plan.entries.items()
        if found
    }
    written = plan.experiment.model_dump(mode="json", exclude_none=True)
    return {**written, "x-catalogue": catalogue} if catalogue else written
