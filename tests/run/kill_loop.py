"""Runs an experiment in children that are killed at random moments, until one of them gets through.

    python kill_loop.py FOLDER WORKERS KILLS SEED

Prints what was seen as JSON. Forked from a process that has imported everything, so that most of a
child's life is the run itself.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.compute
import pyarrow.parquet

from engine.measure import analytical
from engine.perfmodel import summary
from engine.plan.compile import compile_plan
from engine.results import reading, shards
from engine.results.store import ResultStore
from engine.run.events import TaskStarted
from engine.run.execute import run
from engine.run.local import LocalExecutor
from tests.plan.specs import device, experiment

LOADED = (np, pyarrow.compute, pyarrow.parquet, analytical, summary, reading, shards)


def the_plan():
    """Twelve tasks of 600 points."""
    axes = {
        "hardware": [device(name=f"board-{n}", memory=f"{n + 1} GB") for n in range(12)],
        "workload.batch_size": [1, 2, 4, 8, 16, 32],
        "workload.prompt_tokens": list(range(100, 200)),
    }
    return compile_plan(experiment(sweep={"axes": axes}))


PLAN = the_plan()


def one_run(folder, workers):
    """A whole run; every task that begins is noted."""

    def note(event):
        if isinstance(event, TaskStarted):
            with (folder.parent / "started").open("a") as file:
                file.write(event.fingerprint + "\n")

    with ResultStore.open(folder, write=True) as store:
        run(PLAN, store, executor=LocalExecutor(workers=workers), text="version: 1\n", on_event=note)


def in_child(folder, workers, delay):
    """Whether a forked run ended by itself within `delay` seconds; otherwise it was killed."""
    child = os.fork()
    if child == 0:
        try:
            one_run(folder, workers)
        except BaseException as err:  # noqa: BLE001 - told to the parent
            print(type(err).__name__, err, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + delay
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def done(folder):
    """Tasks that count as finished."""
    if not (folder / "registry.sqlite").exists():
        return set()
    with ResultStore.open(folder, write=True) as store:
        return set(store.done())


def main(folder, workers, kills, seed):
    """Kill `kills` runs, then let one through."""
    chance = random.Random(seed)
    begin = time.monotonic()
    code = in_child(folder.parent / "whole" / "run", workers, 300)
    whole = time.monotonic() - begin
    (folder.parent / "whole" / "started").unlink()
    seen = {"codes": [code], "kills": 0, "progress": [], "repeated": 0}
    for number in range(kills):
        finished = done(folder)
        (folder.parent / "started").unlink(missing_ok=True)
        # Workers take most of a run to start; what is of interest comes then.
        code = in_child(folder, workers, whole * chance.uniform(0.5 if workers else 0, 1))
        started = folder.parent / "started"
        again = set(started.read_text().split()) if started.exists() else set()
        seen["repeated"] += len(again & finished)
        seen["progress"].append(len(finished))
        seen["codes"].append(code)
        seen["kills"] += code is None
        if code == 0 and number < kills - 1:
            # Through already: take the results away, so that there is something to kill again.
            for path in (folder / "results" / "summary").iterdir():
                path.unlink()
    seen["codes"].append(in_child(folder, workers, 300))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
