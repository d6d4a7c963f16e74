"""Time of a million estimates against a million bounds, on arrays of workloads, printed.

    python benchmarks/calibration.py [--points N]

The promise: fitted parameters and bands cost at most three times the plain bound.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization


def workloads(points: int) -> WorkloadArrays:
    """Prompt lengths under batches under outputs, as a sweep lays them out."""
    per = points // 100
    prompt, output, batch = (
        grid.ravel()
        for grid in np.meshgrid(
            16 + 16 * np.arange(per), np.arange(64, 704, 64), 2 ** np.arange(10), indexing="ij"
        )
    )
    zero = np.zeros(1, dtype=np.int64)
    return WorkloadArrays(prompt, output, batch, zero, zero, zero)


def best_of(deployment: Deployment, arrays: WorkloadArrays, *, times: int = 3) -> float:
    """Shortest time of a whole block."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        summarise(deployment, arrays)
        found.append(time.perf_counter() - begin)
    return min(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1_000_000)
    points = parser.parse_args().points
    hardware, bf16 = load_hardware("h100-sxm-80gb"), load_quantization("bf16")
    chosen = choose("auto", hardware, load_calibrations([hardware]))
    arrays = workloads(points)
    for name in ("llama-3.1-8b", "mixtral-8x7b"):
        model = load_model(name)
        bound = best_of(Deployment(model, hardware, bf16), arrays)
        estimate = best_of(Deployment(model, hardware, bf16, calibration=chosen), arrays)
        print(f"{name}: bound {bound:.2f} s, estimate {estimate:.2f} s, {estimate / bound:.2f} times")


if __name__ == "__main__":
    main()
