"""The operator table of one point: every operator of every phase as a row a reader can check by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.layers import model_blocks
from engine.perfmodel.load import Drafting, Load, drafting, load_of_workload
from engine.perfmodel.operator_estimates import OperatorEstimate, StepEstimates, why_no_estimates
from engine.perfmodel.operators import Operator
from engine.perfmodel.parallel import Collective
from engine.perfmodel.predict import chosen_form, phase_step
from engine.perfmodel.program import ATTENDING, Plan, compiled
from engine.perfmodel.quantized import peak_flops_per_s
from engine.perfmodel.step import Step
from engine.spec.workload import Workload

OperatorPhase = Literal["prefill", "decode", "decode_last"]
BETWEEN_KERNELS: Final = "between kernels"
OPERATOR_PHASES: Final[tuple[OperatorPhase, ...]] = ("prefill", "decode", "decode_last")


@dataclass(frozen=True)
class OperatorRow:
    """One operator of one kind of layer in one step of a phase, on the busiest device.

    Amounts are those of a single occurrence; `count` says how often it occurs in a step. With fitted
    parameters the last row is what the engine does between kernels, where that was fitted, and the estimates
    of all rows, each times its count, add up to the estimate of the step.
    """

    phase: str
    layer_kind: str
    """`embedding`, `head`, `communication` or a kind of layer such as `full+dense`."""
    operator: str
    count: int
    flops: float
    parameters: int
    """Of the whole model, not of the device's share."""
    weight_bytes: float
    input_bytes: float
    output_bytes: float
    kv_read_bytes: float
    kv_write_bytes: float
    total_bytes: float
    """Device-memory traffic; for a collective the bytes handed to links."""
    intensity: float | None
    """FLOPs per byte; None when no bytes move."""
    bound: str | None
    """`compute`, `memory` or `communication`; None for what an engine does between kernels."""
    precision: str | None
    """Arithmetic in use; None for communication."""
    peak_flops_per_s: float | None
    bandwidth_bytes_per_s: float | None
    """Bandwidth of device memory, or what a collective reaches of its links."""
    attainable_flops_per_s: float | None
    """The roof over this operator: min(peak, intensity x bandwidth); None for communication."""
    share_of_peak: float | None
    """Attainable over peak."""
    time_s: float
    """Of one occurrence."""
    share_of_time: float
    """Share of the step's time, all occurrences."""
    fits_l2: bool | None
    """Everything the operator touches fits in the last-level cache; None when its size is unknown."""
    l2_attainable_flops_per_s: float | None
    """The roof if it does and was left there; None without a cache bandwidth, or where it does not fit."""
    formula: str
    """FLOPs and bytes with the values of their symbols."""
    estimate_s: float | None = None
    """Time of one occurrence with fitted parameters; None where there are none."""
    estimate_low_s: float | None = None
    """Lower end of its 90 % band."""
    estimate_high_s: float | None = None
    estimate_note: str = ""
    """Why there is no estimate, or which operators share its kernel."""


@dataclass(frozen=True)
class Ceiling:
    """One line of a roofline plot."""

    name: str
    kind: Literal["compute", "bandwidth"]
    value: float
    """FLOP/s or bytes/s."""


def ceilings(deployment: Deployment) -> list[Ceiling]:
    """Every roof of the device: peaks by precision, device memory, and the cache level where known."""
    hardware = deployment.hardware
    found = [Ceiling(name, "compute", rate) for name, rate in hardware.peak if isinstance(rate, int | float)]
    found.append(Ceiling("memory", "bandwidth", hardware.memory_bandwidth))
    if hardware.l2_bandwidth is not None:
        found.append(Ceiling("L2", "bandwidth", hardware.l2_bandwidth))
    return found


def operator_rows(
    deployment: Deployment, workload: Workload, *, phases: Sequence[OperatorPhase] = OPERATOR_PHASES
) -> list[OperatorRow]:
    """Rows of a step of each phase in order of execution.

    A prompt is one step here even where it is cut into chunks, and a step is one of a micro-batch through
    all pipeline stages. A draft model has rows of its own: ask for them with its deployment.
    Raises `PlanError` when the deployment is impossible.
    """
    plan = compiled(deployment)
    load = load_of_workload(workload)
    rows: list[OperatorRow] = []
    speculation = drafting(workload.speculation, None)
    for phase in phases:
        rows += _phase_rows(plan, load, phase, speculation)
    return rows


def _phase_rows(
    plan: Plan, load: Load, phase: OperatorPhase, speculation: Drafting | None
) -> list[OperatorRow]:
    step, run = phase_step(plan, load, phase, speculation)
    amounts = dict(step.busiest)
    for mask, (seen,) in run.attended.items():
        riding = step.riding.get(mask, (0, 0))
        for name, each, more in zip(ATTENDING[mask], (seen.pairs, seen.positions), riding, strict=True):
            amounts[name] = step.sequences * each + more
    form = chosen_form(plan, step, run)
    timing = plan.timing
    estimates = (
        None if timing is None else StepEstimates(plan, timing, step, run, decoding=phase != "prefill")
    )
    drafts: list[OperatorRow] = []
    for block in model_blocks(plan.share):
        made = [_row(plan, phase, block.name, block.count, one, amounts) for one in block.operators]
        if estimates is not None:
            known = estimates.block(block, [row.time_s for row in made])
            made = [_estimated(row, one) for row, one in zip(made, known, strict=True)]
        chosen = zip(made, block.operators, strict=True)
        drafts += [row for row, one in chosen if not one.variant or not form or one.variant == form]
    for item in plan.collectives:
        row = _collective_row(plan, phase, item, step)
        drafts.append(row if estimates is None else _estimated(row, estimates.collective(item)))
    whole = sum(row.time_s * row.count for row in drafts) or 1.0
    rows = [replace(row, share_of_time=row.time_s * row.count / whole) for row in drafts]
    if estimates is None:
        why = why_no_estimates(plan)
        return [replace(row, estimate_note=why) for row in rows]
    between = estimates.between_kernels_s
    return [*rows, _between_row(plan, phase, between)] if between else rows


