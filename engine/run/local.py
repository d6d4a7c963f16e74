"""Run tasks on this machine: predictions here or in a few workers, each measured task in one of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from engine.run.device import devices_of, hold_devices
from engine.run.executor import Executor, Finished, Job, perform
from engine.run.process import PROGRAM, Worker
from engine.run.turns import News, at_work, ends, groups, in_turns, passing, takes_turns

if TYPE_CHECKING:
    from engine.plan.point import Task

OWN_PROCESS: Final = ("live", "energy")
# What a prediction costs on one core, roughly: used only to decide whether more processes pay.
_SECONDS_PER_POINT: Final = 8e-6
_SECONDS_PER_COMBINATION: Final = 5e-3
# A worker imports NumPy, Arrow and the engine and makes the plan again.
_WORKER_START_S: Final = 1.5


class LocalExecutor:
    """Everything on this machine; `workers` processes for predictions, as many as pay when None."""

    def __init__(self, *, workers: int | None = None, program: Sequence[str] = PROGRAM) -> None:
        self._workers = workers
        self._program = program

    def execute(self, tasks: Sequence[Task], job: Job) -> Iterator[Finished]:
        """See `Executor`."""
        apart = [task for task in tasks if task.kind in OWN_PROCESS or takes_turns(task)]
        here = [task for task in tasks if task not in apart]
        workers = self._workers if self._workers is not None else worth_workers(here)
        if workers > 1:
            predictions = [task for task in here if task.kind == "analytical"]
            yield from self._shared(predictions, job, workers)
            here = [task for task in here if task.kind != "analytical"]
        for task in here:
            with hold_devices(devices_of(task.settings), say=job.say):
                job.started(task)
                finished = perform(task, job)
            yield finished
        for group in groups(apart):
            yield from in_turns(group, job, program=self._program)

    def _shared(self, tasks: Sequence[Task], job: Job, count: int) -> Iterator[Finished]:
        """Share tasks among worker processes; what comes back first is yielded first."""
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        news: queue.SimpleQueue[News] = queue.SimpleQueue()
        workers = [Worker(passing(job, news), program=self._program) for _ in range(count)]
        threads = [threading.Thread(target=_serve, args=(w, waiting, news), daemon=True) for w in workers]
        with at_work(workers, threads):
            yield from ends(news, len(tasks))


def worth_workers(tasks: Sequence[Task]) -> int:
    """How many worker processes shorten the predictions among these tasks; 0 when none does."""
    predictions = [task for task in tasks if task.kind == "analytical"]
    serial = sum(
        task.size * _SECONDS_PER_POINT + len(task.spans) * _SECONDS_PER_COMBINATION for task in predictions
    )
    count = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
                len(predictions), 16)  # fmt: skip
    return count if count > 1 and serial / count + _WORKER_START_S < serial else 0


def _serve(worker: Worker, waiting: queue.SimpleQueue[Task], news: queue.SimpleQueue[News]) -> None:
    while not worker.stopped:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            news.put(worker.perform(task))
        except BaseException as err:  # noqa: BLE001 - handed to the thread that waits for it
            news.put(err)
            return


_conforms: type[Executor] = LocalExecutor
