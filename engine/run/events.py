"""What happens during a run, as data; whoever watches decides how it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    tasks_done: int
    tasks_total: int
    points_done: int
    points_total: int
    elapsed_s: float
    points_per_s: float | None
    """None before the first task is done."""
    remaining_s: float | None
    """None before there is anything to judge by, and while tasks take turns."""


@dataclass(frozen=True)
class RunStarted:
    """The plan is compared with what is stored."""

    tasks: int
    """Tasks that will run."""
    points: int
    kept: int
    """Tasks whose results are there."""


@dataclass(frozen=True)
class TaskStarted:
    """A task begins."""

    fingerprint: str
    kind: str
    label: str


@dataclass(frozen=True)
class TaskDone:
    """A task's results are stored."""

    fingerprint: str
    kind: str
    label: str
    seconds: float
    progress: Progress


@dataclass(frozen=True)
class TaskFailed:
    """A task failed and the failure is stored; the run goes on."""

    fingerprint: str
    kind: str
    label: str
    error: str
    tail: str | None
    progress: Progress


@dataclass(frozen=True)
class Note:
    """Something worth a line, such as waiting for a device."""

    text: str


Event = RunStarted | TaskStarted | TaskDone | TaskFailed | Note
Listener = Callable[[Event], None]