def _estimated(row: OperatorRow, found: OperatorEstimate) -> OperatorRow:
    return replace(
        row,
        estimate_s=found.time_s,
        estimate_low_s=found.low_s,
        estimate_high_s=found.high_s,
        estimate_note=found.note,
    )


def _row(
    plan: Plan,
    phase: str,
    layer_kind: str,
    count: int,
    operator: Operator,
    amounts: Mapping[str, float],
) -> OperatorRow:
    hardware = plan.deployment.hardware
    pairs, positions = ATTENDING[operator.mask]
    seen: dict[str, float] = {**amounts, "Q": amounts[pairs], "K": amounts[positions]}

    def at(terms: Mapping[str, float]) -> float:
        return sum(amount * seen[symbol] for symbol, amount in terms.items())

    flops, moved = at(operator.flops), at(operator.total_bytes)
    peak = peak_flops_per_s(hardware, operator.precision) or float("nan")
    bandwidth = hardware.memory_bandwidth
    compute_s, memory_s = flops / peak, moved / bandwidth
    intensity = flops / moved if moved else None
    attainable = peak if intensity is None else min(peak, intensity * bandwidth)
    fits = None if hardware.l2 is None else moved <= hardware.l2
    cache_roof = None
    if fits and hardware.l2_bandwidth is not None and intensity is not None:
        cache_roof = min(peak, intensity * hardware.l2_bandwidth)
    return OperatorRow(
        phase=phase,
        layer_kind=layer_kind,
        operator=operator.name,
        count=count,
        flops=flops,
        parameters=operator.parameters,
        weight_bytes=at(operator.weight_bytes),
        input_bytes=at(operator.input_bytes),
        output_bytes=at(operator.output_bytes),
        kv_read_bytes=at(operator.kv_read_bytes),
        kv_write_bytes=at(operator.kv_write_bytes),
        total_bytes=moved,
        intensity=intensity,
        bound="compute" if compute_s >= memory_s else "memory",
        precision=operator.precision,
        peak_flops_per_s=peak,
        bandwidth_bytes_per_s=bandwidth,
        attainable_flops_per_s=attainable,
        share_of_peak=attainable / peak,
        time_s=max(compute_s, memory_s),
        share_of_time=0.0,
        fits_l2=fits,
        l2_attainable_flops_per_s=cache_roof,
        formula=_with_values(operator, seen),
    )


def _with_values(operator: Operator, seen: Mapping[str, float]) -> str:
    symbols = {s for terms in (operator.flops, operator.total_bytes) for s in terms if s != "1"}
    values = ", ".join(f"{s} = {_number(seen[s])}" for s in sorted(symbols))
    return f"{operator.formula}; {values}" if values else operator.formula


def _number(amount: float) -> str:
    return str(int(amount)) if float(amount).is_integer() else f"{amount:.6g}"


_NO_WORK: Final = OperatorRow(
    phase="",
    layer_kind="",
    operator="",
    count=1,
    flops=0.0,
    parameters=0,
    weight_bytes=0.0,
    input_bytes=0.0,
    output_bytes=0.0,
    kv_read_bytes=0.0,
    kv_write_bytes=0.0,
    total_bytes=0.0,
    intensity=None,
    bound=None,
    precision=None,
    peak_flops_per_s=None,
    bandwidth_bytes_per_s=None,
    attainable_flops_per_s=None,
    share_of_peak=None,
    time_s=0.0,
    share_of_time=0.0,
    fits_l2=None,
    l2_attainable_flops_per_s=None,
    formula="",
)
"""What a row holds that computes nothing and touches no memory."""


def _collective_row(plan: Plan, phase: str, item: Collective, step: Step) -> OperatorRow:
    units = step.busiest[item.symbol]
    moved = units * item.volume_bytes
    time = item.latency_s + units * item.s_per_unit
    formula = (
        f"{item.kind} of {_number(units * item.message_bytes)} B over {item.group} devices: "
        f"sends {_number(moved)} B; {item.latency_s * 1e6:.3g} µs latency; {item.link}"
    )
    return replace(
        _NO_WORK,
        phase=phase,
        layer_kind="communication",
        operator=item.name,
        count=item.count,
        total_bytes=moved,
        bound="communication",
        bandwidth_bytes_per_s=moved / time if time else None,
        time_s=time * (1 - plan.deployment.parallelism.overlap),
        formula=formula,
    )


def _between_row(plan: Plan, phase: str, time_s: float) -> OperatorRow:
    """What an engine does beside its kernels: no work of the model, so its bound is nothing."""
    name = "" if plan.timing is None else plan.timing.name
    return replace(
        _NO_WORK,
        phase=phase,
        layer_kind="engine",
        operator=BETWEEN_KERNELS,
        formula=f"fitted, {name}: time of a step outside its kernels",
        estimate_s=time_s,
        estimate_note="has no band of its own",
    )
