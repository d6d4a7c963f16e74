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

from engine.perfmodel.deployment import Deployment, require_possible
from engine.perfmodel.layers import Block, model_blocks, stages
from engine.perfmodel.memory import MemoryPlan, memory_plan
from engine.perfmodel.moe import RoutingLaw, routing_law
from engine.perfmodel.operators import Operator, Share, Symbol, add_terms, scale_terms, share_of
from engine.perfmodel.parallel import Collective, collectives
from engine.perfmodel.quantized import component_precisions, peak_flops_per_s
from engine.perfmodel.terms import Geometry

Form: TypeAlias = tuple[tuple[Symbol, float], ...]
"""A linear form: coefficient of each workload quantity."""


@dataclass(frozen=True)
class Bundle:
    """Operators that are evaluated together, merged."""

    flops: Form = ()
    bytes: Form = ()
    compute_s: Form = ()
    """Busy time of the arithmetic units."""
    base_s: Form = ()
    """Time if every operator that can be memory bound is."""
    excess_s: tuple[Form, ...] = ()
    """Compute time minus memory time of operators that can be either; counts where positive."""


@dataclass(frozen=True)
class Program:
    """All operators of a step: what does not attend, the logits, and attention by mask and form."""

    body: Bundle
    head: Bundle
    attention: Mapping[str, Mapping[str, Bundle]]
    """Bundles by mask, then by form of latent attention (`""`: always)."""
    forms: tuple[str, ...]
    """Alternative forms of latent attention, to pick the fastest from; usually just `("",)`."""


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
        geometries=geometries(deployment),
        law=law,
        expert_replicas=max(1, split.expert // split.tensor),
        collectives=found,
        communication_bytes=_form(
            add_terms(*({c.symbol: c.count * c.volume_bytes} for c in found)),
        ),
        communication_s=_form(
            add_terms(*({"1": c.count * c.latency_s, c.symbol: c.count * c.s_per_unit} for c in found))
        ),
        memory=memory_plan(deployment, share, stage_blocks),
        peak_flops_per_s=main_peak(deployment),
        parameters=sum(block.count * sum(o.parameters for o in block.operators) for block in blocks),
    )


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
    parts: dict[tuple[str, str, str], list[tuple[int, Operator]]] = {}
    for block in blocks:
        for operator in block.operators:
            attends = operator.bucket == "attention"
            # A step of one token per sequence has as many logit rows as tokens: one bundle holds both.
            bucket: str = "body" if single and not attends else operator.bucket
            key = (bucket, operator.mask if attends else "", operator.variant)
            parts.setdefault(key, []).append((block.count, operator))
    renamed = _renamed(law, single=single)
    made = {key: _bundle(deployment, members, renamed) for key, members in parts.items()}
    attention: dict[str, dict[str, Bundle]] = {}
    for (bucket, mask, variant), bundle in made.items():
        if bucket == "attention":
            attention.setdefault(mask, {})[variant] = bundle
    forms = tuple(sorted({v for by_form in attention.values() for v in by_form if v})) or ("",)
    return Program(
        made.get(("body", "", ""), Bundle()), made.get(("head", "", ""), Bundle()), attention, forms
    )


def _renamed(law: RoutingLaw | None, *, single: bool) -> dict[Symbol, tuple[Symbol, float]]:
    """Quantities that are multiples of others, so that more operators merge."""
    renamed: dict[Symbol, tuple[Symbol, float]] = {}
    if law is not None and law.ranks == 1 and law.tile is None:
        renamed["R"] = ("T", law.per_token)
    if single:
        renamed["N"] = ("T", 1)
        renamed["B"] = ("T", 1)
        # One query attends to exactly what it reads, whatever the mask.
        renamed["Q"] = ("K", 1)
    return renamed


def _rename(
    terms: Mapping[Symbol, float], renamed: Mapping[Symbol, tuple[Symbol, float]]
) -> dict[Symbol, float]:
    return add_terms(
        *(
            {renamed[s][0]: amount * renamed[s][1]} if s in renamed else {s: amount}
            for s, amount in terms.items()
        )
    )


def _bundle(
    deployment: Deployment,
    members: Iterable[tuple[int, Operator]],
    renamed: Mapping[Symbol, tuple[Symbol, float]],
) -> Bundle:
    bandwidth = deployment.hardware.memory_bandwidth
    flops: dict[Symbol, float] = {}
    traffic: dict[Symbol, float] = {}
    compute: dict[Symbol, float] = {}
    base: dict[Symbol, float] = {}
    excess: dict[Form, float] = {}
    for count, operator in members:
        work = _rename(operator.flops, renamed)
        moved = _rename(operator.total_bytes, renamed)
        peak = peak_flops_per_s(deployment.hardware, operator.precision) or float("nan")
        flops = add_terms(flops, scale_terms(work, count))
        traffic = add_terms(traffic, scale_terms(moved, count))
        busy = {s: amount / peak for s, amount in work.items()}
        waits = {s: amount / bandwidth for s, amount in moved.items()}
        compute = add_terms(compute, scale_terms(busy, count))
        difference = add_terms(busy, scale_terms(waits, -1))
        if all(amount >= 0 for amount in difference.values()):
            base = add_terms(base, scale_terms(busy, count))
            continue
        base = add_terms(base, scale_terms(waits, count))
        if any(amount > 0 for amount in difference.values()):
            form = _form(difference)
            excess[form] = excess.get(form, 0) + count
    return Bundle(
        _form(flops),
        _form(traffic),
        _form(compute),
        _form(base),
        tuple(_form(scale_terms(dict(form), count)) for form, count in excess.items()),
    )


def _form(terms: Mapping[Symbol, float]) -> Form:
    return tuple(sorted((symbol, amount) for symbol, amount in terms.items() if amount))
