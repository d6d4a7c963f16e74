"""The phases of a request on a compiled deployment: one kernel for one point and for a block of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values, scaled, shifted
from engine.perfmodel.bands import Estimate
from engine.perfmodel.calibration import Steady, estimate_of, steady_of
from engine.perfmodel.memory import (
    MemoryLoad,
    MemoryPlan,
    MemoryUse,
    largest_batch,
    longest_context,
    memory_use,
)
from engine.perfmodel.phase import Phase, band_metrics, request_bands, settled, with_estimate
from engine.perfmodel.program import Plan, Program
from engine.perfmodel.step import Cost, Run, Settled, Step, price, settle, value
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
    memory = memory_plan_of(plan, speculation)
    asked = memory_load(a, plan, load, speculation)
    used = memory_use(a, memory, asked)
    prefill = _prefill(a, plan, load)
    steps = _Decoding(a, plan, load, speculation)
    decode, last = steps.at(load.prompt), steps.at(load.prompt + load.output - 1)
    generation = steps.generation()
    if speculation is not None and speculation.draft is not None:
        prefill = prefill.plus(_prefill(a, speculation.draft, load))
    possible = _possible(a, used)
    both = settled(a, plan, prefill.plus(generation), possible, decoding=False)
    prefill = settled(a, plan, prefill, possible, decoding=False)
    decode, last, generation = (
        settled(a, plan, phase, possible, decoding=True) for phase in (decode, last, generation)
    )
    tokens = scaled(load.batch, 1 if speculation is None else speculation.tokens_per_step)
    phases = {
        "prefill": _phase_metrics(a, plan, prefill, output_tokens=None),
        "decode": _phase_metrics(a, plan, decode, output_tokens=tokens),
        "decode_last": _phase_metrics(a, plan, last, output_tokens=tokens),
        "request": _request_metrics(a, plan, load, prefill=prefill, generation=generation, both=both),
    }
    prompts = load.batch * load.prompt
    phases["prefill"]["prompt_tokens_per_s"] = prompts / prefill.time_s
    if "energy_j" in phases["prefill"]:
        phases["prefill"]["energy_per_prompt_token_j"] = phases["prefill"]["energy_j"] / prompts
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


# Steps


def _sequences(a: Arithmetic, plan: Plan, load: Load) -> Values:
    """Sequences of a micro-batch on the fullest replica."""
    split = plan.deployment.parallelism
    pieces = split.data * split.micro_batches
    return load.batch if pieces == 1 else a.ceil(load.batch / pieces)


def _step_tokens(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> Values:
    per_sequence = 1 if speculation is None else speculation.tokens + 1
    return _sequences(a, plan, load) * per_sequence + load.riding / plan.deployment.parallelism.micro_batches


def _step(
    a: Arithmetic,
    plan: Plan,
    *,
    sequences: Values,
    tokens: Values,
    logits: Values,
    riding: Mapping[str, tuple[Values, Values]] | None = None,
) -> Step:
    busiest = {"1": 1, "T": tokens, "N": logits, "B": sequences}
    if plan.law is None:
        return Step(sequences, busiest, busiest, riding or {})
    load = plan.law.load(a, tokens * plan.expert_replicas)
    ranks = plan.law.ranks
    if ranks == 1:
        busiest |= {"H": load.distinct, "R": load.rows}
        return Step(sequences, busiest, busiest, riding or {})
    mean = {**busiest, "H": load.distinct / ranks, "R": load.rows / ranks}
    busiest |= {"H": load.device_distinct, "R": load.device_rows}
    return Step(sequences, busiest, mean, riding or {})


def _through_stages(
    a: Arithmetic,
    plan: Plan,
    price_of: Callable[[Program], Cost],
    traffic: Mapping[str, Values],
    *,
    single: bool,
    estimate: Callable[[], Estimate],
) -> Phase:
    """A phase over all devices: micro-batches pass the stages one behind the other.

    `traffic` holds the steps, tokens and logits of a micro-batch, added up over the phase.
    """
    split = plan.deployment.parallelism
    whole = price_of(plan.single if single else plan.general)
    time, pieces = whole.time_s, split.micro_batches
    for_stages = plan.stage_single if single else plan.stage_general
    if for_stages:
        slowest = price_of(for_stages[0]).time_s
        for program in for_stages[1:]:
            slowest = a.maximum(slowest, price_of(program).time_s)
        time = time + (pieces - 1) * slowest
    elif pieces > 1:
        time = time * pieces
    talk_s: Values = 0
    talk_bytes: Values = 0
    if plan.collectives:
        visible = (1 + (pieces - 1) / split.pipeline) * (1 - split.overlap)
        talk_s = value(plan.communication_s, traffic) * visible
        talk_bytes = value(plan.communication_bytes, traffic) * (pieces / split.pipeline)
        time = time + talk_s
    devices = split.tensor * split.data * pieces
    phase = Phase(time, talk_s, talk_bytes, whole.flops, whole.bytes, whole.compute_s)
    if devices != 1:
        phase = phase._replace(
            flops=whole.flops * devices, bytes=whole.bytes * devices, compute_s=whole.compute_s * pieces
        )
    return phase if plan.timing is None else with_estimate(a, plan, phase, estimate(), traffic)


def _prefill(a: Arithmetic, plan: Plan, load: Load) -> Phase:
    """Prompts of all sequences, from behind the cached prefix, whole or in chunks."""
    n = _sequences(a, plan, load)
    prompt = shifted(load.prompt, -load.shared)
    every = plan.deployment.settings.lm_head == "all"
    tokens = n * prompt
    logits = tokens if every else n
    if load.chunked:
        return _chunked_prefill(a, plan, load, n, prompt)
    step = _step(a, plan, sequences=n, tokens=tokens, logits=logits)
    run = Run(1, {m: [attended(a, g, cached=load.shared, new=prompt)] for m, g in plan.geometries.items()})
    return _through_stages(
        a,
        plan,
        lambda program: price(a, program, step, run)[0],
        {"1": 1, "T": tokens, "N": logits},
        single=False,
        estimate=lambda: _estimate(a, plan, step, run),
    )


def _estimate(a: Arithmetic, plan: Plan, step: Step, run: Run) -> Estimate:
    return Estimate() if plan.timing is None else estimate_of(a, plan.timing, step, run, decoding=False)


def _chunked_prefill(a: Arithmetic, plan: Plan, load: Load, n: Values, prompt: Values) -> Phase:
    """Whole chunks as one run and what remains as another; the output head runs where a token is wanted."""
    every = plan.deployment.settings.lm_head == "all"
    size = a.where(load.chunk > 0, a.minimum(a.maximum(load.chunk, 1), prompt), prompt)
    # The last piece, whole or not, is the one that yields the first token.
    full = a.ceil(prompt / size) - 1
    rest = prompt - full * size
    body = _step(a, plan, sequences=n, tokens=n * size, logits=n * size if every else 0)
    tail = _step(a, plan, sequences=n, tokens=n * rest, logits=n * rest if every else n)
    runs: dict[str, list[Attended]] = {}
    for mask, geometry in plan.geometries.items():
        cut = stepwise_runs if geometry.kind == "chunked" else attended_runs
        runs[mask] = cut(a, geometry, cached=load.shared, new=size, stride=size, steps=full)
    behind = load.shared + full * size
    last = {m: [attended(a, g, cached=behind, new=rest)] for m, g in plan.geometries.items()}

    def chunks(whole: Program, headless: Program) -> Cost:
        chosen = whole if every else headless
        return price(a, chosen, body, Run(full, runs))[0].plus(price(a, whole, tail, Run(1, last))[0])

    headless = dict(zip((plan.general, *plan.stage_general), plan.headless, strict=True))
    return _through_stages(
        a,
        plan,
        lambda program: chunks(program, headless[program]),
        {"1": full + 1, "T": n * prompt, "N": n * prompt if every else n},
        single=False,
        estimate=lambda: _estimate(a, plan, body, Run(full, runs)).plus(
            _estimate(a, plan, tail, Run(1, last))
        ),
    )


class _Decoding:
    """The decode step of a workload, priced at one position or over many."""

    def __init__(self, a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> None:
        self._a, self._plan, self._load = a, plan, load
        self._speculation = speculation
        self._single = speculation is None and not load.mixed
        self.new = 1 if speculation is None else speculation.tokens + 1
        n = _sequences(a, plan, load)
        tokens = logits = scaled(n, self.new)
        extra: Mapping[str, tuple[Values, Values]] = {}
        if load.mixed:
            riding = load.riding / plan.deployment.parallelism.micro_batches
            tokens = tokens + riding
            # Of the riding prompts, those that end in this step emit a token.
            logits = logits + riding / load.prompt
            extra = _riding_attention(a, plan, load, riding)
        self._tokens, self._logits = tokens, logits
        self.step = _step(a, plan, sequences=n, tokens=tokens, logits=logits, riding=extra)
        self._settled: dict[int, Settled] = {}
        self._steady: Steady | None = None
        draft = None if speculation is None else speculation.draft
        self._draft = None if draft is None else _Decoding(a, draft, load, None)

    def at(self, cached: Values) -> Phase:
        """One step behind `cached` tokens."""
        return self._over(1, lambda geometry, new: [attended(self._a, geometry, cached=cached, new=new)])

    def generation(self) -> Phase:
        """All decode steps of a request, in closed form."""
        stride = 1 if self._speculation is None else self._speculation.tokens_per_step
        more = self._load.output - 1
        steps = more if self._speculation is None else more / stride

        def runs(geometry: Geometry, new: int) -> list[Attended]:
            return attended_runs(
                self._a, geometry, cached=self._load.prompt, new=new, stride=stride, steps=steps
            )

        # As a float, so that a count of one is not taken for the constant of single steps.
        return self._over(steps * 1.0, runs)

    def _over(self, steps: Values, runs_of: Callable[[Geometry, int], list[Attended]]) -> Phase:
        a, plan = self._a, self._plan
        run = Run(steps, {mask: runs_of(g, self.new) for mask, g in plan.geometries.items()})
        traffic: Mapping[str, Values] = {}
        if plan.collectives:
            traffic = {"1": steps, "T": self._tokens * steps, "N": self._logits * steps}
        phase = _through_stages(
            a,
            plan,
            lambda program: self._priced(program, run),
            traffic,
            single=self._single,
            estimate=lambda: self._estimate(run),
        )
        if self._draft is None or self._speculation is None:
            return phase
        # The draft proposes token after token from where the model stands.
        draft = self._draft._over(steps, runs_of)
        return phase.plus(draft.times(self._speculation.tokens))

    def _priced(self, program: Program, run: Run) -> Cost:
        settled = self._settled.get(id(program))
        if settled is None:
            settled = self._settled[id(program)] = settle(self._a, program, self.step)
        return price(self._a, program, self.step, run, settled=settled)[0]

    def _estimate(self, run: Run) -> Estimate:
        timing = self._plan.timing
        if timing is None:
            return Estimate()
        if self._steady is None:
            self._steady = steady_of(self._a, timing, self.step, decoding=True)
        return estimate_of(self._a, timing, self.step, run, decoding=True, steady=self._steady)


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
    a: Arithmetic, plan: Plan, phase: Phase, *, output_tokens: Values | None
) -> dict[str, Values]:
    hardware, devices = plan.deployment.hardware, plan.deployment.devices
    work_rate, byte_rate = phase.flops / phase.time_s, phase.bytes / phase.time_s
    found = {
        "time_s": phase.time_s,
        "flops": phase.flops,
        "memory_traffic_bytes": phase.bytes,
        "intensity_flops_per_byte": phase.flops / phase.bytes,
        "communication_bytes": phase.communication_bytes,
        "communication_s": phase.communication_s,
        "mfu": work_rate * (1 / (devices * plan.peak_flops_per_s)),
        "mbu": byte_rate * (1 / (devices * hardware.memory_bandwidth)),
        "bound": _bound(a, plan, phase),
    }
    if output_tokens is not None:
        found["output_tokens_per_s"] = output_tokens / phase.time_s
    found.update(band_metrics(phase, output_tokens=output_tokens))
    found.update(_energy_metrics(a, plan, phase, output_tokens))
    return found


def _bound(a: Arithmetic, plan: Plan, phase: Phase) -> Values:
    """Position in `BOUNDS` of the resource that is busy longest."""
    split, bandwidth = plan.deployment.parallelism, plan.deployment.hardware.memory_bandwidth
    # Devices that work at the same time on the layers of one stage.
    together = split.tensor * split.data
    peak = plan.general.one_peak
    # In bytes: what memory could move while the arithmetic units are busy.
    computing = phase.compute_s * (together * bandwidth) if peak is None else phase.flops * (bandwidth / peak)
    bound = a.where(computing >= phase.bytes, 0, 1)
    if plan.collectives:
        talking = phase.communication_s * (together * bandwidth)
        bound = a.where(talking > a.maximum(computing, phase.bytes), 2, bound)
    return bound


def _energy_metrics(
    a: Arithmetic, plan: Plan, phase: Phase, output_tokens: Values | None
) -> dict[str, Values]:
    energy = energy_j(a, plan, phase.time_s, phase.flops, phase.bytes)
    if energy is None:
        return {}
    found = {"energy_j": energy, "average_power_w": energy / phase.time_s}
    if output_tokens is not None:
        found["energy_per_output_token_j"] = energy / output_tokens
        found["tokens_per_joule"] = output_tokens / energy
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
    a: Arithmetic, plan: Plan, load: Load, *, prefill: Phase, generation: Phase, both: Phase
) -> dict[str, Values]:
    """A request from its arrival to its last token, without queueing."""
    devices = plan.deployment.devices
    more = load.output - 1
    # With a single token there is nothing between tokens.
    more = a.where(more > 0, more, math.nan)
    tpot = generation.time_s / more
    tokens = load.batch * load.output
    rate = tokens / both.time_s
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
    found.update(request_bands(tokens, more, prefill=prefill, generation=generation, both=both))
    found.update(_energy_metrics(a, plan, both, tokens))
    if "energy_j" in found:
        found["energy_per_request_j"] = found["energy_j"] / load.batch
    price = plan.deployment.hardware.price
    if price is not None:
        found["cost_per_million_output_tokens_usd"] = devices * price / 3600 / rate * _BILLED_TOKENS
    return found


# Memory


def memory_plan_of(plan: Plan, speculation: Drafting | None) -> MemoryPlan:
    """The memory coefficients of a deployment, its draft model included."""
    if speculation is None or speculation.draft is None:
        return plan.memory
    return plan.memory.with_draft(speculation.draft.memory)


def memory_load(a: Arithmetic, plan: Plan, load: Load, speculation: Drafting | None) -> MemoryLoad:
    """What a workload asks the fullest device to hold."""
    data = plan.deployment.parallelism.data
    prompt = shifted(load.prompt, -load.shared)
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
        chunked=load.chunked,
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


def phase_step(plan: Plan, load: Load, phase: str, speculation: Drafting | None = None) -> tuple[Step, Run]:
    """One step of a phase of one point; a prompt that is cut into chunks is one step here."""
    if phase == "prefill":
        n, new, cached = _sequences(SCALAR, plan, load), load.prompt - load.shared, load.shared
        every = plan.deployment.settings.lm_head == "all"
        step = _step(SCALAR, plan, sequences=n, tokens=n * new, logits=n * new if every else n)
    else:
        decoding = _Decoding(SCALAR, plan, load, speculation)
        step, new = decoding.step, decoding.new
        cached = load.prompt if phase == "decode" else load.prompt + load.output - 1
    seen = {m: [attended(SCALAR, g, cached=cached, new=new)] for m, g in plan.geometries.items()}
    return step, Run(1, seen)


def chosen_form(plan: Plan, step: Step, run: Run) -> str:
    """The form of latent attention that is fastest in a step; empty where there is no choice."""
    forms = tuple(plan.general.forms)
    return forms[price(SCALAR, plan.general, step, run)[1]] if forms else ""
