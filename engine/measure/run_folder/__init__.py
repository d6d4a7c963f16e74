"""Run folders: a tree of benchmark logs becomes the same tables as a prediction or a live run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.measure.registry import Tools, measurement
from engine.spec.run_folder import RunFolderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.plan.point import Task
    from engine.results.tables import Tables

__all__ = ["measure_run_folder", "read_run_folder"]


@measurement(RunFolderSettings, result_version=2)
def measure_run_folder(settings: RunFolderSettings, task: Task, tools: Tools) -> Tables:
    """Every run below the folder; raises `NothingSelected` when no file can be read."""
    return read_run_folder(settings, base=tools.spec_folder, say=tools.say)


def read_run_folder(
    settings: RunFolderSettings,
    *,
    base: Path = Path(),
    jobs: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
    say: Callable[[str], Any] | None = None,
) -> Tables:
    """The tables of a folder of logs: points, summary, origins, files, findings, samples, custom.

    `jobs` is the number of processes (one a core when None), `progress` hears (runs read, runs in all).
    """
    from engine.measure.run_folder.reading import read_folder

    return read_folder(settings, base=base, jobs=jobs, progress=progress, say=say)
