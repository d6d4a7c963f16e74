"""A worker whose live measurement writes down when it works, for tests of taking turns."""

import sys
import time
from pathlib import Path

from engine.measure import registry
from engine.measure.registry import Incomplete, Registered
from engine.results.tables import make_table
from engine.spec.device_probe import DeviceProbeSettings
from engine.spec.live import LiveSettings

PROGRAM = (__file__,)


def measure(settings, task, tools):
    """Note the batch size at the begin and at the end of each repeat; a batch of 9 ends in the second one."""
    (point,) = task.points()
    size = point.workload.batch_size
    done = 0
    try:
        for _ in range(settings.repeats):
            tools.pass_on()
            note(settings, size)
            time.sleep(0.02)
            note(settings, size)
            tools.say("a repeat")
            done += 1
            if size == 9 and done == 2:
                raise SystemExit(3)
    except KeyboardInterrupt:
        raise Incomplete("interrupted", rows(done)) from None
    return rows(done)


def note(settings, size):
    with Path(settings.target.weights).open("a") as file:
        file.write(f"{size}\n")


def rows(done):
    row = {"point": [0], "source": ["live"], "phase": ["request"], "status": ["ok"]}
    return {"summary": make_table("summary", {**row, "time_s": [float(done)]})}


def probe(settings, task, tools):
    """Let others work once."""
    tools.pass_on()
    return {}


registry._found["live"] = Registered("live", LiveSettings, measure, 1, frozenset())
registry._found["device_probe"] = Registered("device_probe", DeviceProbeSettings, probe, 1, frozenset())

if __name__ == "__main__":
    from engine.run.worker import main

    main(*map(Path, sys.argv[1:4]))
