"""A finished or interrupted run, opened from its folder alone: no spec, no catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import StoreError
from engine.plan.document import plan_from_document
from engine.results.documents import EXPERIMENT, PLAN, read_json, sessions
from engine.results.store import ResultStore

if TYPE_CHECKING:
    from engine.plan.compile import Plan


@dataclass(frozen=True)
class StoredRun:
    """A run folder as it lies there."""

    folder: Path
    plan: Plan
    store: ResultStore
    """Open for reading."""
    sessions: tuple[dict[str, Any], ...]
    """Every `engine run` that did something here, oldest first: versions, machine, times, exit code."""
    text: str | None
    """The spec as it was written; None for runs that had no file."""

    @property
    def environment(self) -> dict[str, Any]:
        """What the latest results were made with; empty when it was not recorded."""
        return self.sessions[-1] if self.sessions else {}


def open_run(run: Path, *, runs: Path = Path("runs")) -> StoredRun:
    """The run in a folder, or of that name under `runs`; raises `StoreError` when there is none."""
    folder = run if run.exists() or not (runs / run).exists() else runs / run
    if not folder.exists():
        known = sorted(p.name for p in runs.iterdir() if (p / PLAN).exists()) if runs.is_dir() else []
        raise StoreError(
            f"there is no run `{run}`",
            hint=f"runs in `{runs}`: {', '.join(known)}" if known else "`engine run SPEC` makes one",
        )
    store = ResultStore.open(folder, write=False)
    try:
        plan = plan_from_document(read_json(folder / PLAN), to_run=False)
        text = (folder / EXPERIMENT).read_text(encoding="utf-8") if (folder / EXPERIMENT).exists() else None
        return StoredRun(folder, plan, store, tuple(sessions(folder)), text)
    except BaseException:
        store.close()
        raise
