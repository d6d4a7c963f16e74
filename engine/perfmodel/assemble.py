"""Fits of a table put together: a parameter set for each device and engine, with the time between kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.errors import EngineError
from engine.perfmodel.host_fit import ROWS as FRAMEWORK_ROWS
from engine.perfmodel.host_fit import StackRow, fit_framework
from engine.perfmodel.measured_table import Measured, Outcome, Subject
from engine.perfmodel.operator_fit import Fitted
from engine.perfmodel.parameter_sets import Chosen, choose
from engine.perfmodel.request_law import RequestOutcome, fit_requests
from engine.perfmodel.request_rows import RunKey, RunRows
from engine.spec.calibration import Calibration, OperatorFit
from engine.spec.catalog import canonical_name
from engine.spec.hardware import Hardware

_EAGER: Final = ("transformers",)
"""Engines that launch every operator by itself."""
Key = tuple[str, str, str]


@dataclass(frozen=True)
class FittedRequests:
    """Terms of whole requests by device and engine, and why others have none."""

    fits: dict[RunKey, RequestOutcome] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Subject -> reason."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Reason -> rows that belong to no subject."""


def calibrations_of(
    outcome: Outcome, table: Measured, devices: Mapping[str, Hardware], *, source: str, fitted: str
) -> dict[str, Calibration]:
    """Parameter sets by name; `fitted` is the date."""
    groups: dict[Key, list[tuple[Subject, Fitted]]] = {}
    for subject, found in outcome.fits.items():
        key = (subject.device, subject.engine, subject.engine_version)
        groups.setdefault(key, []).append((subject, found))
    made: dict[str, Calibration] = {}
    for key, fits in groups.items():
        calibration = _calibration(key, fits, devices[key[0]], source=source, fitted=fitted)
        made[_name(key)] = _with_framework(calibration, table, key, devices[key[0]])
    return made


def fitted_requests(
    rows: Mapping[RunKey, RunRows],
    made: Mapping[str, Calibration],
    sets: Mapping[str, Calibration],
    *,
    source: str,
    ignored: Mapping[str, int],
) -> FittedRequests:
    """Fits of whole requests: on the operators just fitted, on those of the catalogue for this very device
    (`sets`), or on shared efficiencies where there are neither."""
    found = FittedRequests(ignored=dict(ignored))
    for key, part in rows.items():
        try:
            base = _base(key, part.deployments[0].hardware, made, sets)
            found.fits[key] = fit_requests(part, base, source=source)
        except EngineError as err:
            found.refused[str(key)] = f"{err.message}; {err.hint}" if err.hint else err.message
    return found


def _base(
    key: RunKey, hardware: Hardware, made: Mapping[str, Calibration], sets: Mapping[str, Calibration]
) -> Chosen | None:
    name = _name(key)
    chosen = choose(name, hardware, {name: made[name]}) if name in made else choose("auto", hardware, sets)
    return None if chosen is None or chosen.transferred else chosen


def with_requests(
    made: Mapping[str, Calibration],
    requests: FittedRequests,
    rows: Mapping[RunKey, RunRows],
    *,
    source: str,
    fitted: str,
) -> dict[str, Calibration]:
    """The parameter sets of operators with the terms of whole requests; sets of their own where there were
    no operators of that engine."""
    found = dict(made)
    for key, outcome in requests.fits.items():
        name, hardware = _name(key), rows[key].deployments[0].hardware
        begun = found.get(name) or _calibration(key, [], hardware, source=source, fitted=fitted)
        more: dict[str, Any] = {
            "request": outcome.request,
            "energy": outcome.energy,
            "notes": outcome.notes or begun.notes,
        }
        if outcome.operators:
            more |= {"operators": list(outcome.operators), "host": outcome.host, "fused": True}
        elif outcome.base is not None:
            more |= {"host": begun.host or outcome.base.host, "fused": outcome.base.fused}
        found[name] = begun.model_copy(update=more)
    return found


def _name(key: Key) -> str:
    # Texts of a table from anywhere become the name of a file.
    plain = re.sub(r"[^a-z0-9.]+", "-", canonical_name("-".join(part for part in key if part)))
    return re.sub(r"\.{2,}", ".", plain).strip("-.")[:_LONGEST_NAME] or "unnamed"


_LONGEST_NAME: Final = 120


def _calibration(
    key: Key, fits: list[tuple[Subject, Fitted]], hardware: Hardware, *, source: str, fitted: str
) -> Calibration:
    device, engine, version = key
    return Calibration.model_validate(
        {
            "name": ", ".join(part for part in (hardware.name, f"{engine} {version}".strip()) if part),
            "device": canonical_name(device)[:120],
            "device_name": hardware.name,
            "vendor": hardware.vendor,
            "architecture": hardware.architecture,
            "engine": engine or "unknown",
            "engine_version": version,
            "fused": engine not in _EAGER,
            "source": source,
            "fitted": fitted,
            "operators": [found.fit.model_dump() for _, found in fits],
        },
        context={"trusted": True},
    )


def _with_framework(calibration: Calibration, table: Measured, key: Key, hardware: Hardware) -> Calibration:
    """The set with the framework's own time, where steps of small stacks were measured."""
    texts = zip(table.texts["device"], table.texts["engine"], table.texts["engine_version"], strict=True)
    rows = [
        StackRow(
            str(table.texts["operator"][i]),
            str(table.texts["precision"][i]),
            {name: float(column[i]) for name, column in table.numbers.items()},
        )
        for i, texts_of in enumerate(texts)
        if table.texts["operator"][i] in FRAMEWORK_ROWS and tuple(map(str, texts_of)) == key
    ]
    found = fit_framework(rows, hardware, choose(_name(key), hardware, {_name(key): calibration}))
    if found is None:
        return calibration
    operators = [_slowed(fit, found.streaming) for fit in calibration.operators]
    return calibration.model_copy(update={"host": found.host, "operators": operators})


def _slowed(fit: OperatorFit, factor: float) -> OperatorFit:
    if fit.operator != "elementwise" or factor == 1.0:
        return fit
    return fit.model_copy(update={"slower_in_model": factor})
