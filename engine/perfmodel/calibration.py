"""From a bound to an estimate: the kernels of a deployment under the parameters of its device and engine.

The bound adds up operators whose time is linear in the workload, so it needs no operator one by one. Kernels
are not linear - they start late and fill waves - and are priced each on its own; there are about ten of them
in a dense model. Attention over a growing cache is priced at the middle of each run of steps: within 0.1 % of
the sum over steps, since time is close to linear in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values, scaled, shifted
from engine.perfmodel.bands import Estimate, Spent
from engine.perfmodel.forms import TILE, Amount, alone_s, filled_share, kernel_time_s, tile_share
from engine.perfmodel.kernels import Kernel, kernels_of
from engine.perfmodel.quantized import peak_flops_per_s
from engine.perfmodel.terms import Attended

if TYPE_CHECKING:
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.layers import Block
    from engine.perfmodel.parallel import Collective
    from engine.perfmodel.parameter_sets import Chosen, Law
    from engine.perfmodel.step import Run, Step
    from engine.spec.hardware import Precision
    from engine.spec.quantization import Quantization

_ONCE: Final = 1
Terms = tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Timed:
    """A kernel with its laws; the amounts are seconds at data-sheet rates per unit of each quantity."""

    kernel: Kernel
    count: int
    compute_s: Terms
    memory_s: Terms
    law: Law
    """In a decode step."""
    prefill: Law
    """In a prefill step; the same one for everything but attention."""

    @cached_property
    def attends(self) -> bool:
        """Whether its work depends on what a step attends to."""
        return any(symbol in ("Q", "K") for symbol, _ in (*self.compute_s, *self.memory_s))


@dataclass(frozen=True, eq=False)
class Timing:
    """Everything that prices the steps of a deployment with fitted parameters."""

    chosen: Chosen
    common: tuple[Timed, ...]
    variants: tuple[tuple[Timed, ...], ...]
    """Forms of latent attention to pick the faster from; empty without a choice."""
    collectives: tuple[tuple[Collective, Law | None, float], ...]
    """Each with its law and the latency beyond it, in seconds."""
    units: int | None
    """Multiprocessors of the device."""
    heads: int
    kv_heads: int
    """Of one device; the latent cache counts as one."""
    step_s: float
    """Time of a decode step outside its kernels."""
    host_s: float
    """Time of any step between its kernels."""
    prompt_s: float
    """Time of a step with a long prompt in the layers of experts, beyond their kernels."""

    notes: tuple[str, ...]
    """What a reader must know about the parameters."""

    @property
    def name(self) -> str:
        """Every parameter set in use, the one that comes first in front."""
        laws = [law for timed in (self.common, *self.variants) for t in timed for law in (t.law, t.prefill)]
        laws += [law for _, law, _ in self.collectives if law is not None]
        return " + ".join(dict.fromkeys([self.chosen.name, *(law.origin for law in laws)]))


def timing_of(
    deployment: Deployment, blocks: Sequence[Block], collectives: Sequence[Collective]
) -> Timing | None:
    """The timing of a deployment; None without parameters for it."""
    chosen = deployment.calibration
    if chosen is None:
        return None
    activation = deployment.quantization.activation / 8
    timed: list[Timed] = []
    for kernel, count in kernels_of(blocks, fused=chosen.fused, activation_bytes=activation).items():
        found = _timed(deployment, chosen, kernel, count)
        if found is None:
            return None
        timed.append(found)
    forms = sorted({t.kernel.variant for t in timed if t.kernel.variant})
    alternatives = forms if len(forms) > 1 else []
    split, model = deployment.parallelism, deployment.model
    far = split.devices_per_node
    step, host = chosen.request, chosen.host
    together = split.tensor * split.pipeline * split.expert > 1
    return Timing(
        chosen=chosen,
        common=tuple(t for t in timed if t.kernel.variant not in alternatives),
        variants=tuple(tuple(t for t in timed if t.kernel.variant == form) for form in alternatives),
        collectives=tuple(
            (c, chosen.collective(c.group), c.latency_s if c.group > far else 0.0) for c in collectives
        ),
        units=deployment.hardware.sm_count,
        heads=-(-model.num_attention_heads // split.tensor),
        kv_heads=1 if model.mla is not None else -(-model.kv_heads // split.tensor),
        notes=(*chosen.notes, *_packed_notes(deployment, timed)),
        step_s=0.0 if step is None else step.step + (step.collective_step if together else 0.0),
        host_s=0.0 if host is None else host.step + host.layer * model.num_hidden_layers,
        prompt_s=0.0 if step is None else step.expert_prompt * expert_layers(timed),
    )


def expert_layers(timed: Sequence[Timed]) -> int:
    """Layers with routed experts."""
    return sum(t.count for t in timed if t.kernel.family == "experts")


def prompt_overhead_s(a: Arithmetic, timing: Timing, tokens: Values) -> Values:
    """Time beyond its kernels of a step with prompts of so many tokens in all.

    Prompts are never all of the mean length: from half of the largest captured graph on, more and more steps
    outgrow it.
    """
    if not timing.prompt_s:
        return 0.0
    outgrown = a.minimum(a.maximum(tokens * (2 / _CAPTURED) - 1, 0.0), 1.0)
    return outgrown * timing.prompt_s


_CAPTURED: Final = 512
"""Tokens up to which vllm replays steps from captured graphs (`cudagraph_capture_sizes`, its default)."""


def _packed_notes(deployment: Deployment, timed: Sequence[Timed]) -> list[str]:
    products = {t.kernel.precision for t in timed if t.kernel.family in ("gemm", "experts")}
    if not any(is_packed(deployment.quantization, precision) for precision in products):
        return []
    return ["packed weights take the efficiencies of plain ones, with a wider band"]


def is_packed(quantization: Quantization, precision: Precision) -> bool:
    """Whether some weights are stored in fewer bits than their products compute in."""
    experts = quantization.weight_experts or quantization.weight_ffn
    stored = min(quantization.weight_attn, quantization.weight_ffn, experts)
    return stored < _BITS[precision]


_BITS: Final[Mapping[Precision, float]] = {
    "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4,
}  # fmt: skip


def _timed(deployment: Deployment, chosen: Chosen, kernel: Kernel, count: int) -> Timed | None:
    hardware = deployment.hardware
    peak = peak_flops_per_s(hardware, kernel.precision) or float("nan")
    if kernel.family == "attention":
        law = chosen.law("decode_attention", kernel.precision)
        prefill = chosen.law("prefill_attention", kernel.precision)
    else:
        packed = kernel.family != "elementwise" and is_packed(deployment.quantization, kernel.precision)
        law = prefill = chosen.law(kernel.family, kernel.precision, packed=packed)
    if law is None or prefill is None:
        return None
    compute = tuple((symbol, amount / peak) for symbol, amount in kernel.flops)
    memory = {symbol: amount / hardware.memory_bandwidth for symbol, amount in kernel.bytes}
    unseen = all(seconds < _UNSEEN * memory.get(symbol, 0.0) for symbol, seconds in compute)
    if unseen and law.form != "added":
        compute = ()
    return Timed(kernel, count, compute, tuple(memory.items()), law, prefill)


_UNSEEN: Final = 0.1
"""Share of the memory time below which arithmetic does not show: it adds 0.1^4 / 4."""


Steady = tuple[Estimate, ...]
"""One step of the kernels that do not attend: in common, and of each form of latent attention."""


def steady_of(a: Arithmetic, timing: Timing, step: Step, *, decoding: bool) -> Steady:
    """The part of a step's estimate that all runs of the step share."""
    step_s = timing.step_s if decoding else prompt_overhead_s(a, timing, step.busiest["T"])
    overhead = timing.host_s + step_s
    common, *forms = (
        _steady(a, timing, timed, step, decoding=decoding) for timed in (timing.common, *timing.variants)
    )
    return (Estimate(common.spent, overhead, 1), *forms)


