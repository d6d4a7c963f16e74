"""What a run of a plan would meet: what is kept, what will not fit, what is impossible, how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.plan.diff import Fate, compare
from engine.spec.analytical import AnalyticalSettings
from engine.spec.energy import EnergySettings

if TYPE_CHECKING:
    from pathlib import Path

    from engine.perfmodel.deployment import Deployment
    from engine.plan.compile import Plan
    from engine.plan.point import Block
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
    refused: list[Because] = field(default_factory=list)
    to_run: int = 0
    """Points, each counted once a measurement."""
    estimate_s: float | None = None
    """Rough time; None when a measured kind gives no basis for one."""


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
        task.settings.expected_s(block.combination.model.num_hidden_layers)
        for task in metered
        if isinstance(task.settings, EnergySettings)
        for block, _, _ in task.spans
    )
    predicted = to_run - len(metered)
    unfit, refused = _obstacles(plan)
    return Outlook(
        points={fate: found.points(fate) for fate in FATES},
        tasks={fate: len(found.of(fate)) for fate in FATES},
        again=[Because(count, text) for text, count in reasons.most_common()],
        unfit=unfit,
        refused=refused,
        to_run=to_run,
        estimate_s=None if unknown else _START_S + predicted / _POINTS_PER_S + metered_s if to_run else 0.0,
    )


def _obstacles(plan: Plan) -> tuple[list[Unfit], list[Because]]:
    """Points that do not fit, and combinations that cannot be predicted at all, worst first."""
    from engine.perfmodel.deployment import Deployment, check_deployment

    settings = next((m for m in plan.experiment.measurements if isinstance(m, AnalyticalSettings)), None)
    unfit: list[Unfit] = []
    refused: dict[str, int] = {}
    for block in plan.blocks:
        c = block.combination
        deployment = Deployment(
            c.model,
            c.hardware,
            c.quantization,
            c.parallelism,
            settings or AnalyticalSettings(kind="analytical"),
        )
        errors = [issue for issue in check_deployment(deployment) if issue.severity == "error"]
        if errors:
            text = errors[0].message
            refused[text] = refused.get(text, 0) + block.grid.size
            continue
        short = _shortfall(deployment, block)
        if (short > 0).any():
            labels = c.labels
            where = f"{labels['model']} {labels['quantization']} on {labels['hardware']}"
            if c.parallelism.devices > 1:
                where += f" x {c.parallelism.devices}"
            unfit.append(Unfit(int((short > 0).sum()), where, float(short.max())))
    unfit.sort(key=lambda group: -group.points)
    return unfit, [Because(count, text) for text, count in refused.items()]


def _shortfall(deployment: Deployment, block: Block) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Bytes missing at each point of a block, negative where it fits; NaN when memory is unknown."""
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.summary import WorkloadArrays, free_memory

    c = block.combination
    # A draft model that speculation names lives on the same devices.
    draft = None
    if c.draft is not None:
        draft = Deployment(c.draft, c.hardware, c.quantization, c.parallelism, deployment.settings)
    counts = WorkloadArrays(**block.grid.columns())
    return -free_memory(deployment, counts, speculation=c.speculation, draft=draft)
