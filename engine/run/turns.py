"""Measured tasks of one machine: one works at a time, and those that take turns pass on between repeats.

A machine drifts while it measures. Tasks one after another would each meet another machine, and the drift
would look like a difference between them; in turns, each meets all of it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from engine.run.device import devices_of, hold_devices
from engine.run.executor import Finished, Job, label_of, time_limit_s
from engine.run.process import GRACE_S, PROGRAM, Worker

if TYPE_CHECKING:
    from engine.plan.point import Task

News: TypeAlias = "Finished | BaseException | Callable[[], None]"
"""What a thread beside a worker has to tell: an end, a failure of its own, or something to pass on."""
_MOST_AT_ONCE: Final = 8
"""Tasks that take turns with each other: the models of all are in memory together."""


class Turns:
    """Who may work: one at a time, in the order they asked. Entered by the thread that wants to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[int] = deque()
        self._ended = False

    def __enter__(self) -> None:
        self._take()

    def __exit__(self, *_: object) -> None:
        self._give()

    def pass_on(self) -> None:
        """Let all others who wait work first."""
        self._give()
        self._take()

    def _take(self) -> None:
        own = threading.get_ident()
        with self._changed:
            self._waiting.append(own)
            self._changed.wait_for(lambda: self._ended or self._waiting[0] == own)

    def _give(self) -> None:
        with self._changed:
            self._waiting.remove(threading.get_ident())
            self._changed.notify_all()

    def end(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def groups(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Measured tasks that run together: those that take turns, then each of the others by itself."""
    together = [task for task in tasks if takes_turns(task)]
    for first in range(0, len(together), _MOST_AT_ONCE):
        yield together[first : first + _MOST_AT_ONCE]
    yield from ([task] for task in tasks if not takes_turns(task))


def takes_turns(task: Task) -> bool:
    """Whether a task may be run between the repeats of others."""
    return bool(getattr(task.settings, "take_turns", False))


def in_turns(tasks: Sequence[Task], job: Job, *, program: Sequence[str] = PROGRAM) -> Iterator[Finished]:
    """Run tasks together, each in a process of its own, which alone works and holds the devices."""
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    turns = Turns()
    jobs = [passing(job, news, whose=f"{label_of(task)}: " if len(tasks) > 1 else "") for task in tasks]
    workers = [Worker(each, program=program, pass_on=turns.pass_on) for each in jobs]
    threads = [
        threading.Thread(target=_work, args=(worker, task, turns, news), daemon=True)
        for worker, task in zip(workers, tasks, strict=True)
    ]
    devices = {name for task in tasks for name in devices_of(task.settings, count=task.stages)}
    with hold_devices(sorted(devices), say=job.say), at_work(workers, threads):
        try:
            yield from ends(news, len(tasks))
        except KeyboardInterrupt:
            yield from _handed_over(workers, threads, turns, news)
            raise


def _work(worker: Worker, task: Task, turns: Turns, news: queue.SimpleQueue[News]) -> None:
    # To start a process and to load a model disturbs others as much as to measure.
    with turns:
        try:
            news.put(worker.perform(task, time_limit_s=time_limit_s(task.settings)))
        except BaseException as err:  # noqa: BLE001 - handed to the thread that waits for it
            news.put(err)


def _handed_over(
    workers: Sequence[Worker],
    threads: Sequence[threading.Thread],
    turns: Turns,
    news: queue.SimpleQueue[News],
) -> Iterator[Finished]:
    """What interrupted measurements have by now, of those that say so within moments."""
    for worker in workers:
        worker.interrupt()
    # Not before: a worker that waits for its first turn would start.
    turns.end()
    for thread in threads:
        thread.join(timeout=2 * GRACE_S)
    while not news.empty():
        found = news.get()
        if isinstance(found, Finished) and found.drafts:
            yield found


def passing(job: Job, news: queue.SimpleQueue[News], *, whose: str = "") -> Job:
    """A job for threads: whoever listens to a run hears of it in one thread, by `ends`; `whose` stands before
    each line, where those of several tasks alternate."""
    return replace(
        job,
        started=lambda task: news.put(lambda: job.started(task)),
        say=lambda line: news.put(lambda: job.say(whose + line)),
    )


def ends(news: queue.SimpleQueue[News], missing: int) -> Iterator[Finished]:
    """So many ends of tasks as they come; what else is told is passed on, and errors are raised."""
    while missing:
        found = news.get()
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, Finished):
            missing -= 1
            yield found
        else:
            found()


@contextmanager
def at_work(workers: Sequence[Worker], threads: Sequence[threading.Thread]) -> Iterator[None]:
    """Threads beside workers; both are stopped at the end, whatever happens."""
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join(timeout=GRACE_S)
