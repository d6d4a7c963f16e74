"""Plans with tables made by rule, so that a test knows every value that must come back."""

import errno
import os

from engine.plan.compile import Plan, compile_plan
from engine.plan.point import Task
from engine.results.atomic import Disk
from engine.results.store import ResultStore
from engine.results.tables import make_table
from tests.plan.specs import DEVICE, device, experiment


def the_plan(**changes):
    """Two devices, three batches: a task a device with three points each."""
    return compile_plan(
        experiment(
            sweep={
                "axes": {
                    "hardware": [DEVICE, device(name="other", memory="40 GB")],
                    "workload.batch_size": [1, 2, 4],
                }
            },
            **changes,
        )
    )


def tables_of(task: Task):
    """One row a point; the metric is the batch size, so a row shows which point it belongs to."""
    batches = [point.workload.batch_size for point in task.points()]
    return {
        "summary": make_table(
            "summary",
            {
                "point": list(range(task.size)),
                "source": ["predicted"] * task.size,
                "phase": ["request"] * task.size,
                "status": ["ok"] * task.size,
                "tpot_s": [float(b) for b in batches],
            },
        )
    }


def fill(store: ResultStore, plan: Plan) -> None:
    """Record every task that is not done."""
    done = store.done()
    for task in plan.tasks:
        if task.fingerprint not in done:
            store.record(task, tables_of(task))


def rows(store: ResultStore, plan: Plan, table="summary", columns=("point", "tpot_s")):
    """The rows of a table as tuples."""
    return [tuple(row.values()) for row in store.read(plan, table, columns=list(columns)).to_pylist()]


EXPECTED = [(0, 1.0), (1, 2.0), (2, 4.0), (3, 1.0), (4, 2.0), (5, 4.0)]


class FailingDisk(Disk):
    """Fails at one call, counted over everything that changes files."""

    def __init__(self, fail_at: int, number: int = errno.ENOSPC, *, once: bool = True) -> None:
        self.calls = 0
        self._fail_at = fail_at
        self._number = number
        self._once = once

    def _count(self, path) -> None:
        self.calls += 1
        if self.calls == self._fail_at or (not self._once and self.calls > self._fail_at):
            raise OSError(self._number, os.strerror(self._number), str(path))

    def write(self, path, pieces):
        pieces = list(pieces)
        try:
            self._count(path)
        except OSError:
            # A full disk keeps what fitted.
            path.write_bytes(bytes(pieces[0])[: len(pieces[0]) // 2])
            raise
        super().write(path, pieces)

    def rename(self, source, target):
        self._count(target)
        super().rename(source, target)

    def sync_folder(self, folder):
        self._count(folder)
        super().sync_folder(folder)

    def make_folder(self, folder):
        self._count(folder)
        super().make_folder(folder)
