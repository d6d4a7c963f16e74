"""A worker whose energy measurement does as the trace's name says, for tests of what may go wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.errors import MeasurementError
from engine.measure import registry
from engine.measure.registry import Incomplete, Registered
from engine.results.tables import make_table
from engine.spec.energy import EnergySettings

PROGRAM = (__file__,)


def measure(settings, task, tools):
    """Behave."""
    (point,) = task.points()
    trace = settings.trace or ""
    if trace.startswith("mark:"):
        with Path(trace.removeprefix("mark:")).open("a") as file:
            file.write(f"{point.workload.batch_size}\n")
    elif trace == "fail":
        raise MeasurementError("no power can be read", hint="give a trace")
    elif trace == "defect":
        return {"summary": 1 / 0}
    elif trace == "crash":
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif trace == "exit":
        os._exit(7)
    elif trace == "noise":
        os.write(1, b"this is not JSON\n")
    elif trace.startswith("hang:"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        Path(trace.removeprefix("hang:")).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(300)
    elif trace == "partly":
        got = {"point": [0], "phase": ["prefill"], "status": ["ok"], "energy_j": [7.0]}
        raise Incomplete("the second half is missing", {"summary": make_table("summary", got)})
    elif trace == "say":
        tools.say("warming up")
    row = {"point": [0], "source": ["metered"], "phase": ["request"], "status": ["ok"]}
    return {"summary": make_table("summary", {**row, "energy_j": [float(point.workload.batch_size)]})}


registry._found["energy"] = Registered("energy", EnergySettings, measure, 1, frozenset())

if __name__ == "__main__":
    from engine.run.worker import main

    main(*map(Path, sys.argv[1:4]))
