"""The phases of a request on a compiled deployment: one kernel for one point and for a block of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.perfmodel.arithmetic import Arithmetic, Values
from engine.perfmodel.memory import (
    MemoryLoad,
    MemoryPlan,
    MemoryUse,
    largest_batch,
    longest_context,
    memory_use,
)
from engine.perfmodel.program import Plan, Program
from engine.perfmodel.step import Attending, Basis, Cost, attention_cost, cost, value
from engine.perfmodel.terms import Attended, Geometry, attended, attended_runs, stepwise_runs
from engine.spec.workload import Speculation

PHASES: Final = ("prefill", "decode", "decode_last", "request")
BOUNDS: Final = ("compute", "memory", "communication")
"""What a phase is bound by: the resource that is busy longest; the number stored is the position here."""
_BILLED_TOKENS: Final = 1e6


@dataclass(frozen=True)
class Load:
    """A workload as numbers or arrays; see `Workload` for the meanings."""

    prompt: Values
    output: Values
    batch: Values
    shared: Values
    chunk: Values
    """Prompt tokens of a sequence per prefill step; 0 for the whole prompt."""
    riding: Values
    chunked: bool
    """Some point cuts its prompt."""
    mixed: bool
    """Some point carries prefill tokens along."""


@dataclass(frozen=True)
class Drafting:
    """Speculative decoding with what proposing costs."""

    tokens: int
    tokens_per_step: float
    """Expected tokens a step yields: (1 - a^(k+1)) / (1 - a); Leviathan et al. 2023, equation 1."""
    draft: Plan | None


@dataclass(frozen=True)
class _Phase:
    """A phase over all devices."""

    time_s: Values
    communication_s: Values
    communication_bytes: Values
    flops: Values
    bytes: Values
    compute_s: Values


def drafting(speculation: Speculation | None, draft: Plan | None) -> Drafting | None:
    """Expected tokens per step of a speculation, or None without one."""
    if speculation is None:
        return None
    k, chance = speculation.tokens, speculation.acceptance
    expected = k + 1.0 if chance == 1 else (1 - chance ** (k + 1)) / (1 - chance)
    return Drafting(k, expected, draft)


def predict(
    a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None = None
) -> tuple[dict[str, dict[str, Values]], MemoryUse]:
    """Every metric of every phase; times are NaN where the workload does not fit in memory."""
    memory = _memory_plan(plan, speculation)
    asked = _memory_load(a, plan, load, speculation)
    used = memory_use(a, memory, asked)
    prefill = _prefill(a, plan, load)
    decode = _decode(a, plan, load, speculation, cached=load.prompt)
    last = _decode(a, plan, load, speculation, cached=load.prompt + load.output - 1)
    generation = _generation(a, plan, load, speculation)
    if speculation is not None and speculation.draft is not None:
        prefill = _added(prefill, _prefill(a, speculation.draft, load))
    possible = _possible(a, used)
    prefill, decode, last, generation = (
        phase if possible is None else _Phase(phase.time_s * possible, *_rest(phase))
        for phase in (prefill, decode, last, generation)
    )
    tokens = load.batch * (1 if speculation is None else speculation.tokens_per_step)
    phases = {
        "prefill": _phase_metrics(a, plan, prefill, output_tokens=None),
        "decode": _phase_metrics(a, plan, decode, output_tokens=tokens),
        "decode_last": _phase_metrics(a, plan, last, output_tokens=tokens),
        "request": _request_metrics(a, plan, load, prefill, generation),
    }
    phases["prefill"]["prompt_tokens_per_s"] = load.batch * load.prompt / prefill.time_s
    phases["request"].update(_memory_metrics(a, plan, memory, asked, used))
    if plan.law is not None:
        step = _step_tokens(a, plan, load, speculation) * plan.expert_replicas
        phases["request"]["distinct_experts"] = plan.law.distinct(a, step)
    return phases, used


def _possible(a: Arithmetic, used: MemoryUse) -> Values | None:
    """1 where the point fits, NaN where it does not; None when every point fits."""
    if used.fits is True or (not a.scalar and not isinstance(used.fits, bool) and used.fits.all()):
        return None
    return a.where(used.fits, 1.0, math.nan)


def _rest(phase: _Phase) -> tuple[Values, Values, Values, Values, Values]:
    return phase.communication_s, phase.communication_bytes, phase.flops, phase.bytes, phase.compute_s


def _added(one: _Phase, other: _Phase) -> _Phase:
    return _Phase(
        one.time_s + other.time_s,
        one.communication_s + other.communication_s,
        one.communication_bytes + other.communication_bytes,
        one.flops + other.flops,
        one.bytes + other.bytes,
        one.compute_s + other.compute_s,
    )


# Steps


def _sequences(a: Arithmetic, plan: Plan, load: Load) -> Values:
    """Sequences of a micro-batch on the fullest replica."""
    split = plan.deployment.parallelism
    pieces = split.data * split.micro_batches
    return load.batch if pieces == 1 else a.ceil(load.batch / pieces)


def _step_tokens(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> Values:
    per_sequence = 1 if speculation is None else speculation.tokens + 1
    return _sequences(a, plan, load) * per_sequence + load.riding / plan.deployment.parallelism.micro_batches


def _basis(a: Arithmetic, plan: Plan, *, sequences: Values, tokens: Values, logits: Values) -> Basis:
    busiest = {"T": tokens, "N": logits, "B": sequences}
    if plan.law is None:
        return Basis(busiest, busiest)
    load = plan.law.load(a, tokens * plan.expert_replicas)
    mean = {**busiest, "H": load.distinct, "R": load.rows}
    if plan.law.ranks == 1:
        return Basis(mean, mean)
    ranks = plan.law.ranks
    mean = {**busiest, "H": load.distinct / ranks, "R": load.rows / ranks}
    return Basis({**busiest, "H": load.device_distinct, "R": load.device_rows}, mean)


def _steady(a: Arithmetic, program: Program, basis: Basis) -> Cost:
    """What a step costs wherever its tokens stand in their sequences."""
    return cost(a, program.body, basis) + cost(a, program.head, basis)


def _through_stages(
    a: Arithmetic,
    plan: Plan,
    price: Callable[[Program], Cost],
    *,
    single: bool,
    steps: Values,
    traffic: Values,
) -> _Phase:
    """A phase over all devices: micro-batches pass the stages one behind the other.

    `traffic` is the communication basis summed over steps: tokens, logits and the number of steps.
    """
    split = plan.deployment.parallelism
    whole = price(plan.single if single else plan.general)
    time, pieces = whole.time_s, split.micro_batches
    for_stages = plan.stage_single if single else plan.stage_general
    if for_stages:
        slowest = price(for_stages[0]).time_s
        for program in for_stages[1:]:
            slowest = a.maximum(slowest, price(program).time_s)
        time = time + (pieces - 1) * slowest
    elif pieces > 1:
        time = time * pieces
    talk_s: Values = 0.0
    talk_bytes: Values = 0
    if plan.collectives:
        factor = 1 + (pieces - 1) / split.pipeline
        talk_s = value(plan.communication_s, traffic) + _constant(plan, steps)
        talk_s = talk_s * (factor * (1 - split.overlap))
        talk_bytes = value(plan.communication_bytes, traffic) * (pieces / split.pipeline)
    devices = split.tensor * split.data * pieces
    return _Phase(
        time + talk_s,
        talk_s,
        talk_bytes,
        whole.flops * devices,
        whole.bytes * devices,
        whole.compute_s * pieces,
    )


def _constant(plan: Plan, steps: Values) -> Values:
    """Latency of the collectives of all steps, less the one that the linear form holds already."""
    latency = sum(amount for symbol, amount in plan.communication_s if symbol == "1")
    return latency * (steps - 1)


def _prefill(a: Arithmetic, plan: Plan, load: Load) -> _Phase:
    """Prompts of all sequences, from behind the cached prefix, whole or in chunks."""
    n = _sequences(a, plan, load)
    prompt = load.prompt - load.shared
    every = plan.deployment.settings.lm_head == "all"
    if not load.chunked:
        tokens = n * prompt
        logits = tokens if every else n
        basis = _basis(a, plan, sequences=n, tokens=tokens, logits=logits)
        runs = {
            mask: [attended(a, geometry, cached=load.shared, new=prompt)]
            for mask, geometry in plan.geometries.items()
        }
        attending = Attending(n, tokens, {})

        def whole(program: Program) -> Cost:
            return _steady(a, program, basis) + attention_cost(a, program, attending, runs)[0]

        return _through_stages(a, plan, whole, single=False, steps=1, traffic={"T": tokens, "N": logits})
    return _chunked_prefill(a, plan, load, n, prompt, every=every)


def _chunked_prefill(
    a: Arithmetic, plan: Plan, load: Load, n: Values, prompt: Values, *, every: bool
) -> _Phase:
    size = a.where(load.chunk > 0, a.minimum(a.maximum(load.chunk, 1), prompt), prompt)
    full = a.floor(prompt / size)
    rest = prompt - full * size
    some = a.where(rest > 0, 1, 0)
    body = _basis(a, plan, sequences=n, tokens=n * size, logits=n * size)
    # A remainder of nothing is priced as one token and counted zero times.
    tail = _basis(a, plan, sequences=n, tokens=n * a.maximum(rest, 1), logits=n * a.maximum(rest, 1))
    once = _basis(a, plan, sequences=n, tokens=n, logits=n)
    runs: dict[str, list[Attended]] = {}
    tails: dict[str, list[Attended]] = {}
    for mask, geometry in plan.geometries.items():
        split_up = stepwise_runs if geometry.kind == "chunked" else attended_runs
        runs[mask] = split_up(a, geometry, cached=load.shared, new=size, stride=size, steps=full)
        left = attended(a, geometry, cached=load.shared + full * size, new=a.maximum(rest, 1))
        tails[mask] = [Attended(left.pairs, left.positions, repeat=some, steps=1.0)]

    def chunks(program: Program) -> Cost:
        total = cost(a, program.body, body).times(full) + cost(a, program.body, tail).times(some)
        if every:
            total = total + cost(a, program.head, body).times(full) + cost(a, program.head, tail).times(some)
        else:
            total = total + cost(a, program.head, once)
        total = total + attention_cost(a, program, Attending(n, n * size, {}), runs)[0]
        return total + attention_cost(a, program, Attending(n, n * a.maximum(rest, 1), {}), tails)[0]

    logits = n * prompt if every else n
    return _through_stages(
        a, plan, chunks, single=False, steps=full + some, traffic={"T": n * prompt, "N": logits}
    )


def _decode(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None, *, cached: Values) -> _Phase:
    """One decode step behind `cached` tokens."""

    def runs(geometry: Geometry, new: Values) -> list[Attended]:
        return [attended(a, geometry, cached=cached, new=new)]

    return _decode_steps(a, plan, load, speculation, runs, steps=1)


def _generation(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> _Phase:
    """All decode steps of a request, in closed form."""
    stride = 1 if speculation is None else speculation.tokens_per_step
    steps = (load.output - 1) / stride if speculation is not None else load.output - 1

    def runs(geometry: Geometry, new: Values) -> list[Attended]:
        return attended_runs(a, geometry, cached=load.prompt, new=new, stride=stride, steps=steps)

    return _decode_steps(a, plan, load, speculation, runs, steps=steps)


def _decode_steps(
    a: Arithmetic,
    plan: Plan,
    load: Load,
    speculation: Drafting | None,
    runs_of: Callable[[Geometry, Values], list[Attended]],
    *,
    steps: Values,
) -> _Phase:
    single = speculation is None and not load.mixed
    new = 1 if speculation is None else speculation.tokens + 1
    n = _sequences(a, plan, load)
    riding = load.riding / plan.deployment.parallelism.micro_batches
    tokens = n * new + riding
    # Of the riding prompts, those that end in this step emit a token.
    logits = n * new + riding / load.prompt
    basis = _basis(a, plan, sequences=n, tokens=tokens, logits=logits)
    runs = {mask: runs_of(geometry, new) for mask, geometry in plan.geometries.items()}
    extra = _riding_attention(a, plan, load, riding) if load.mixed else {}
    attending = Attending(n, tokens, extra)

    def price(program: Program) -> Cost:
        steady = _steady(a, program, basis)
        if not (isinstance(steps, int) and steps == 1):
            steady = steady.times(steps)
        return steady + attention_cost(a, program, attending, runs)[0]

    phase = _through_stages(
        a, plan, price, single=single, steps=steps, traffic={"T": tokens * steps, "N": logits * steps}
    )
    if speculation is None or speculation.draft is None:
        return phase
    # The draft proposes token after token from where the model stands.
    draft = _decode_steps(a, speculation.draft, load, None, runs_of, steps=steps)
    for _ in range(speculation.tokens):
        phase = _added(phase, draft)
    return phase


def _riding_attention(
    a: Arithmetic, plan: Plan, load: Load, riding: Values
) -> dict[str, tuple[Values, Values]]:
    """Pairs and positions of riding prefill tokens: those of a chunk halfway through a prompt."""
    found = {}
    for mask, geometry in plan.geometries.items():
        whole = attended(a, geometry, cached=0, new=load.prompt)
        positions = a.maximum((load.prompt + riding) / 2, riding)
        if geometry.kind != "full":
            positions = a.minimum(positions, geometry.window + riding)
        found[mask] = (whole.pairs * (riding / load.prompt), a.where(riding > 0, positions, 0))
    return found


# Metrics


def _phase_metrics(
    a: Arithmetic, plan: Plan, phase: _Phase, *, output_tokens: Values | None
) -> dict[str, Values]:
    hardware, devices = plan.deployment.hardware, plan.deployment.devices
    seconds = phase.time_s * devices
    moving = phase.bytes / (hardware.memory_bandwidth * _spread(plan))
    computes = phase.compute_s >= moving
    bound = a.where(computes, 0, 1)
    if plan.collectives:
        bound = a.where(phase.communication_s > a.maximum(phase.compute_s, moving), 2, bound)
    found = {
        "time_s": phase.time_s,
        "flops": phase.flops,
        "memory_traffic_bytes": phase.bytes,
        "intensity_flops_per_byte": phase.flops / phase.bytes,
        "communication_bytes": phase.communication_bytes,
        "communication_s": phase.communication_s,
        "mfu": phase.flops / (seconds * plan.peak_flops_per_s),
        "mbu": phase.bytes / (seconds * hardware.memory_bandwidth),
        "bound": bound,
    }
    if output_tokens is not None:
        found["output_tokens_per_s"] = output_tokens / phase.time_s
    found.update(_energy_metrics(a, plan, phase, output_tokens))
    return found


def _spread(plan: Plan) -> int:
    """Devices that work at the same time on the layers of one stage."""
    split = plan.deployment.parallelism
    return split.tensor * split.data


def _energy_metrics(
    a: Arithmetic, plan: Plan, phase: _Phase, output_tokens: Values | None
) -> dict[str, Values]:
    energy = energy_j(a, plan, phase.time_s, phase.flops, phase.bytes)
    if energy is None:
        return {}
    found = {"energy_j": energy, "average_power_w": energy / phase.time_s}
    if output_tokens is not None:
        found["energy_per_output_token_j"] = energy / output_tokens
    return found


def energy_j(a: Arithmetic, plan: Plan, time_s: Values, flops: Values, moved: Values) -> Values | None:
    """First-order energy over all devices, never above the boards' power; None without coefficients."""
    hardware, devices = plan.deployment.hardware, plan.deployment.devices
    if hardware.energy is None:
        return None
    c = hardware.energy
    energy = devices * c.static_power * time_s + c.per_byte * moved + c.per_flop * flops
    if hardware.power is None:
        return energy
    return a.minimum(energy, devices * hardware.power * time_s)


