"""What a run of a plan would meet: what is kept, what will not fit, what is impossible, how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from engine.plan.diff import Fate, compare
from engine.spec.analytical import AnalyticalSettings
from engine.spec.energy import EnergySettings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.perfmodel.deployment import Deployment
    from engine.plan.compile import Plan
    from engine.plan.point import Block
    from engine.plan.resolve import Combination
    from engine.plan.stored import StoredTask

FATES: Final[tuple[Fate, ...]] = ("kept", "new", "again", "failed")
_PENDING: Final[tuple[Fate, ...]] = ("new", "again")

# Measured on two shared cores: start-up of a run and points per second to Parquet, phases and all.
_START_S: Final = 1.0
_POINTS_PER_S: Final = 150_000.0


@dataclass(frozen=True)
class Because:
    """Points that share a reason."""

    points: int
    text: str


@dataclass(frozen=True)
class Unfit:
    """Points of one combination that do not fit in memory."""

    points: int
    where: str
    short_bytes: float
    """Shortfall of the worst point on the fullest device."""


@dataclass(frozen=True)
class Outlook:
    """Counts of points and tasks by state, and what stands in the way."""

    points: Mapping[str, int]
    """kept, new, again, failed -> points."""
    tasks: Mapping[str, int]
    again: list[Because] = field(default_factory=list)
    unfit: list[Unfit] = field(default_factory=list)
    beyond: list[Because] = field(default_factory=list)
    """Points that fit, with more tokens than the model admits."""
    refused: list[Because] = field(default_factory=list)
    to_run: int = 0
    """Points, each counted once a measurement."""
    estimate_s: float | None = None
    """Rough time; None when a measured kind gives no basis for one."""

    @property
    def waiting(self) -> int:
        """Tasks to do, those included that read files and so have no points."""
        return self.tasks.get("new", 0) + self.tasks.get("again", 0)


def forecast(plan: Plan, stored: Mapping[str, StoredTask], *, spec_folder: Path | None = None) -> Outlook:
    """The outlook of a plan against what earlier runs left; with the folder of the spec, files that were
    read are compared too."""
    found = compare(plan, stored, spec_folder=spec_folder)
    reasons: Counter[str] = Counter()
    for verdict in found.verdicts:
        if verdict.fate == "again" and verdict.why:
            reasons[verdict.why] += verdict.task.size
    to_run = found.points("new") + found.points("again")
    pending = [verdict.task for fate in _PENDING for verdict in found.of(fate)]
    unknown = any(task.kind not in ("analytical", "energy") for task in pending)
    metered = [task for task in pending if task.kind == "energy"]
    metered_s = sum(
        task.settings.expected_s(
            block.combination.model.num_hidden_layers, heads=_parts_of_attention(block, task.settings)
        )
        for task in metered
        if isinstance(task.settings, EnergySettings)
        for block, _, _ in task.spans
    )
    predicted = to_run - len(metered)
    settings = next((m for m in plan.experiment.measurements if isinstance(m, AnalyticalSettings)), None)
    obstacles = _Obstacles(settings or AnalyticalSettings(kind="analytical"))
    for block in plan.blocks:
        obstacles.meet(block)
    return Outlook(
        points={fate: found.points(fate) for fate in FATES},
        tasks={fate: len(found.of(fate)) for fate in FATES},
        again=_reasons(reasons),
        unfit=sorted(obstacles.unfit, key=lambda group: -group.points),
        beyond=obstacles.beyond_context(),
        refused=_reasons(obstacles.refused),
        to_run=to_run,
        estimate_s=None if unknown else _START_S + predicted / _POINTS_PER_S + metered_s if to_run else 0.0,
    )


def _reasons(counts: Counter[str]) -> list[Because]:
    return [Because(count, text) for text, count in counts.most_common()]


@dataclass
class _Obstacles:
    """What stands in the way of some points, gathered block by block."""

    settings: AnalyticalSettings
    unfit: list[Unfit] = field(default_factory=list)
    beyond: Counter[tuple[str, float]] = field(default_factory=Counter)
    """Points by model and what it admits."""
    longest: dict[tuple[str, float], int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def meet(self, block: Block) -> None:
        """Count the points of a block that cannot be predicted, do not fit, or exceed the context."""
        from engine.perfmodel.deployment import Deployment, check_deployment
        from engine.perfmodel.point import context_limit

        c = block.combination
        deployment = Deployment(c.model, c.hardware, c.quantization, c.parallelism, self.settings)
        errors = [issue for issue in check_deployment(deployment) if issue.severity == "error"]
        if errors:
            self.refused[errors[0].message] += block.grid.size
            return
        limit = context_limit(c.model)
        unfit, worst, beyond, longest = 0, 0.0, 0, 0
        for _, columns in block.grid.pieces():
            short = _shortfall(deployment, c, columns)
            unfit += int((short > 0).sum())
            worst = max(worst, float(np.nanmax(short, initial=0.0)))
            tokens = columns["prompt_tokens"] + columns["output_tokens"]
            long = tokens[(tokens > limit) & ~(short > 0)]
            beyond += len(long)
            longest = max(longest, int(long.max(initial=0)))
        if unfit:
            self.unfit.append(Unfit(unfit, _where(c), worst))
        if beyond:
            model = c.labels["model"], limit
            self.beyond[model] += beyond
            self.longest[model] = max(longest, self.longest.get(model, 0))

    def beyond_context(self) -> list[Because]:
        """Points that fit, with more tokens than their model admits."""
        return [
            Because(count, f"up to {self.longest[name, limit]:,} tokens where {name} admits {limit:,.0f}")
            for (name, limit), count in self.beyond.most_common()
        ]


def _where(combination: Combination) -> str:
    labels = combination.labels
    devices = combination.parallelism.devices
    text = f"{labels['model']} {labels['quantization']} on {labels['hardware']}"
    return f"{text} x {devices}" if devices > 1 else text


def _shortfall(
    deployment: Deployment, combination: Combination, columns: Mapping[str, NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Bytes missing at each of some points, negative where it fits; NaN when memory is unknown."""
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.summary import WorkloadArrays, free_memory

    c = combination
    # A draft model that speculation names lives on the same devices.
    draft = None
    if c.draft is not None:
        draft = Deployment(c.draft, c.hardware, c.quantization, c.parallelism, deployment.settings)
    return -free_memory(deployment, WorkloadArrays(**columns), speculation=c.speculation, draft=draft)


def _parts_of_attention(block: Block, settings: EnergySettings) -> int:
    """Into how many parts attention is cut where heads are timed apart: see `EnergySettings.heads`."""
    model = block.combination.model
    if settings.target.attention == "eager":
        return model.num_attention_heads
    return model.num_key_value_heads or model.num_attention_heads
