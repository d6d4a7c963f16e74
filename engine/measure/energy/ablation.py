"""With and without: what leaving a component out saves, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.results.estimate import Estimate, difference, estimate

if TYPE_CHECKING:
    from engine.measure.energy.trace import Event

_SAME_LENGTH: float = 0.02
"""Runs whose lengths differ more than this did not do the same work per second."""


@dataclass(frozen=True)
class Ablation:
    """Baseline minus variant."""

    variant: str
    baseline: Estimate
    without: Estimate
    saved: Estimate
    """Joules with their interval."""
    relative: float
    """Saved over baseline."""
    significant: bool
    """The interval excludes 0 and the runs are of one length."""
    reason: str | None
    """Why the difference does not count, or what explains it."""


def compare(
    variant: str,
    baseline: Sequence[tuple[float, float]],
    without: Sequence[tuple[float, float]],
    *,
    period_s: float,
) -> Ablation:
    """Two sets of (joules, seconds) runs compared; durations are looked at before energies."""
    full = _estimate(baseline)
    less = _estimate(without)
    saved = difference(full, less)
    reasons = []
    if saved.low is None or saved.high is None:
        reasons.append("a single run has no interval")
    elif saved.low <= 0 <= saved.high:
        reasons.append(f"the interval {saved.low:.3g} to {saved.high:.3g} J holds 0")
    reasons += _uneven(baseline, without)
    longest = max(seconds for _, seconds in (*baseline, *without))
    if longest < 10 * period_s:
        reasons.append(f"below resolution: runs of {longest:.3g} s on a sensor of {period_s:.3g} s")
    return Ablation(
        variant, full, less, saved, saved.mean / full.mean if full.mean else 0.0, not reasons,
        "; ".join(reasons) or None,
    )  # fmt: skip


def _estimate(runs: Sequence[tuple[float, float]]) -> Estimate:
    found = estimate([joules for joules, _ in runs])
    return found if found is not None else Estimate(0.0, None, None, 0)


def _uneven(baseline: Sequence[tuple[float, float]], without: Sequence[tuple[float, float]]) -> list[str]:
    """Runs of another length within one set: the difference then shows time, not the component."""
    found = []
    for runs, other in ((baseline, without), (without, baseline)):
        lengths = sorted(seconds for _, seconds in runs)
        usual = lengths[len(lengths) // 2]
        odd = [i for i, (_, seconds) in enumerate(runs) if abs(seconds / usual - 1) > _SAME_LENGTH]
        if not odd or len(odd) == len(runs):
            continue
        kept = [joules for i, (joules, _) in enumerate(runs) if i not in odd]
        rest = sum(kept) / len(kept) - sum(joules for joules, _ in other) / len(other)
        found.append(
            f"{len(odd)} of {len(runs)} runs lasted another time than {usual:.3g} s; without them the "
            f"difference is {abs(rest):.2g} J"
        )
    return found


def ablations(events: Sequence[Event], *, period_s: float) -> list[Ablation]:
    """Each variant of a recording against its first one."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event.kind == "phase" and event.variant and event.energy_j is not None and not event.warmup:
            runs.setdefault(event.variant, []).append((event.energy_j, event.seconds))
    names = list(runs)
    return [compare(name, runs[names[0]], runs[name], period_s=period_s) for name in names[1:]]
