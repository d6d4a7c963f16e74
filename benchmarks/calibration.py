"""Time of a million estimates against a million bounds, on arrays of workloads, printed.

    python benchmarks/calibration.py [--points N]

The promise: fitted parameters and bands cost at most three times the plain bound.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import numpy as np

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.parameter_sets import choose
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.catalog import load_calibrations, load_hardware, load_model, load_quantization


def workloads(points: int, *, worst: bool = False) -> WorkloadArrays:
    """Batches, outputs and prompt lengths, the longest axis innermost; or, as the worst case, outermost."""
    axes = [2 ** np.arange(10), np.arange(64, 704, 64), 16 + 16 * np.arange(points // 100)]
    grids = np.meshgrid(*(axes[::-1] if worst else axes), indexing="ij")
    batch, output, prompt = (grid.ravel() for grid in (grids[::-1] if worst else grids))
    zero = np.zeros(1, dtype=np.int64)
    return WorkloadArrays(prompt, output, batch, zero, zero, zero)


def best_of(deployments: Sequence[Deployment], arrays: WorkloadArrays, *, times: int = 7) -> list[float]:
    """Shortest processor time of a whole block for each, taken in turns: what else the machine does must not
    count, and what does must hit all alike."""
    found: list[list[float]] = [[] for _ in deployments]
    for _ in range(times):
        for taken, deployment in zip(found, deployments, strict=True):
            begin = time.process_time()
            summarise(deployment, arrays)
            taken.append(time.process_time() - begin)
    return [min(taken) for taken in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1_000_000)
    points = parser.parse_args().points
    hardware, bf16 = load_hardware("h100-sxm-80gb"), load_quantization("bf16")
    chosen = choose("auto", hardware, load_calibrations([hardware]))
    for name in ("llama-3.1-8b", "mixtral-8x7b"):
        model = load_model(name)
        for order in ("sweep", "worst"):
            arrays = workloads(points, worst=order == "worst")
            both = [Deployment(model, hardware, bf16), Deployment(model, hardware, bf16, calibration=chosen)]
            bound, estimate = best_of(both, arrays)
            times = f"bound {bound:.2f} s, estimate {estimate:.2f} s, {estimate / bound:.2f} times"
            print(f"{name}, {order} order: {times}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
