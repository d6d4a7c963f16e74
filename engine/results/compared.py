"""The data of a comparison: what is read of each run, and what is said about it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.results.differences import Difference
from engine.results.matching import FIELDS, Identity
from engine.results.significance import Contrast, Correction, Side

if TYPE_CHECKING:
    import pyarrow as pa

Verdict = Literal["improved", "regressed", "changed", "within noise", "unknown"]
VERDICTS: Final[tuple[Verdict, ...]] = ("regressed", "improved", "changed", "within noise", "unknown")
"""Worst news first. `changed` is for metrics of which neither more nor less is better."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """What a comparison reads of a run."""

    name: str
    points: pa.Table
    summary: pa.Table
    requests: pa.Table | None = None
    observed: pa.Table | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The experiment as resolved, as `engine.plan.document.resolved_experiment` gives it."""
    sessions: Sequence[Mapping[str, Any]] = ()
    """Every `engine run` that did something in its folder, oldest first."""
    fingerprint: str = ""
    """Of its plan."""
    unfinished: int = 0
    """Tasks of its plan without a result."""
    findings: pa.Table | None = None


@dataclass(frozen=True)
class CompareOptions:
    """How runs are compared."""

    metrics: tuple[str, ...] = ()
    """Columns of `summary`; all metrics that both runs have when empty."""
    phases: tuple[str, ...] = ()
    """Phases to compare; when empty `request`, or every phase where runs share no request rows."""
    sources: tuple[str, ...] = ()
    """Sources to compare: predicted, live...; all when empty."""
    match: tuple[str, ...] = FIELDS
    """Fields in which points must agree."""
    threshold: float = 0.0
    """Smallest relative change that counts."""
    correction: Correction = "bh"
    same: tuple[tuple[str, str], ...] = ()
    """Names of models, devices or formats that mean the same: (as one run has it, as another has it)."""
    noise: float | None = None
    """Relative standard deviation between runs of the same, added to what repeats of one run show; what was
    measured once is known by it alone."""


@dataclass(frozen=True)
class RunFacts:
    """A run as a comparison names it."""

    letter: str
    """A for the baseline, then B, C..."""
    name: str
    fingerprint: str
    points: int
    sources: tuple[str, ...]
    sessions: int
    started: str | None
    """When its first session began, in UTC; None when that is not known."""
    ended: str | None
    engine: str | None
    command: str | None
    seed: int | None
    unfinished: int = 0
    disturbed: tuple[str, ...] = ()
    """What its findings say of other work on the machine, stolen time and wandering clocks."""

    @property
    def title(self) -> str:
        """`B nightly-2`."""
        return f"{self.letter} {self.name}"


@dataclass(frozen=True)
class Change:
    """What became of one metric at one point."""

    metric: str
    """Column of `summary`: a metric, or one of its percentiles such as `ttft_s_p99`."""
    before: Side
    after: Side
    contrast: Contrast
    p_corrected: float | None
    """p-value corrected for all tests of the pair of runs; None where nothing is tested."""
    verdict: Verdict
    reason: str
    """Why this verdict, in one sentence."""

    @property
    def relative(self) -> float | None:
        """The difference over the size of the value before; None where that is 0."""
        return self._over(self.contrast.difference)

    @property
    def relative_low(self) -> float | None:
        """Lower end of the interval of the difference, over the size of the value before."""
        return self._over(self.contrast.low)

    @property
    def relative_high(self) -> float | None:
        """Upper end of the same."""
        return self._over(self.contrast.high)

    def _over(self, value: float | None) -> float | None:
        return None if value is None or self.before.value == 0 else value / abs(self.before.value)


@dataclass(frozen=True)
class ComparedPoint:
    """One point that both runs have, with what became of it."""

    identity: Identity
    """The point as the baseline has it."""
    other: Identity
    """The point as the other run has it."""
    points: tuple[int, ...]
    """Its numbers in the baseline."""
    other_points: tuple[int, ...]
    assumed: tuple[str, ...]
    """Fields that only one run knows and in which they are taken to agree."""
    differing: tuple[str, ...]
    """Fields in which they differ, as the user allowed."""
    status: tuple[str, str]
    """Status in the baseline and in the other run."""
    status_verdict: Verdict
    """`regressed` where a point that was ok is no longer, `improved` the other way round."""
    status_reason: str
    bases: tuple[str, str]
    """What the values are in each run: bound, estimate, measured; empty where it is not told."""
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    """What a reader must know before trusting the verdicts."""


@dataclass(frozen=True)
class Unmatched:
    """A point that only one run has."""

    letter: str
    """The run that has it."""
    identity: Identity
    points: tuple[int, ...]
    reason: str
    names: tuple[tuple[str, str], ...] = ()
    """Names (its own, the other's) that alone keep it from the nearest point; empty where more does."""

    @property
    def same(self) -> str:
        """The options that would make it the same as that point, such as `--same llama_7b=llama-2-7b`."""
        return " ".join(f"--same {shlex.quote(f'{mine}={theirs}')}" for mine, theirs in self.names)


@dataclass(frozen=True)
class Against:
    """One run against the baseline."""

    run: RunFacts
    spec: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    points: tuple[ComparedPoint, ...]
    unmatched: tuple[Unmatched, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """Metrics at points by verdict."""
        found = Counter(change.verdict for point in self.points for change in point.changes)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def status_counts(self) -> dict[Verdict, int]:
        """Points whose status changed for the worse or the better."""
        found = Counter(point.status_verdict for point in self.points)
        return {verdict: found[verdict] for verdict in ("regressed", "improved")}

    @property
    def never_ok(self) -> int:
        """Points that are ok in neither run, of which nothing can be said."""
        return sum("ok" not in point.status for point in self.points)

    @property
    def tests(self) -> int:
        """Tests that the correction is for."""
        return sum(c.p_corrected is not None for point in self.points for c in point.changes)

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """Metrics and statuses by verdict; a status counts when it changed."""
        found = self.counts
        for verdict, count in self.status_counts.items():
            found[verdict] += count
        return found

    def has(self, verdict: Verdict) -> bool:
        """Whether any metric or status of any point got this verdict."""
        return bool(self.verdicts[verdict])


@dataclass(frozen=True)
class Comparison:
    """Runs against the first of them."""

    baseline: RunFacts
    against: tuple[Against, ...]
    options: CompareOptions

    def has(self, verdict: Verdict) -> bool:
        """Whether any run got this verdict anywhere."""
        return any(one.has(verdict) for one in self.against)
