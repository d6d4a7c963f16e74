"""Fits of a table put together: a parameter set for each device and engine, with the time between kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from engine.errors import EngineError
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.measured_table import Measured, Outcome, Subject
from engine.perfmodel.operator_fit import Fitted
from engine.perfmodel.parameter_sets import Chosen, choose
from engine.perfmodel.point import predict_point
from engine.perfmodel.request_law import RequestOutcome, fit_requests
from engine.perfmodel.request_rows import RunKey, RunRows
from engine.spec.calibration import Calibration, HostFit
from engine.spec.catalog import canonical_name
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload

_EAGER: Final = ("transformers",)
"""Engines that launch every operator by itself."""
_BITS: Final = {"fp32": 32, "bf16": 16, "fp16": 16}
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
        host = _host(calibration, table, key, devices[key[0]])
        made[_name(key)] = calibration if host is None else calibration.model_copy(update={"host": host})
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


def _host(calibration: Calibration, table: Measured, key: Key, hardware: Hardware) -> HostFit | None:
    """Time between kernels: what tiny models take beyond the kernels, as a line over their layers."""
    texts = zip(table.texts["device"], table.texts["engine"], table.texts["engine_version"], strict=True)
    steps = table.texts["operator"] == "decode_step"
    rows = [i for i, texts_of in enumerate(texts) if steps[i] and tuple(map(str, texts_of)) == key]
    chosen = choose(_name(key), hardware, {_name(key): calibration})
    if len(rows) < 2 or chosen is None:
        return None
    layers, beyond = [], []
    for i in rows:
        shape = {name: column[i] for name, column in table.numbers.items()}
        precision = str(table.texts["precision"][i])
        bits = _BITS[precision]
        quantization = Quantization.model_validate({"name": precision, **dict.fromkeys(_EVERY_TENSOR, bits)})
        deployment = Deployment(_tiny(shape), hardware, quantization, calibration=chosen)
        workload = Workload(prompt_tokens=int(shape["kv_len"]), output_tokens=2, batch_size=int(shape["m"]))
        kernels = predict_point(deployment, workload).phases["decode"]["time_s"]
        layers.append(shape["layers"])
        beyond.append(shape["time_s"] - kernels)
    slope, start = np.polyfit(np.array(layers), np.array(beyond), 1)
    given = {"layer": max(float(slope), 0.0), "step": max(float(start), 0.0), "rows": len(rows)}
    return HostFit.model_validate(given, context={"trusted": True})


_EVERY_TENSOR: Final = (
    "weight_attn",
    "weight_ffn",
    "weight_embedding",
    "weight_norm",
    "activation",
    "kv_cache",
)


def _tiny(shape: Mapping[str, float]) -> Model:
    count = {name: int(shape[name]) for name in ("k", "n", "layers", "num_heads", "num_kv_heads", "head_dim")}
    return Model.model_validate(
        {
            "name": "tiny",
            "architecture": "llama",
            "hidden_size": count["k"],
            "num_hidden_layers": count["layers"],
            "num_attention_heads": count["num_heads"],
            "num_key_value_heads": count["num_kv_heads"],
            "head_dim": count["head_dim"],
            "intermediate_size": count["n"],
            "vocab_size": 256,
            "max_position_embeddings": 4096,
        }
    )
