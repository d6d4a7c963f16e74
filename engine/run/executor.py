"""What an executor is: something that turns tasks into shards, wherever it does so."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import EngineError, StoreError
from engine.results.atomic import Disk
from engine.results.store import Draft, write_drafts

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.plan.point import Task


@dataclass(frozen=True)
class Job:
    """What every task of a run shares."""

    plan: Plan
    folder: Path
    """Run folder; `plan.json` in it describes the plan to other processes."""
    spec_folder: Path
    """Folder that relative paths of the spec start from."""
    disk: Disk = field(default_factory=Disk)
    started: Callable[[Task], None] = field(default=lambda _: None)
    """Called when a task begins."""
    say: Callable[[str], None] = field(default=lambda _: None)
    """Called with a line for the user."""
    pass_on: Callable[[], None] = field(default=lambda: None)
    """Called by a task that takes turns between its repeats; returns when it is its turn again."""


@dataclass(frozen=True)
class Finished:
    """A task that came to an end: drafts of its shards, why it failed, or both when it got somewhere."""

    task: Task
    seconds: float
    drafts: tuple[Draft, ...] = ()
    error: str | None = None
    tail: str | None = None
    """Last lines the task printed; None when it printed nothing or ran in this process."""
    interrupted: bool = False
    """It was stopped by the user and handed over what it had; the run stops after it."""


class Executor(Protocol):
    """Runs tasks in any order and any place; each comes back once.

    A `StoreError` means that results cannot be written and ends the run. Closing the iterator stops what
    is under way.
    """

    def execute(self, tasks: Sequence[Task], job: Job) -> Iterator[Finished]: ...


def perform(task: Task, job: Job) -> Finished:
    """Carry out one task in this process and write its shards under temporary names.

    A failure of the measurement is an outcome; a `StoreError` is raised.
    """
    from engine.measure.registry import Incomplete, Tools, find

    working = _Working(job.pass_on)
    error: str | None = None
    try:
        measured = find(task.kind)
        with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
            tools = Tools(
                job.spec_folder, Path(scratch), seed=seed_of(task), say=job.say, pass_on=working.pass_on
            )
            try:
                tables = measured.function(task.settings, task, tools)
            except Incomplete as err:
                tables, error = err.tables, _told(err)
            drafts = write_drafts(job.folder, task, tables, disk=job.disk)
    except StoreError:
        raise
    except EngineError as err:
        return Finished(task, working.seconds, error=_told(err))
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as err:
        # A defect of one measurement must not cost the results of the others.
        return Finished(task, working.seconds, error=f"{type(err).__name__}: {err}", tail=_trace(err))
    return Finished(task, working.seconds, tuple(drafts), error=error)


class _Working:
    """The time a task takes for itself, without that in which others have their turn."""

    def __init__(self, pass_on: Callable[[], None]) -> None:
        self._pass_on = pass_on
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def pass_on(self) -> None:
        before = time.monotonic()
        self._pass_on()
        self._begin += time.monotonic() - before


def seed_of(task: Task) -> int:
    """Seed of everything random in a task: its own, and the same wherever and whenever it runs."""
    return int(task.fingerprint[:8], 16)


def time_limit_s(settings: Any) -> float | None:
    """Seconds a measured task may take; None for as long as it likes."""
    limit = getattr(settings, "time_limit", None)
    return None if limit is None else float(limit)


def label_of(task: Task) -> str:
    """What a task is about, for people."""
    if not task.size:
        return task.kind
    if task.size == 1:
        return f"{task.kind}: {next(task.points()).label}"
    labels = task.spans[0][0].combination.labels
    return f"{task.kind}: {task.size:,} points of {labels['model']} on {labels['hardware']}"


def _told(err: EngineError) -> str:
    return f"{err.message} ({err.hint})" if err.hint else err.message


def _trace(err: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(err))[-4000:]
