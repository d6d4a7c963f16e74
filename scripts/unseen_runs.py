"""Serving runs of models and engines that no parameter was fitted to: lines for the error table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from fit_shared_runs import DEVICE, SERVED, known_model

from engine.errors import EngineError
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.analytical import AnalyticalSettings
from engine.spec.calibration import Calibration
from engine.spec.catalog import load_hardware, load_quantization
from engine.spec.workload import Parallelism, Workload

_FORMATS: Final = {"fp8": "fp8", "fp8_block": "fp8-block128", "nvfp4": "mxfp4-w4a16", "bf16": "bf16"}
_FEWEST: Final = 10
FITTED: Final = "Llama-3.1-8B"
"""Its times per token are in the fit; no time to a first token is."""
FEW_USERS: Final = 8
# How such benchmarks are run: every user at once, ten requests each.
WAVES: Final = 10
_SETTINGS: Final = AnalyticalSettings.model_validate(
    {"kind": "analytical", "waves": WAVES}, context={"trusted": True}
)


def served_runs(table: pd.DataFrame, sets: dict[str, Calibration]) -> pd.DataFrame:
    """Runs with a split, with predicted over measured of both times."""
    runs = table[(table.source == "aiconfigurator_silicon") & table.tp.notna()]
    runs = runs.assign(precision=runs.precision.fillna("bf16"))
    keys = ["raw_ref", "model", "framework", "precision", "tp", "isl", "osl", "batch", "concurrency"]
    runs = runs.pivot_table(index=keys, columns="metric", values="value").reset_index()
    found = [predicted(run, sets) for run in runs.itertuples()]
    for name in ("tpot", "ttft"):
        seconds = np.array([request.get(f"serving_{name}_s", np.nan) for request in found], dtype=np.float64)
        runs[name] = seconds / runs[f"{name}_mean"].to_numpy() * 1e3
    return runs


def unseen_lines(runs: pd.DataFrame) -> Iterator[str]:
    """Time per output token by model and engine, all splits and loads together."""
    for name, group in _groups(runs[~runs.model.str.contains(FITTED)]):
        yield f"{name}: {_errors(group.tpot)}"


def first_token_lines(runs: pd.DataFrame) -> Iterator[str]:
    """Mean time to the first token, all loads and a few users at once."""
    for name, group in _groups(runs):
        few = group[group.concurrency <= FEW_USERS].ttft
        yield f"{name}: {_errors(group.ttft)}; at most {FEW_USERS} users, {len(few)} runs: {_errors(few)}"


def _groups(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (model, framework, precision), group in runs.groupby(["model", "framework", "precision"]):
        known = group[group.tpot.notna()]
        if len(known) >= _FEWEST:
            yield f"{model}, {framework}, {precision}, {len(known)} runs", known


def _errors(ratio: pd.Series) -> str:
    error = np.abs(ratio - 1)
    return f"{error.median():.1%} / {error.quantile(0.9):.1%} / {ratio.median():.2f}"


def predicted(run: Any, sets: dict[str, Calibration]) -> dict[str, float]:
    """Metrics of the request; empty for what cannot be predicted."""
    model, hardware = known_model(run.model), load_hardware(DEVICE)
    if model is None:
        return {}
    chosen = choose(SERVED if run.framework.startswith("trtllm") else "auto", hardware, sets)
    number_format = load_quantization(_FORMATS[run.precision])
    split = Parallelism(tensor=int(run.tp))
    workload = Workload(
        prompt_tokens=int(run.isl), output_tokens=int(run.osl), batch_size=max(1, int(run.batch))
    )
    try:
        deployment = Deployment(model, hardware, number_format, split, _SETTINGS, chosen)
        found = summarise(deployment, WorkloadArrays.of(workload)).phases["request"]
    except EngineError:
        return {}
    return {name: float(value[0]) for name, value in found.items()}