def _request_metrics(
    a: Arithmetic, plan: Plan, load: Load, prefill: _Phase, generation: _Phase
) -> dict[str, Values]:
    """A request from its arrival to its last token, without queueing."""
    devices = plan.deployment.devices
    both = _added(prefill, generation)
    more = load.output - 1
    # With a single token there is nothing between tokens.
    tpot = generation.time_s / a.where(more > 0, more, math.nan)
    rate = load.batch * load.output / both.time_s
    found = {
        "time_s": both.time_s,
        "flops": both.flops,
        "memory_traffic_bytes": both.bytes,
        "communication_bytes": both.communication_bytes,
        "communication_s": both.communication_s,
        "ttft_s": prefill.time_s,
        "tpot_s": tpot,
        "generation_s": generation.time_s,
        "e2e_s": both.time_s,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_device": rate if devices == 1 else rate / devices,
        "output_tokens_per_s_per_user": 1 / tpot,
        "total_tokens_per_s": load.batch * (load.prompt + load.output) / both.time_s,
        "prompt_tokens_per_s": load.batch * load.prompt / prefill.time_s,
        "requests_per_s": load.batch / both.time_s,
    }
    found.update(_energy_metrics(a, plan, both, load.batch * load.output))
    if "energy_j" in found:
        found["energy_per_request_j"] = found["energy_j"] / load.batch
    price = plan.deployment.hardware.price
    if price is not None:
        found["cost_per_million_output_tokens_usd"] = devices * price / 3600 / rate * _BILLED_TOKENS
    return found


