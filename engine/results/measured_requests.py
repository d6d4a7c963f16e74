"""Whole requests from outside as rows to fit: a CSV with its columns renamed, a run, or a folder of logs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EngineError, UsageError
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.request_rows import RunKey, RunRows
from engine.spec.catalog import find, load_hardware, load_model, load_quantization
from engine.spec.hardware import Hardware
from engine.spec.workload import Parallelism

if TYPE_CHECKING:
    import pandas as pd

    from engine.plan.compile import Plan

TEXTS: Final = ("device", "engine", "engine_version", "model", "quantization")
COUNTS: Final = ("tensor", "prompt_tokens", "output_tokens", "batch_size")
TIMES: Final = ("tpot_s", "ttft_s")
_NEEDED: Final = ("device", "model", "prompt_tokens", "output_tokens", "batch_size")
_SYNONYMS: Final = {
    "hardware": "device", "framework": "engine", "precision": "quantization", "tp": "tensor",
    "tensor_parallel": "tensor", "isl": "prompt_tokens", "input_tokens": "prompt_tokens",
    "osl": "output_tokens", "concurrency": "batch_size", "batch": "batch_size", "tpot": "tpot_s",
    "ttft": "ttft_s", "itl_s": "tpot_s", "itl_ms": "tpot_ms", "ttft_mean_ms": "ttft_ms",
    "energy_per_output_token": "energy_per_output_token_j", "joules_per_token": "energy_per_output_token_j",
}  # fmt: skip
_UNITS: Final = {"ms": 1e-3, "us": 1e-6}
_CONCURRENCY: Final = re.compile(r"(?:^|\s)concurrency[ =](\d+)")
_FORMATS: Final = {
    "": "bf16", "f16": "fp16", "float16": "fp16", "bfloat16": "bf16", "f32": "fp32", "float32": "fp32",
    "q4_0": "gguf-q4-0", "q8_0": "gguf-q8-0", "fp8_block": "fp8-block128",
}  # fmt: skip
"""Number formats as logs print them; 16 bits where a log states none."""
_MOST_TOKENS: Final = 10**8


@dataclass(frozen=True)
class Names:
    """What texts of a table stand for: entries of the run itself, names given by the user, the catalogue."""

    given: Mapping[str, str] = field(default_factory=dict)
    """Their name -> the catalogue's."""
    models: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Hardware] = field(default_factory=dict)
    formats: Mapping[str, Any] = field(default_factory=dict)
    search: Sequence[Path] = ()


def is_requests(columns: Sequence[str]) -> bool:
    """Whether a table holds whole requests and not operators."""
    names = {_SYNONYMS.get(name, name) for name in columns}
    times = {f"{name}_{unit}" for name in ("tpot", "ttft") for unit in ("s", "ms", "us")}
    return "operator" not in names and "op" not in names and "model" in names and bool(names & times)


def named_requests(table: pd.DataFrame, *, source: str) -> pd.DataFrame:
    """The table under our column names in seconds; raises `UsageError` for what no row can do without."""
    import pandas as pd

    found = table.rename(columns={c: _SYNONYMS.get(str(c), str(c)) for c in table.columns})
    found = found.loc[:, ~found.columns.duplicated()].reset_index(drop=True)
    for name in ("tpot", "ttft"):
        for unit, factor in _UNITS.items():
            if f"{name}_{unit}" in found and f"{name}_s" not in found:
                found[f"{name}_s"] = pd.to_numeric(found[f"{name}_{unit}"], errors="coerce") * factor
    missing = [name for name in _NEEDED if name not in found]
    if not set(TIMES) & set(found.columns):
        missing.append("tpot_s")
    if missing:
        raise UsageError(
            f"`{source}` has no column for {', '.join(f'`{name}`' for name in missing)}",
            hint="name it with `--column OURS=THEIRS`, or give one value to all rows with `--constant`",
        )
    if "continuous" not in found:
        # A server under load lets requests come and go; say `continuous=false` for static batches.
        found["continuous"] = True
    return found


def run_rows(table: pd.DataFrame, names: Names) -> tuple[dict[RunKey, RunRows], dict[str, int]]:
    """Rows by device and engine, and a count of what belongs to none with the reason."""
    ignored: dict[str, int] = {}
    groups: dict[RunKey, list[tuple[Any, tuple[str, str, str, int]]]] = {}
    deployments: dict[tuple[str, str, str, int], Deployment | str] = {}
    for row in _records(table):
        reason = _unusable(row)
        if reason is None:
            key = (row["device"], row["model"], row["quantization"], int(row["tensor"]))
            if key not in deployments:
                deployments[key] = _deployment(*key, names)
            if isinstance(deployments[key], str):
                reason = str(deployments[key])
        if reason is not None:
            ignored[reason] = ignored.get(reason, 0) + 1
            continue
        who = RunKey(names.given.get(row["device"], row["device"]), row["engine"], row["engine_version"])
        groups.setdefault(who, []).append((row, key))
    return {who: _columns(found, deployments) for who, found in groups.items()}, ignored


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    import pandas as pd

    plain = {}
    for name in TEXTS:
        column = table[name] if name in table else pd.Series([""] * len(table))
        plain[name] = column.astype(object).where(column.notna(), "").astype(str).str.strip().tolist()
    for name in (*COUNTS, *TIMES, "energy_per_output_token_j"):
        column = table[name] if name in table else pd.Series([float("nan")] * len(table))
        plain[name] = pd.to_numeric(column, errors="coerce").astype(float).tolist()
    plain["tensor"] = [1.0 if value != value else value for value in plain["tensor"]]
    plain["continuous"] = [str(v).strip().lower() not in _NO for v in table["continuous"].tolist()]
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