def estimate_of(
    a: Arithmetic, timing: Timing, step: Step, run: Run, *, decoding: bool, steady: Steady | None = None
) -> Estimate:
    """Estimated kernel time of the mean step of a run on one device, collectives aside."""
    common, *forms = steady or steady_of(a, timing, step, decoding=decoding)

    def whole(part: Estimate, timed: Sequence[Timed]) -> Estimate:
        return part.plus(_attending(a, timing, timed, step, run, decoding=decoding))

    found = whole(common, timing.common)
    best: Estimate | None = None
    for part, timed in zip(forms, timing.variants, strict=True):
        other = whole(part, timed)
        best = other if best is None else _faster(a, best, other)
    return found if best is None else found.plus(best)


def _faster(a: Arithmetic, one: Estimate, other: Estimate) -> Estimate:
    second = other.time_s < one.time_s
    spent = {}
    for key in one.spent | other.spent:
        law = (one.spent.get(key) or other.spent[key]).law
        nothing = Spent(law, 0.0, 0.0)
        x, y = one.spent.get(key, nothing), other.spent.get(key, nothing)
        spent[key] = Spent(law, a.where(second, y.time_s, x.time_s), a.where(second, y.calls, x.calls))
    return Estimate(spent)


def _steady(a: Arithmetic, timing: Timing, timed: Sequence[Timed], step: Step, *, decoding: bool) -> Estimate:
    spent: dict[int, Spent] = {}
    basis = step.busiest
    tiles: dict[str, tuple[Values, Values]] = {}
    for each in timed:
        kernel, law = each.kernel, each.law if decoding else each.prefill
        rows = basis.get(kernel.rows, 1)
        # A step of which no token wants logits does not launch the head.
        if each.attends or (not hasattr(rows, "shape") and rows == 0):
            continue
        waves: Values | None = None
        filled: Values | None = None
        if kernel.family == "gemm" and timing.units is not None:
            if kernel.rows not in tiles:
                tiles[kernel.rows] = a.ceil(rows / TILE), a.maximum(rows / TILE, 1)
            waves = tiles[kernel.rows][0] * tile_share(kernel.columns, timing.units)
            filled = tiles[kernel.rows][1] * filled_share(kernel.columns, timing.units)
        single = kernel.family == "gemm" and law.parameters.single_row is not None and rows == 1
        compute, memory = _value(each.compute_s, basis), _value(each.memory_s, basis)
        amount = Amount(compute, memory, waves, kernel.depth, single=single, filled=filled)
        time = kernel_time_s(a, law.form, law.parameters, amount)
        _add(spent, Spent(law, time * each.count, each.count))
    return Estimate(spent)