# Memory


def _memory_plan(plan: Plan, speculation: Drafting | None) -> MemoryPlan:
    if speculation is None or speculation.draft is None:
        return plan.memory
    return plan.memory.with_draft(speculation.draft.memory)


def _memory_load(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> MemoryLoad:
    data = plan.deployment.parallelism.data
    prompt = load.prompt - load.shared
    chunk = prompt
    limit: Values = math.inf
    if load.chunked:
        limit = a.where(load.chunk > 0, load.chunk, math.inf)
        chunk = a.minimum(prompt, limit)
    return MemoryLoad(
        sequences=load.batch if data == 1 else a.ceil(load.batch / data),
        context=load.prompt + load.output,
        shared=load.shared,
        prefill_tokens=chunk,
        decode_tokens=1 if speculation is None else speculation.tokens + 1,
        riding_tokens=load.riding,
        output=load.output,
        chunk_tokens=limit,
    )


def _memory_metrics(
    a: Arithmetic, plan: Plan, memory: MemoryPlan, asked: MemoryLoad, used: MemoryUse
) -> dict[str, Values]:
    return {
        "parameters": plan.parameters,
        "weights_bytes": memory.weights_bytes,
        "kv_cache_bytes": used.kv_cache,
        "activations_bytes": used.activations,
        "reserve_bytes": memory.reserve_bytes,
        "memory_needed_bytes": used.needed,
        "memory_free_bytes": used.free,
        "max_batch_size": largest_batch(a, memory, asked),
        "max_context_tokens": longest_context(a, memory, asked),
    }


def form_names(plan: Plan) -> tuple[str, ...]:
    """Forms of latent attention a phase may choose from."""
    return plan.general.forms


def chosen_form(a: Arithmetic, plan: Plan, load: Load, *, phase: str) -> str:
    """The form of latent attention that is fastest in a phase of one point; empty without MLA."""
    names = plan.general.forms
    if len(names) == 1:
        return names[0]
    n = _sequences(a, plan, load)
    cached, new = phase_position(load, phase)
    runs: Mapping[str, list[Attended]] = {
        mask: [attended(a, g, cached=cached, new=new)] for mask, g in plan.geometries.items()
    }
    return names[attention_cost(a, plan.general, Attending(n, n * new, {}), runs)[1]]


def phase_position(load: Load, phase: str) -> tuple[Values, Values]:
    """Cached and new tokens of each sequence in a phase."""
    if phase == "prefill":
        return load.shared, load.prompt - load.shared
    return (load.prompt if phase == "decode" else load.prompt + load.output - 1), 1
