# ruff: noqa: E501 - log lines are as long as their tools write them
"""How fast and in how much memory run folders become a workbook.

    python benchmarks/run_folder.py                 # 1,000 runs, 3,000 files, 300 MB
    python benchmarks/run_folder.py --one-file 1.0  # one CSV of 1 GB

The trees are made up in a temporary folder (or in --folder, where they are kept). Memory is the sum over the
command and its processes, sampled every 50 ms; shared pages count once per process, so it is an upper bound.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

LIMIT_S = 60.0
LIMIT_BYTES = 1e9
START = dt.datetime(2026, 3, 4, 10, 0, tzinfo=dt.UTC)
TIMINGS = """\
llm_load_print_meta: model params     = {params:.2f} B
llama_perf_context_print:        load time =     700.00 ms
llama_perf_context_print: prompt eval time =     120.00 ms /    16 tokens (    7.50 ms per token,   133.33 tokens per second)
llama_perf_context_print:        eval time =  {time:9.2f} ms /  {steps} runs   (   50.00 ms per token,    20.00 tokens per second)
llama_perf_context_print:       total time =  {time:9.2f} ms /   115 tokens
"""


def power_rows(count: int, *, first: int = 0) -> str:
    """Rows of nvidia-smi at 10 Hz: idle, busy, idle."""
    rows = []
    for i in range(first, first + count):
        stamp = START + dt.timedelta(milliseconds=100 * i)
        busy = count // 4 <= i - first < 3 * count // 4
        watts = (240.0 if busy else 60.0) + i % 7
        rows.append(
            f"{stamp:%Y/%m/%d %H:%M:%S}.{stamp.microsecond // 1000:03d}, 0, {watts:.2f} W, {96 if busy else 0} %, 20480 MiB\n"
        )
    return "".join(rows)


HEADER = "timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB]\n"


def make_tree(folder: Path, runs: int, megabytes: float) -> None:
    """Runs of 25 models, 8 batches and 5 repeats; the CSV files fill the size."""
    per_run = megabytes * 1e6 / runs
    rows = max(40, int(per_run * 0.9 / len(power_rows(1))))
    power = HEADER + power_rows(rows)
    thermal = "timestamp, index, temperature.gpu\n" + "".join(
        f"{START + dt.timedelta(seconds=i):%Y/%m/%d %H:%M:%S}.000, 0, {40 + i % 30}\n"
        for i in range(int(per_run * 0.1 / 31))
    )
    for i in range(runs):
        size, batch, repeat = 1 + i // 40, 2 ** (i // 5 % 8), i % 5
        path = folder / f"llama_{size}b" / f"batch_{batch}" / f"run_{repeat}"
        path.mkdir(parents=True, exist_ok=True)
        steps = 100 + i % 17
        (path / "inference_output.txt").write_text(
            TIMINGS.format(params=size, time=50.0 * steps, steps=steps)
        )
        (path / "power_metrics.csv").write_text(power)
        (path / "thermal_data.csv").write_text(thermal)


def make_one_file(folder: Path, gigabytes: float) -> None:
    """One run with one long power log."""
    path = folder / "llama_7b" / "batch_1"
    path.mkdir(parents=True, exist_ok=True)
    (path / "inference_output.txt").write_text(TIMINGS.format(params=7, time=5000.0, steps=100))
    with (path / "power_metrics.csv").open("w") as file:
        file.write(HEADER)
        first, written = 0, 0
        while written < gigabytes * 1e9:
            text = power_rows(100_000, first=first)
            first += 100_000
            written += file.write(text)


def measure(folder: Path, jobs: int) -> tuple[float, int, int]:
    """Seconds, peak bytes and exit code of `engine ingest`."""
    command = [
        sys.executable, "-m", "engine", "ingest", "-i", str(folder), "-o", str(folder.parent / "runs.xlsx"),
        "--jobs", str(jobs),
    ]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(watched))
        time.sleep(0.05)
    return time.perf_counter() - started, peak, process.returncode


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> int:
    """Make a tree, read it, and compare with the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--megabytes", type=float, default=300.0)
    parser.add_argument("--one-file", type=float, metavar="GB")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)) / "runs"
        if not folder.exists():
            if options.one_file:
                make_one_file(folder, options.one_file)
            else:
                make_tree(folder, options.runs, options.megabytes)
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        seconds, peak, code = measure(folder, options.jobs)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = f"{seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor time)"
    print(f"{len(files):,} files, {size / 1e6:,.0f} MB: {spent}, {peak / 1e6:,.0f} MB at most, exit {code}")
    kept = code == 0 and peak <= LIMIT_BYTES and (options.one_file is not None or seconds <= LIMIT_S)
    print("within the limits" if kept else "NOT within the limits")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