def _attending(
    a: Arithmetic, timing: Timing, timed: Sequence[Timed], step: Step, run: Run, *, decoding: bool
) -> Estimate:
    spent: dict[int, Spent] = {}
    for each in timed:
        if each.attends:
            law = each.law if decoding else each.prefill
            _add(spent, Spent(law, *_attention(a, timing, each, law, step, run, decoding=decoding)))
    return Estimate(spent)


def _add(spent: dict[int, Spent], part: Spent) -> None:
    key = id(part.law)
    spent[key] = spent[key].plus(part) if key in spent else part


def _attention(
    a: Arithmetic, timing: Timing, timed: Timed, law: Law, step: Step, run: Run, *, decoding: bool
) -> tuple[Values, Values]:
    n, mask = step.sequences, timed.kernel.mask
    waves, filled = None, None
    if timed.kernel.family == "attention" and timing.units is not None:
        waves, filled = _items(a, timing, timing.units, step, decoding=decoding)
    lone = decoding and timing.heads == timing.kv_heads and law.parameters.alone_rate is not None
    riding = step.riding.get(mask)
    total: Values = 0
    calls: Values = 0
    for piece in run.attended[mask]:
        pairs, positions = _middle(a, piece)
        basis = {**step.busiest, "Q": n * pairs}
        basis["K"] = basis["Q"] if positions is pairs else n * positions
        if riding is not None:
            basis["Q"], basis["K"] = basis["Q"] + riding[0], basis["K"] + riding[1]
        memory = _value(timed.memory_s, basis)
        alone = alone_s(a, memory, waves) if lone and waves is not None else None
        amount = Amount(_value(timed.compute_s, basis), memory, waves, alone_s=alone, filled=filled)
        time = kernel_time_s(a, law.form, law.parameters, amount)
        count = scaled(_share(a, piece, run), timed.count)
        total, calls = shifted(scaled(time, count), total), calls + count
    return total, calls


