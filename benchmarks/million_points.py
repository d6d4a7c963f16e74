"""Plan a million analytical points and run them to Parquet: seconds and peak memory, printed.

    python benchmarks/million_points.py [--points N] [--workers N] [--keep FOLDER] [--calibration none]

The promise: planned in a second, on disk in ten, within 1 GB on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

from engine.measure.registry import versions
from engine.plan.compile import compile_plan
from engine.results.store import ResultStore
from engine.run.execute import run
from engine.run.local import LocalExecutor
from engine.spec.experiment import Experiment


def experiment(points: int, calibration: str = "auto") -> Experiment:
    """Two devices, five formats and as many workloads as make up the points."""
    batches = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    outputs = [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
    prompts = list(range(16, 16 + 16 * (points // 1000), 16))
    return Experiment.model_validate(
        {
            "version": 1,
            "name": "million-points",
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "sweep": {
                "axes": {
                    "hardware": ["h100-sxm-80gb", "h200-sxm"],
                    "quantization": ["bf16", "fp8", "int8-w8a8", "w4a16-g128", "kv-fp8"],
                    "workload.batch_size": batches,
                    "workload.output_tokens": outputs,
                    "workload.prompt_tokens": prompts,
                }
            },
            "measurements": [{"kind": "analytical", "calibration": calibration}],
        }
    )


class Memory:
    """Largest memory of this process and its children together."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, [me, *me.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, help="worker processes; as many as pay when left out")
    parser.add_argument("--keep", type=Path, help="folder for the run; a temporary one when left out")
    parser.add_argument("--calibration", default="auto", help="`none` for the bound alone")
    options = parser.parse_args()
    asked = experiment(options.points, options.calibration)
    begin = time.perf_counter()
    plan = compile_plan(asked, versions=versions(["analytical"]))
    planned = time.perf_counter()
    print(f"planned {plan.size:,} points in {len(plan.tasks)} tasks: {planned - begin:.2f} s")
    with tempfile.TemporaryDirectory() as scratch, Memory() as memory:
        folder = options.keep or Path(scratch) / "run"
        with ResultStore.open(folder, write=True) as store:
            summary = run(plan, store, executor=LocalExecutor(workers=options.workers))
        ended = time.perf_counter()
        size = sum(f.stat().st_size for f in folder.rglob("*.parquet"))
    print(f"run to Parquet: {ended - planned:.2f} s, exit code {summary.exit_code}, {size / 1e6:.0f} MB")
    print(f"peak memory, all processes: {memory.peak_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
