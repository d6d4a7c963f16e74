"""What a run looks like on a terminal: a bar with rate and remaining time, or a line every few seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from engine.commands.console import Terminal
from engine.run.events import Event, Note, Progress, RunStarted, TaskDone, TaskFailed, TaskStarted

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PLAIN_EVERY_S: Final = 5.0


class RunView:
    """Listens to a run; use as a context manager and pass `listen` to `run`."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._console = terminal.console(stderr=True)
        self._bar: Bar | None = None
        self._row: TaskID | None = None
        self._last_line_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def listen(self, event: Event) -> None:
        """Show one event."""
        if self._terminal.quiet:
            return
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, TaskStarted):
            if self._bar is not None and self._row is not None:
                self._bar.update(self._row, label=event.label)
        elif isinstance(event, TaskDone):
            self._advance(event.progress)
        elif isinstance(event, TaskFailed):
            self._console.print(f"failed: {event.label}: {event.error}", markup=False)
            self._advance(event.progress)
        elif isinstance(event, Note):
            self._console.print(event.text, markup=False)

    def _start(self, event: RunStarted) -> None:
        if not event.tasks:
            return
        if not (self._terminal.progress and self._console.is_terminal):
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.fields[label]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("points  {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._row = self._bar.add_task("run", total=event.points, label="", rate="")
        self._bar.start()

    def _advance(self, progress: Progress) -> None:
        rate = f"{progress.points_per_s:,.0f}/s" if progress.points_per_s else ""
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=progress.points_done, rate=rate)
            return
        now = time.monotonic()
        if self._terminal.progress and now - self._last_line_s >= _PLAIN_EVERY_S:
            self._last_line_s = now
            left = f", {progress.remaining_s:.0f} s left" if progress.remaining_s else ""
            self._terminal.say(f"{progress.points_done:,} of {progress.points_total:,} points{left}")
