"""Where everything comes from: facts of the run, assumptions behind the numbers, metric definitions."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from engine.metrics import METRICS
from engine.report.clean import Redactor
from engine.report.numbers import quantity, significant
from engine.report.page import Assumption, Definition, Fact
from engine.units import format_quantity

if TYPE_CHECKING:
    from engine.report.inputs import ReportInputs
    from engine.spec.hardware import Hardware


def made_at(environment: Mapping[str, Any]) -> dt.datetime:
    """When the results were made: `SOURCE_DATE_EPOCH`, else the run's own end, else the epoch; in UTC.

    Never the time of rendering: the same tables give the same bytes.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():
        return dt.datetime.fromtimestamp(int(epoch), dt.UTC)
    for name in ("ended", "started"):
        value = _find(environment, name)
        if isinstance(value, str):
            try:
                found = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                continue
            return (
                (found if found.tzinfo else found.replace(tzinfo=dt.UTC))
                .astimezone(dt.UTC)
                .replace(microsecond=0)
            )
    # 1980-01-01: the first time a zip archive (the workbook) can hold.
    return dt.datetime(1980, 1, 1, tzinfo=dt.UTC)


def _find(environment: Mapping[str, Any], name: str) -> Any:
    if name in environment:
        return environment[name]
    for value in environment.values():
        if isinstance(value, Mapping):
            found = _find(value, name)
            if found is not None:
                return found
    return None


def facts(inputs: ReportInputs, redact: Redactor) -> tuple[Fact, ...]:
    """Every line of the provenance: run, plan, tasks, environment."""
    plan = inputs.plan
    found = [Fact("Run", redact.text(name).replace("_", " ").capitalize(), redact.entry(name, _plain(value)))
             for name, value in _flat(inputs.run_summary)]  # fmt: skip
    found += [
        Fact("Plan", "Experiment", redact.text(inputs.experiment.name)),
        Fact("Plan", "Design points", f"{plan.size:,}"),
        Fact("Plan", "Fingerprint", plan.fingerprint),
    ]
    for dropped in plan.dropped:
        when = ", ".join(f"{path} = {_plain(value)}" for path, value in dropped.when.items())
        found.append(
            Fact("Plan", f"Dropped: {dropped.points:,} points", redact.text(f"{dropped.because} ({when})"))
        )
    kinds: dict[str, int] = {}
    for task in plan.tasks:
        kinds[task.kind] = kinds.get(task.kind, 0) + 1
    found += [Fact("Plan", f"Tasks of kind {kind}", f"{count:,}") for kind, count in kinds.items()]
    found += [
        Fact("Task fingerprints", f"{task.kind} {i + 1}", task.fingerprint)
        for i, task in enumerate(plan.tasks[:20])
    ]
    if len(plan.tasks) > 20:
        found.append(
            Fact(
                "Task fingerprints",
                "Others",
                f"{len(plan.tasks) - 20:,} more, in plan.json of the run folder",
            )
        )
    found += environment_facts(inputs.environment, redact)
    return tuple(found)


def environment_facts(environment: Mapping[str, Any], redact: Redactor) -> Iterator[Fact]:
    """What results were made with: versions, machine, command, times."""
    for group, value in environment.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping):
            title = redact.text(group).replace("_", " ").capitalize()
            none = "not installed" if group == "packages" else "unknown"
            yield from (
                Fact(title, redact.text(name), redact.entry(f"{group}.{name}", _plain(v, none=none)))
                for name, v in _flat(value)
            )
        else:
            yield Fact("Environment", redact.text(group), redact.entry(group, _plain(value)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}.{i}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any, *, none: str = "unknown") -> str:
    if value is None:
        return none
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    return str(value)


def definitions(names: Iterable[str]) -> tuple[Definition, ...]:
    """The metrics that occur, in declared order."""
    wanted = set(names)
    ways = {"higher": "higher is better", "lower": "lower is better", "neutral": "neither way is better"}
    return tuple(
        Definition(m.name, m.label, m.unit or "ratio or count", ways[m.direction], m.definition, m.formula)
        for m in METRICS.values()
        if m.name in wanted
    )


def assumptions(
    inputs: ReportInputs, devices: Mapping[str, Hardware], redact: Redactor
) -> tuple[Assumption, ...]:
    """What the numbers rest on that nobody measured here: conventions, data sheets, prices."""
    found: list[Assumption] = []
    for settings in inputs.experiment.measurements:
        if settings.kind == "analytical":
            found += _conventions(settings)
    for label, sheet in devices.items():
        found += _data_sheet(label, sheet)
    # Specs and data sheets are written by anybody: every text of them is cleaned in one place.
    return tuple(Assumption(*(redact.text(text) for text in astuple(one))) for one in found)


def _conventions(settings: Any) -> Iterator[Assumption]:
    fields = type(settings).model_fields
    documented = type(settings).model_json_schema()["properties"]
    for name in fields:
        if name == "kind":
            continue
        value = getattr(settings, name)
        source = "spec" if name in settings.model_fields_set else "default"
        meaning = documented.get(name, {}).get("description", "").replace("`", "")
        shown = (
            quantity("", "B", value)
            if name == "reserve" and value
            else (
                ", ".join(f"{k} {_plain(v)}" for k, v in value.model_dump(exclude_none=True).items())
                if hasattr(value, "model_dump")
                else _plain(value)
            )
        )
        yield Assumption(
            "Performance model", meaning or name, f"{name}: {shown if value is not None else 'off'}", source
        )


def _data_sheet(label: str, sheet: Hardware) -> Iterator[Assumption]:
    confidence = f"confidence {sheet.confidence}: {sheet.source or 'no source given'}"
    peaks = ", ".join(
        f"{name} {format_quantity(value, 'flops_per_s')}"
        for name, value in sheet.peak.model_dump().items()
        if value
    )
    yield Assumption(label, "Dense peak rates", peaks or "none published", confidence)
    memory = format_quantity(sheet.usable_memory or sheet.memory, "bytes")
    yield Assumption(
        label,
        "Memory and its bandwidth",
        f"{memory}, {format_quantity(sheet.memory_bandwidth, 'bytes_per_s')}",
        confidence,
    )
    if sheet.price is not None:
        yield Assumption(label, "Price of a device-hour", f"{significant(sheet.price)} USD/h", confidence)
    if sheet.energy is not None:
        yield Assumption(
            label,
            "Energy coefficients",
            f"{significant(sheet.energy.static_power)} W static, "
            f"{significant(sheet.energy.per_byte * 1e12)} pJ/B, "
            f"{significant(sheet.energy.per_flop * 1e12)} pJ/FLOP",
            sheet.energy.source,
        )
