"""A stored run as a comparison reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from engine.plan.document import resolved_experiment
from engine.results.compared import ComparedRun

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.results.store import ResultStore

WHOLE_SUMMARY: Final = 50_000
"""Points up to which every phase of a run is read; of larger ones only whole requests."""


def compared_run(
    name: str,
    plan: Plan,
    store: ResultStore,
    sessions: Sequence[Mapping[str, Any]],
    *,
    phases: Sequence[str] = (),
) -> ComparedRun:
    """The tables and facts of an open run; `phases` narrows what is read, all of them when empty."""
    if not phases and plan.size > WHOLE_SUMMARY:
        phases = ("request",)
    outcomes = store.outcomes(plan)
    states = [outcomes[t.fingerprint].state if t.fingerprint in outcomes else None for t in plan.tasks]
    return ComparedRun(
        name,
        store.read(plan, "points"),
        store.read(plan, "summary", phases=phases),
        store.read(plan, "requests"),
        store.read(plan, "observed"),
        resolved_experiment(plan),
        sessions,
        plan.fingerprint,
        sum(state not in ("done", "failed") for state in states),
        store.read(plan, "findings"),
    )
