"""A deployment compiled once: operators merged into a few sums that a kernel evaluates for any workload.

The time of an operator is max(FLOPs / peak, bytes / bandwidth), and both sides are linear in the workload
quantities. So the time of a model is one linear sum (the memory side of everything, the compute side of
what can never be memory bound) plus, for the few operators that can be either, what compute needs beyond
memory where that is positive.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from engine.perfmodel.calibration import Timing, timing_of
from engine.perfmodel.deployment import Deployment, require_possible
from engine.perfmodel.layers import Block, model_blocks, stages
from engine.perfmodel.memory import MemoryPlan, memory_plan
from engine.perfmodel.moe import RoutingLaw, routing_law
from engine.perfmodel.operators import Operator, Share, share_of
from engine.perfmodel.parallel import Collective, collectives
from engine.perfmodel.quantized import component_precisions, peak_flops_per_s
from engine.perfmodel.terms import Geometry

Form: TypeAlias = tuple[tuple[str, float], ...]
"""A linear form: coefficient of each workload quantity, `"1"` being the number of steps."""

ATTENDING: Final[Mapping[str, tuple[str, str]]] = {
    "full": ("Q", "K"),
    "window": ("Qw", "Kw"),
    "sparse": ("Qs", "Ks"),
}
"""Names of the attended pairs and positions of each mask."""


@dataclass(frozen=True)
class Bundle:
    """Operators merged into sums."""

    flops: Form
    bytes: Form
    compute_s: Form
    """Busy time of the arithmetic units; left empty in programs with one peak."""
    base_s: Form
    """Time if every operator that can be memory bound is."""


@dataclass(frozen=True)
class Parts:
    """Operators by what their terms depend on."""

    steady: Bundle
    """Terms of tokens, logits and experts: the same wherever a step stands in its sequences."""
    attending: Bundle
    """Terms of pairs and positions."""
    attending_excess: Mapping[str, tuple[Form, ...]]
    """Compute time minus memory time of attention operators that can be bound by either, by mask."""


@dataclass(frozen=True, eq=False)
class Program:
    """All operators of a step; an excess counts where it is positive."""

    common: Parts
    steady_excess: tuple[Form, ...]
    """Compute time minus memory time of other operators that can be bound by either."""
    forms: Mapping[str, Parts]
    """Forms of latent attention to pick the fastest from; empty without a choice."""
    symbols: frozenset[str]
    """Pairs and positions that some sum uses."""
    one_peak: float | None
    """The peak in FLOP/s, where all operators share one."""


@dataclass(frozen=True)
class Plan:
    """Everything about a deployment that does not depend on the workload."""

    deployment: Deployment
    share: Share
    general: Program
    single: Program
    """For steps of one token per sequence and nothing else, where pairs equal positions."""
    stage_general: tuple[Program, ...]
    stage_single: tuple[Program, ...]
    """Distinct pipeline stages; empty unless micro-batches fill the pipeline."""
    headless: tuple[Program, ...]
    """The general program and its stages without the output head, for chunks that yield no token."""
    geometries: Mapping[str, Geometry]
    law: RoutingLaw | None
    expert_replicas: int
    """Data-parallel replicas whose tokens meet in one expert group."""
    collectives: tuple[Collective, ...]
    communication_bytes: Form
    communication_s: Form
    memory: MemoryPlan
    peak_flops_per_s: float
    """Dense peak of the arithmetic that does most of the work."""
    parameters: int
    expert_row_flops: float
    """FLOPs of the routed experts' matrices per row, on one device; 0 without experts."""
    timing: Timing | None = None
    """What prices the same steps with fitted parameters; None where there is only the bound."""


_CACHE: OrderedDict[tuple[int, ...], tuple[tuple[object, ...], Plan]] = OrderedDict()
_CACHE_SIZE: Final = 512


def compiled(deployment: Deployment) -> Plan:
    """The plan of a deployment, made once for the same settings objects."""
    parts = (
        deployment.model,
        deployment.hardware,
        deployment.quantization,
        deployment.parallelism,
        deployment.settings,
        deployment.calibration,
    )
    # Identity is enough: settings are frozen, and the cache keeps them alive.
    key = tuple(id(part) for part in parts)
    found = _CACHE.get(key)
    if found is not None:
        return found[1]
    plan = _compile(deployment)
    _CACHE[key] = (parts, plan)
    if len(_CACHE) > _CACHE_SIZE:
        _CACHE.popitem(last=False)
    return plan


