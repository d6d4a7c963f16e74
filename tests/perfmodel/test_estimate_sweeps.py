"""Estimates of whole models along batch, prompt and output: no falls, no jumps, never below the bound."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.summary import Summary, WorkloadArrays, summarise
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization
from engine.spec.workload import Parallelism

ONE_BY_ONE, POWERS = np.arange(1, 1100), 2 ** np.arange(15)
FIXED = ((4, 300, 50), (64, 1000, 20), (1, 1, 2))
TIMES = (("prefill", "time_s"), ("decode", "time_s"), ("decode_last", "time_s"),
         ("request", "generation_s"), ("request", "e2e_s"))  # fmt: skip
# An L40S has no set of its own: its parameters are transferred.
PLACES = [
    ("h100-sxm-80gb", "llama-3.1-8b", 1),
    ("a100-sxm-80gb", "llama-3.1-8b", 8),
    ("h100-sxm-80gb", "gemma-3-12b", 2),
    ("l40s", "llama-3.1-8b", 1),
    ("h100-sxm-80gb", "mixtral-8x7b", 4),
    ("a100-sxm-80gb", "deepseek-v2-lite", 1),
]
each_place = pytest.mark.parametrize(("device", "model", "tensor"), PLACES, ids=lambda v: str(v))


def deployed(device: str, model: str, tensor: int) -> Deployment:
    sheet = load_hardware(device)
    chosen = choose("auto", sheet, load_calibrations([sheet]))
    assert chosen is not None
    split = Parallelism(tensor=tensor)
    return Deployment(load_model(model), sheet, load_quantization("bf16"), split, calibration=chosen)


def swept(
    deployment: Deployment, place: int, along: NDArray[np.int64], fixed: tuple[int, int, int]
) -> Summary:
    batch, prompt, output = (along if at == place else np.array([n]) for at, n in enumerate(fixed))
    none = np.zeros(1, dtype=np.int64)
    return summarise(deployment, WorkloadArrays(prompt, output, batch, none, none, none))


def steps(found: Summary, phase: str, metric: str) -> NDArray[np.float64]:
    """Each time over the one before it, where both fit and take time."""
    time = found.phases[phase][metric]
    pairs = (time[:-1] > 0) & np.isfinite(time[1:])
    return np.where(pairs, time[1:], 1.0) / np.where(pairs, time[:-1], 1.0)


@each_place
@pytest.mark.parametrize("along", [ONE_BY_ONE, POWERS], ids=["one by one", "powers of two"])
def test_more_never_takes_less(device: str, model: str, tensor: int, along: NDArray[np.int64]) -> None:
    made = deployed(device, model, tensor)
    for place in range(3):
        for fixed in FIXED:
            found = swept(made, place, along, fixed)
            for phase, metric in TIMES:
                least = steps(found, phase, metric).min()
                assert least >= 1 - 1e-9, (place, fixed, phase, metric, least)
            for phase, metric in (("prefill", "time_s"), ("decode", "time_s"), ("request", "e2e_s")):
                took, bound = found.phases[phase][metric], found.phases[phase]["bound_time_s"]
                fits = np.isfinite(took)
                assert (took[fits] >= bound[fits] * (1 - 1e-12)).all(), (place, fixed, phase)


@each_place
def test_one_more_never_makes_a_jump(device: str, model: str, tensor: int) -> None:
    # A fortieth more work, or a tile of rows more: never a tenth of the time of a whole step.
    made = deployed(device, model, tensor)
    for place in range(3):
        for fixed in FIXED:
            found = swept(made, place, ONE_BY_ONE, fixed)
            for phase, metric in TIMES:
                most = steps(found, phase, metric)[40:].max()
                assert most <= 1.1, (place, fixed, phase, metric, most)