def _items(a: Arithmetic, timing: Timing, units: int, step: Step, *, decoding: bool) -> tuple[Values, Values]:
    """Work items of attention over multiprocessors, key heads in decode and tiles of queries in prefill; and
    the same with the last tile as long as the queries reach."""
    n = step.sequences
    if decoding:
        heads = n * (timing.kv_heads / units)
        return heads, heads
    tiles, share = step.busiest["T"] / n / TILE, timing.heads / units
    return n * a.ceil(tiles) * share, n * a.maximum(tiles, 1) * share


def _middle(a: Arithmetic, piece: Attended) -> tuple[Values, Values]:
    """Pairs and positions halfway through a piece."""
    if piece.steps is _ONCE:
        return piece.pairs, piece.positions
    half = a.maximum((piece.steps - 1) / 2, 0)
    return piece.pairs + scaled(half, piece.pairs_step), piece.positions + scaled(half, piece.positions_step)


def _share(a: Arithmetic, piece: Attended, run: Run) -> Values:
    """Share of the steps of a run that lie in a piece."""
    if piece.repeat is _ONCE and piece.steps is run.steps:
        return 1
    return piece.steps * piece.repeat / a.maximum(run.steps, 1e-9)


def _value(terms: Terms, basis: Mapping[str, Values]) -> Values:
    if not terms:
        return 0.0
    (symbol, amount), *others = terms
    total = amount * basis[symbol]
    for symbol, amount in others:
        total = total + amount * basis[symbol]
    return total


def kernel_spent(timing: Timing, timed: Timed, step: Step, run: Run, *, decoding: bool) -> Spent | None:
    """All launches of one kernel in one step of one point; None where the step does not launch it."""
    steady = _steady(SCALAR, timing, (timed,), step, decoding=decoding).spent
    attending = _attending(SCALAR, timing, (timed,), step, run, decoding=decoding).spent
    return next(iter((*steady.values(), *attending.values())), None)


def collective_s(a: Arithmetic, item: Collective, law: Law, beyond: float, units: Values) -> Values:
    """Estimated time of one collective over so many units (tokens, logits...) of a step."""
    return kernel_time_s(a, law.form, law.parameters, Amount(0.0, units * item.s_per_unit)) + beyond


def communication_of(a: Arithmetic, timing: Timing, traffic: Mapping[str, Values]) -> Estimate:
    """Estimated time of the collectives of some steps; `traffic` are their number, tokens and logits."""
    steps = traffic["1"]
    spent: dict[int, Spent] = {}
    other: Values = 0.0
    for item, law, beyond in timing.collectives:
        each = traffic[item.symbol] if steps is _ONCE else traffic[item.symbol] / steps
        count = item.count * steps
        if law is None:
            other = other + count * (item.latency_s + each * item.s_per_unit)
            continue
        _add(spent, Spent(law, collective_s(a, item, law, beyond, each) * count, count))
    return Estimate(spent, other)
