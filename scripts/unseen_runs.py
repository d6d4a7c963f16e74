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
from engine.spec.calibration import Calibration
from engine.spec.catalog import load_hardware, load_quantization
from engine.spec.workload import Parallelism, Workload

_FORMATS: Final = {"fp8": "fp8", "fp8_block": "fp8-block128", "nvfp4": "mxfp4-w4a16"}
_FEWEST: Final = 10


def unseen_lines(table: pd.DataFrame, sets: dict[str, Calibration]) -> Iterator[str]:
    """Time per output token by model and engine, all splits and loads together."""
    runs = table[(table.source == "aiconfigurator_silicon") & table.tp.notna()]
    runs = runs[~runs.model.str.contains("Llama-3.1-8B")]
    keys = ["raw_ref", "model", "framework", "precision", "tp", "isl", "osl", "batch"]
    runs = runs.pivot_table(index=keys, columns="metric", values="value").reset_index()
    runs["ratio"] = [predicted_s(run, sets) / run.tpot_mean * 1e3 for run in runs.itertuples()]
    for (model, framework, precision), group in runs.groupby(["model", "framework", "precision"]):
        ratio = group.ratio.dropna()
        if len(ratio) >= _FEWEST:
            error = np.abs(ratio - 1)
            yield (
                f"{model}, {framework}, {precision}, {len(ratio)} runs: {error.median():.1%} / "
                f"{error.quantile(0.9):.1%} / {ratio.median():.2f}"
            )


def predicted_s(run: Any, sets: dict[str, Calibration]) -> float:
    """Time per token under load; not-a-number for what cannot be predicted."""
    model, hardware = known_model(run.model), load_hardware(DEVICE)
    if model is None:
        return float("nan")
    chosen = choose(SERVED if run.framework.startswith("trtllm") else "auto", hardware, sets)
    format_of = load_quantization(_FORMATS[run.precision])
    split = Parallelism(tensor=int(run.tp))
    workload = Workload(
        prompt_tokens=int(run.isl), output_tokens=int(run.osl), batch_size=max(1, int(run.batch))
    )
    try:
        deployment = Deployment(model, hardware, format_of, split, calibration=chosen)
        found = summarise(deployment, WorkloadArrays.of(workload)).phases["request"]
    except EngineError:
        return float("nan")
    return float(found["serving_tpot_s"][0])