def _compile(deployment: Deployment) -> Plan:
    require_possible(deployment)
    model, split, settings = deployment.model, deployment.parallelism, deployment.settings
    share = share_of(model, deployment.quantization, split, settings)
    blocks = model_blocks(share)
    law = None
    if model.moe is not None and any(run.feed_forward == "moe" for run in model.layer_runs):
        law = routing_law(model.moe, settings.routing, tile=settings.expert_tile, ranks=split.expert)
    stage_blocks = _stage_blocks(share, split.pipeline)
    filled = stage_blocks if split.micro_batches > 1 and split.pipeline > 1 else []
    found = tuple(collectives(deployment))
    return Plan(
        deployment=deployment,
        share=share,
        general=_program(deployment, blocks, law, single=False),
        single=_program(deployment, blocks, law, single=True),
        stage_general=tuple(_program(deployment, b, law, single=False) for b in filled),
        stage_single=tuple(_program(deployment, b, law, single=True) for b in filled),
        headless=tuple(
            _program(deployment, [b for b in part if b.name != "head"], law, single=False)
            for part in (blocks, *filled)
        ),
        geometries=geometries(deployment),
        law=law,
        expert_replicas=max(1, split.expert // split.tensor),
        collectives=found,
        communication_bytes=_summed({c.symbol: c.count * c.volume_bytes} for c in found),
        communication_s=_summed(
            {"1": c.count * c.latency_s, c.symbol: c.count * c.s_per_unit} for c in found
        ),
        memory=memory_plan(deployment, share, stage_blocks),
        peak_flops_per_s=main_peak(deployment),
        parameters=sum(block.count * sum(o.parameters for o in block.operators) for block in blocks),
        expert_row_flops=_expert_row_flops(blocks),
        timing=timing_of(deployment, blocks, found),
    )


def _expert_row_flops(blocks: Iterable[Block]) -> float:
    matrices = ((block.count, operator) for block in blocks for operator in block.operators)
    return sum(
        n * operator.flops.get("R", 0.0) for n, operator in matrices if operator.name in _EXPERT_MATRICES
    )


_EXPERT_MATRICES: Final = ("expert gate", "expert up", "expert down")


def main_peak(deployment: Deployment) -> float:
    """Dense peak, in FLOP/s, of the arithmetic of the feed-forward layers, which do most of the work."""
    precisions = component_precisions(deployment.model, deployment.quantization)
    precision = precisions.get("experts") or precisions["feed-forward layers"]
    return peak_flops_per_s(deployment.hardware, precision) or float("nan")


def geometries(deployment: Deployment) -> dict[str, Geometry]:
    """The mask of each kind of attention layer."""
    model, settings = deployment.model, deployment.settings
    flags = (settings.causal, settings.attention == "unfused")
    found = {"full": Geometry("full", 0, *flags)}
    if model.sliding_window is not None:
        found["window"] = Geometry(model.sliding_window.kind, model.sliding_window.tokens, *flags)
    if model.mla is not None and model.mla.index_topk:
        found["sparse"] = Geometry("sparse", model.mla.index_topk, *flags)
    return found


def _stage_blocks(share: Share, count: int) -> list[list[Block]]:
    """Blocks of each distinct pipeline stage."""
    if count == 1:
        return [model_blocks(share)]
    distinct: dict[tuple[object, ...], list[Block]] = {}
    for index, runs in enumerate(stages(share.model.layer_runs, count)):
        ends = "first" if index == 0 else "last" if index == count - 1 else "none"
        blocks = model_blocks(share, runs, ends=ends)
        distinct.setdefault(tuple((b.name, b.count) for b in blocks), blocks)
    return list(distinct.values())


def _program(
    deployment: Deployment, blocks: Iterable[Block], law: RoutingLaw | None, *, single: bool
) -> Program:
    renamed = _renamed(law, single=single)
    rows = [(block.count, operator) for block in blocks for operator in block.operators]
    variants = sorted({operator.variant for _, operator in rows if operator.variant})
    # With one form only there is nothing to choose.
    chosen = variants if len(variants) > 1 else []
    peaks = {_peak(deployment, operator) for _, operator in rows if operator.flops}
    one_peak = peaks.pop() if len(peaks) == 1 else None
    always = [row for row in rows if row[1].variant not in chosen]
    common, excess = _merged(deployment, always, renamed, timed=one_peak is None)
    forms: dict[str, Parts] = {}
    for variant in chosen:
        of_variant = [row for row in rows if row[1].variant == variant]
        forms[variant], _ = _merged(deployment, of_variant, renamed, timed=one_peak is None)
    sums = [parts.attending for parts in (common, *forms.values())]
    symbols = frozenset(
        name for b in sums for form in (b.flops, b.bytes, b.compute_s, b.base_s) for name, _ in form
    )
    return Program(common, excess, forms, symbols, one_peak)


def _peak(deployment: Deployment, operator: Operator) -> float:
    return peak_flops_per_s(deployment.hardware, operator.precision) or float("nan")


def _renamed(law: RoutingLaw | None, *, single: bool) -> dict[str, tuple[str, float]]:
    """Quantities that are multiples of others, so that more operators merge."""
    renamed: dict[str, tuple[str, float]] = {}
    if law is not None and law.ranks == 1 and law.tile is None:
        renamed["R"] = ("T", law.per_token)
    if single:
        # As many logit rows as sequences as tokens, and one query attends to exactly what it reads.
        renamed |= {"N": ("T", 1), "B": ("T", 1)}
        renamed |= {pairs: (positions, 1) for pairs, positions in ATTENDING.values()}
    return renamed


def _named(
    terms: Mapping[str, float], mask: str, renamed: Mapping[str, tuple[str, float]]
) -> dict[str, float]:
    """Terms with the pairs and positions of their mask, and equal quantities under one name."""
    pairs, positions = ATTENDING[mask]
    total: dict[str, float] = {}
    for symbol, amount in terms.items():
        name = {"Q": pairs, "K": positions}.get(symbol, symbol)
        name, factor = renamed.get(name, (name, 1))
        total[name] = total.get(name, 0) + amount * factor
    return total


def _merged(
    deployment: Deployment,
    rows: Iterable[tuple[int, Operator]],
    renamed: Mapping[str, tuple[str, float]],
    *,
    timed: bool,
) -> tuple[Parts, tuple[Form, ...]]:
    """Sums over operators, and the excesses of those that do not attend; `timed` keeps compute times."""
    bandwidth = deployment.hardware.memory_bandwidth
    flops: dict[str, float] = {}
    traffic: dict[str, float] = {}
    compute: dict[str, float] = {}
    base: dict[str, float] = {}
    excess: dict[tuple[str, Form], int] = {}
    for count, operator in rows:
        work = _named(operator.flops, operator.mask, renamed)
        moved = _named(operator.total_bytes, operator.mask, renamed)
        peak = _peak(deployment, operator)
        _accumulate(flops, work, count)
        _accumulate(traffic, moved, count)
        _accumulate(compute, work, count / peak if timed else 0.0)
        difference = {name: amount / peak for name, amount in work.items()}
        _accumulate(difference, moved, -1 / bandwidth)
        if all(amount >= 0 for amount in difference.values()):
            _accumulate(base, work, count / peak)
            continue
        _accumulate(base, moved, count / bandwidth)
        if any(amount > 0 for amount in difference.values()):
            group = (operator.mask if operator.bucket == "attention" else "", _form(difference))
            excess[group] = excess.get(group, 0) + count
    by_mask: dict[str, list[Form]] = {}
    for (mask, form), count in excess.items():
        by_mask.setdefault(mask, []).append(tuple((name, amount * count) for name, amount in form))
    steady = tuple(by_mask.pop("", []))
    sums = (flops, traffic, compute, base)
    parts = Parts(
        Bundle(*(_form(s, attending=False) for s in sums)),
        Bundle(*(_form(s, attending=True) for s in sums)),
        {mask: tuple(forms) for mask, forms in by_mask.items()},
    )
    return parts, steady


def _summed(parts: Iterable[Mapping[str, float]]) -> Form:
    total: dict[str, float] = {}
    for part in parts:
        _accumulate(total, part, 1)
    return _form(total)


def _accumulate(total: dict[str, float], part: Mapping[str, float], factor: float) -> None:
    for name, amount in part.items():
        total[name] = total.get(name, 0) + amount * factor


_ATTENDED: Final = frozenset(name for names in ATTENDING.values() for name in names)


def _form(terms: Mapping[str, float], *, attending: bool | None = None) -> Form:
    """Terms that are not zero, by name; only those that attend, or only the others."""
    kept = (
        (name, amount)
        for name, amount in terms.items()
        if amount and (attending is None or (name in _ATTENDED) == attending)
    )
    return tuple(sorted(kept))
