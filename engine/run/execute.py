"""Carry out a plan: keep what is there, run what is missing, record what fails, and say what was done."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EXIT_INTERRUPTED, NothingSelected
from engine.plan.inputs import inputs_changed, inputs_digest
from engine.results.documents import write_documents, write_session
from engine.results.environment import environment, utc_now
from engine.run.events import Listener, Note, Progress, RunStarted, TaskDone, TaskFailed, TaskStarted
from engine.run.executor import Executor, Finished, Job, label_of
from engine.run.local import LocalExecutor
from engine.run.turns import takes_turns

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.plan.point import Task
    from engine.results.store import ResultStore

MEASURED: Final = ("live", "energy")
"""Kinds whose numbers depend on the machine's state, so their order matters."""


@dataclass(frozen=True)
class Failure:
    """A task without results."""

    label: str
    error: str
    earlier: bool
    """It failed in an earlier run and was not tried again."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did, in tasks."""

    done: int
    kept: int
    failed: int
    """Failures of this run and of earlier ones that were not tried again."""
    skipped: int
    """Left out by `only`, or not reached."""
    points_done: int
    seconds: float
    exit_code: int
    """0 all there, 4 something failed, 130 interrupted."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class _Choice:
    todo: tuple[Task, ...]
    kept: int
    left_out: int
    failures: tuple[Failure, ...]


def run(
    plan: Plan,
    store: ResultStore,
    *,
    executor: Executor | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    fresh: bool = False,
    spec: Path | None = None,
    text: str | None = None,
    on_event: Listener | None = None,
) -> RunSummary:
    """Run what a plan still misses and return what was done; the store is left consistent whatever happens.

    `only` chooses kinds, `fresh` gives up stored results of the chosen tasks, `spec` is the file (relative
    paths start at its folder) and `text` what it said. Raises `StoreError` when results cannot be written,
    `NothingSelected` when `only` names no kind of the plan.
    """
    begin = time.monotonic()
    listen = on_event or (lambda _: None)
    write_documents(store, plan, text=text)
    spec_folder = spec.resolve().parent if spec else Path.cwd()
    choice = _choose(plan, store, spec_folder, only=only, retry_failed=retry_failed, fresh=fresh)
    seed = int(plan.fingerprint[:8], 16)
    session: dict[str, Any] = {"id": os.urandom(4).hex(), **environment(spec=spec, seed=seed)}
    if choice.todo:
        write_session(store, session)
    tracker = _Tracker(store, choice, spec_folder, listen, begin)
    job = Job(
        plan,
        store.folder,
        spec_folder,
        store.disk,
        started=tracker.started,
        say=lambda line: listen(Note(line)),
    )
    listen(RunStarted(len(choice.todo), _points(choice.todo), choice.kept))
    interrupted = False
    try:
        with _terminated_as_interrupt():
            finished = (executor or LocalExecutor()).execute(in_order(choice.todo, seed), job)
            with closing(finished):  # type: ignore[type-var]
                for outcome in finished:
                    tracker.ended(outcome)
    except KeyboardInterrupt:
        interrupted = True
    summary = tracker.summary(interrupted=interrupted)
    if choice.todo:
        write_session(store, {**session, "ended": utc_now(), "exit_code": summary.exit_code})
    return summary


def _choose(
    plan: Plan,
    store: ResultStore,
    spec_folder: Path,
    *,
    only: Sequence[str],
    retry_failed: bool,
    fresh: bool,
) -> _Choice:
    chosen = [task for task in plan.tasks if not only or task.kind in only]
    if not chosen:
        raise NothingSelected(f"no measurement of kind {', '.join(f'`{k}`' for k in only)} in this spec")
    if fresh:
        store.give_up(chosen)
    done, failed = store.done(chosen), store.failed()
    todo: list[Task] = []
    failures: list[Failure] = []
    for task in chosen:
        if task.fingerprint in failed and not retry_failed:
            error = failed[task.fingerprint].error or "failed"
            failures.append(Failure(label_of(task), error, earlier=True))
        elif task.fingerprint not in done or inputs_changed(task, done[task.fingerprint], spec_folder):
            todo.append(task)
    kept = len(chosen) - len(todo) - len(failures)
    return _Choice(tuple(todo), kept, len(plan.tasks) - len(chosen), tuple(failures))


def _points(tasks: Sequence[Task]) -> int:
    """Points to go, for a progress bar: a task of none, as a probe is, counts as one."""
    return sum(task.size or 1 for task in tasks)


def in_order(tasks: Sequence[Task], seed: int) -> list[Task]:
    """Predictions and readings as planned, then measured tasks shuffled.

    A machine drifts while it measures - it warms up, others use it. In the order of an axis that drift
    would look like an effect of the axis; in random order it only adds spread.
    """
    measured = [task for task in tasks if task.kind in MEASURED]
    random.Random(seed).shuffle(measured)  # noqa: S311 - a repeatable order, not a secret
    return [*(task for task in tasks if task.kind not in MEASURED), *measured]


class _Tracker:
    """Stores each outcome as it comes and counts."""

    def __init__(
        self, store: ResultStore, choice: _Choice, spec_folder: Path, listen: Listener, begin: float
    ) -> None:
        self._store = store
        self._spec_folder = spec_folder
        self._inputs: dict[str, str | None] = {}
        self._in_turns: set[str] = set()
        self._choice = choice
        self._listen = listen
        self._begin = begin
        self._first: float | None = None
        self._done = self._points = self._ended_points = 0
        self._failures = list(choice.failures)

    def started(self, task: Task) -> None:
        self._first = self._first or time.monotonic()
        # Before it reads them: what changes meanwhile then counts as changed.
        self._inputs[task.fingerprint] = inputs_digest(task, self._spec_folder)
        if takes_turns(task):
            self._in_turns.add(task.fingerprint)
        self._listen(TaskStarted(task.fingerprint, task.kind, label_of(task)))

    def ended(self, outcome: Finished) -> None:
        task = outcome.task
        self._ended_points += _points([task])
        self._in_turns.discard(task.fingerprint)
        if outcome.error is None:
            inputs = self._inputs.get(task.fingerprint)
            self._store.adopt(task, outcome.drafts, seconds=outcome.seconds, inputs=inputs)
            self._done += 1
            self._points += task.size
            self._listen(
                TaskDone(task.fingerprint, task.kind, label_of(task), outcome.seconds, self._progress())
            )
            return
        self._store.record_failure(
            task,
            outcome.error,
            outcome.tail,
            seconds=outcome.seconds,
            drafts=outcome.drafts,
            interrupted=outcome.interrupted,
        )
        if outcome.interrupted:
            return
        self._failures.append(Failure(label_of(task), outcome.error, earlier=False))
        self._listen(
            TaskFailed(
                task.fingerprint, task.kind, label_of(task), outcome.error, outcome.tail, self._progress()
            )
        )

    def _progress(self) -> Progress:
        total = _points(self._choice.todo)
        ended = self._ended_points
        elapsed = time.monotonic() - (self._first or self._begin)
        rate = ended / elapsed if elapsed > 0 and ended else None
        return Progress(
            tasks_done=self._done + sum(not f.earlier for f in self._failures),
            tasks_total=len(self._choice.todo),
            points_done=ended,
            points_total=total,
            elapsed_s=elapsed,
            points_per_s=rate,
            # Tasks that take turns end nearly together: the first end says nothing of how long the rest take.
            remaining_s=(total - ended) / rate if rate and not self._in_turns else None,
        )

    def summary(self, *, interrupted: bool) -> RunSummary:
        new = sum(not f.earlier for f in self._failures)
        return RunSummary(
            done=self._done,
            kept=self._choice.kept,
            failed=len(self._failures),
            skipped=self._choice.left_out + len(self._choice.todo) - self._done - new,
            points_done=self._points,
            seconds=time.monotonic() - self._begin,
            exit_code=EXIT_INTERRUPTED if interrupted else 4 if self._failures else 0,
            failures=tuple(self._failures),
        )


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Treat a polite request to end like Ctrl-C: what is finished is saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