_NO: Final = ("false", "0", "no", "0.0")


def _unusable(row: Mapping[str, Any]) -> str | None:
    for name in COUNTS:
        value = row[name]
        if not (1 <= value < _MOST_TOKENS) or value != int(value):
            return f"`{name}` is not a whole number above zero"
    if row["output_tokens"] < 2 and not row["ttft_s"] > 0:
        return "a single output token has no time between tokens"
    return None


def _deployment(device: str, model: str, number_format: str, tensor: int, names: Names) -> Deployment | str:
    """What ran, or why that is unknown."""
    device = names.given.get(device, device)
    sheet = names.hardware.get(device)
    if sheet is None:
        try:
            find("hardware", device, search=names.search)
        except EngineError:
            return f"no device `{device}` in the catalogue"
        sheet = load_hardware(device, search=names.search)  # a mistake in a user's own sheet is said
    try:
        model = names.given.get(model, model)
        shape = names.models.get(model) or load_model(model, search=names.search)
    except EngineError:
        return f"no model `{model}` in the catalogue"
    try:
        plain = names.given.get(number_format, _FORMATS.get(number_format.lower(), number_format.lower()))
        numbers = names.formats.get(number_format) or load_quantization(plain, search=names.search)
    except EngineError:
        return f"no number format `{number_format}` in the catalogue"
    return Deployment(shape, sheet, numbers, Parallelism(tensor=tensor))


def _columns(found: Sequence[tuple[Any, Any]], known: Mapping[Any, Any]) -> RunRows:
    import numpy as np

    keys = list(dict.fromkeys(key for _, key in found))
    rows = [row for row, _ in found]

    def column(name: str, kind: Any = np.float64) -> Any:
        return np.array([row[name] for row in rows], dtype=kind)

    return RunRows(
        deployments=tuple(known[key] for key in keys),
        which=np.array([keys.index(key) for _, key in found], dtype=np.int64),
        prompt_tokens=column("prompt_tokens", np.int64),
        output_tokens=column("output_tokens", np.int64),
        batch_size=column("batch_size", np.int64),
        continuous=column("continuous", np.bool_),
        tpot_s=column("tpot_s"),
        ttft_s=column("ttft_s"),
        energy_j=column("energy_per_output_token_j"),
    )


def logged_requests(points: pd.DataFrame, summary: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of run folders and live runs: the measured requests of a summary with their points' settings, and
    a count of those that did not end well."""
    asked = summary[summary["source"].isin(["live", "run_folder"]) & (summary["phase"] == "request")]
    measured = asked[asked["status"] == "ok"].reset_index(drop=True)
    lost = {f"run is {status}": int(n) for status, n in asked["status"].astype(str).value_counts().items()}
    lost.pop("run is ok", None)
    at = points.set_index("point")
    found = measured.reindex(
        columns=["point", "source", "variant", *TIMES, "itl_s", "energy_per_output_token_j"]
    )
    for name in ("model", "hardware", "quantization", "settings", *COUNTS):
        found[name] = at[name].reindex(found["point"]).to_numpy() if name in at else None
    found["tpot_s"] = found["tpot_s"].where(found["tpot_s"].notna(), found["itl_s"])
    for name in TIMES:
        # Of a live run the median of its requests: one that was disturbed does not move it.
        middle = measured.get(f"{name}_p50")
        if middle is not None:
            found[name] = middle.where(middle.notna() & (found["source"] == "live"), found[name])
    load = [_load(row) for row in found.to_dict("records")]
    found["batch_size"], found["continuous"] = [n for n, _ in load], [c for _, c in load]
    found = found.rename(columns={"hardware": "device"}).drop(columns=["itl_s", "settings", "variant"])
    return found, lost


def _load(row: Mapping[str, Any]) -> tuple[float, bool]:
    """Requests at once, and whether they come and go; not-a-number for loads that fix no such number."""
    text = str(row["variant"] or "") if row["source"] == "live" else str(row["settings"] or "")
    stated = _CONCURRENCY.search(text)
    if row["source"] == "live":
        return (float(stated[1]) if stated else float("nan")), "static" not in text
    if stated:
        return float(stated[1]), True
    return float(row["batch_size"] or "nan"), False


def names_of_plan(plan: Plan, search: Sequence[Path], given: Mapping[str, str]) -> Names:
    """What the names of a run's points stand for: its own entries first."""
    from engine.spec.run_folder import RunFolderSettings

    own = [block.combination for block in plan.blocks]
    folders = {
        folder: entry.name
        for task in plan.tasks
        if isinstance(task.settings, RunFolderSettings)
        for folder, entry in task.settings.models.items()
        if entry.name is not None
    }
    return Names(
        given={**folders, **given},
        models={c.labels["model"]: c.model for c in own},
        hardware={key: c.hardware for c in own for key in (c.labels["hardware"], c.hardware.name)},
        formats={c.labels["quantization"]: c.quantization for c in own},
        search=search,
    )
