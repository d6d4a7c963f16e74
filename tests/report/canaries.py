"""A run in which every free text is hostile at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from engine.report.inputs import ReportInputs
from tests.report.samples import ENVIRONMENT, measured_inputs

SECRET = "sk-canary0123456789abcdef"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"
FORMULA = '=HYPERLINK("http://evil.example/","x")'
CONTROL = "\x1b[31m\x00\x07\u202e"
CANARY = f"{FORMULA}{MARKUP}'\"--></script>{CONTROL} api_key={SECRET} {SECRET} {{{{7*7}}}} http://evil.example/pixel.png"


def hostile_inputs() -> ReportInputs:
    """Every label, reason, finding, component, fact and spec text holds the canary."""
    given = measured_inputs()
    sheets = {
        id(block.combination.hardware): poisoned(block.combination.hardware) for block in given.plan.blocks
    }
    blocks = tuple(
        replace(b, combination=replace(b.combination, hardware=sheets[id(b.combination.hardware)]))
        for b in given.plan.blocks
    )
    return replace(
        given,
        plan=replace(given.plan, blocks=blocks),
        experiment=poisoned(given.experiment),
        tables={name: _poisoned(table) for name, table in given.tables.items()},
        spec_text=f"name: x\n# {CANARY}\n",
        resolved_text=f"name: x\n# {CANARY}\n",
        environment=_poisoned_facts(ENVIRONMENT),
        run_summary={CANARY: CANARY},
    )


def poisoned(model: Any) -> Any:
    """The model with the canary in every field that takes any text, however deep."""
    changes = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        free = "Literal" not in str(field.annotation) and name not in _MEANT
        if isinstance(value, str) and free:
            changes[name] = CANARY
        elif isinstance(value, BaseModel):
            changes[name] = poisoned(value)
        elif isinstance(value, list | tuple):
            changes[name] = type(value)(_part(part) for part in value)
        elif isinstance(value, Mapping) and name not in _MEANT:
            changes[name] = {key: _part(part) for key, part in value.items()}
    return model.model_copy(update=changes)


_MEANT = ("axes", "tie", "drop", "keep", "require", "templates", "metric", "page", "kind", "dtype")
"""Fields whose texts name something: another text would be refused where it enters."""


def _part(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return poisoned(value)
    return CANARY if isinstance(value, str) else value


_KEPT = ("source", "phase", "status", "basis", "bound", "outcome", "run_phase", "severity")


def _poisoned(table: pa.Table) -> pa.Table:
    columns = {}
    for name in table.column_names:
        values = table[name]
        text = pa.types.is_string(values.type) or pa.types.is_dictionary(values.type)
        if text and name not in _KEPT:
            known = list(dict.fromkeys(values.to_pylist()))
            poisoned = [None if v is None else f"{CANARY}{known.index(v)}" for v in values.to_pylist()]
            columns[name] = pa.array(poisoned, pa.string()).dictionary_encode().cast(values.type)
        else:
            columns[name] = values
    return pa.table(columns)


def _poisoned_facts(facts: dict[str, Any]) -> dict[str, Any]:
    dates = {"started": facts["started"], "ended": facts["ended"]}
    return {**dict.fromkeys(facts, CANARY), CANARY: {CANARY: CANARY}, **dates}
