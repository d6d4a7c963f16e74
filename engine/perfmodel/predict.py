"""The phases of a request on a compiled deployment: one kernel for one point and for a block of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from engine.perfmodel.arithmetic import SCALAR, Arithmetic, Values, scaled, shifted
from engine.perfmodel.bands import Estimate
from engine.perfmodel.calibration import Steady, Timing, estimate_of, steady_of
from engine.perfmodel.forms import TILE
from engine.perfmodel.load import Drafting, Load, memory_load, memory_plan_of
from engine.perfmodel.memory import MemoryUse, memory_use
from engine.perfmodel.phase import Phase, band_of, joined, settled, with_estimate
from engine.perfmodel.phase_metrics import memory_metrics, phase_metrics, request_metrics
from engine.perfmodel.program import Plan, Program
from engine.perfmodel.step import Cost, Run, Settled, Step, price, settle, value
from engine.perfmodel.terms import Attended, Geometry, attended, attended_runs, stepwise_runs

PHASES: Final = ("prefill", "decode", "decode_last", "request")


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
    first = band_of(a, plan, prefill, decoding=False)
    # The steps of a generation differ little: all take the band of their mean.
    steady = band_of(a, plan, generation, decoding=True)
    prefill = settled(a, prefill, possible, first)
    decode, generation = (settled(a, phase, possible, steady) for phase in (decode, generation))
    both = joined(prefill, generation)
    # Its band is that of the first step, drawn out by a few percent.
    last = settled(a, last, possible, steady, shown=False)
    tokens = scaled(load.batch, 1 if speculation is None else speculation.tokens_per_step)
    empty, after = _empty_flops_of_prefill(a, plan, load), _empty_flops(a, plan, steps.step)
    whole = (empty, scaled(after, _steps(load, speculation)))
    phases = {
        "prefill": phase_metrics(a, plan, prefill, output_tokens=None, empty_flops=empty),
        "decode": phase_metrics(a, plan, decode, output_tokens=tokens, empty_flops=after),
        "decode_last": phase_metrics(a, plan, last, output_tokens=tokens, empty_flops=after),
        "request": request_metrics(
            a, plan, load, prefill=prefill, generation=generation, both=both, empty_flops=whole
        ),
    }
    prompts = load.batch * load.prompt
    phases["prefill"]["prompt_tokens_per_s"] = prompts / prefill.time_s
    if "energy_j" in phases["prefill"]:
        phases["prefill"]["energy_per_prompt_token_j"] = phases["prefill"]["energy_j"] / prompts
    phases["request"].update(memory_metrics(a, plan, memory, asked, used))
    if plan.law is not None:
        step = _step_tokens(a, plan, load, speculation) * plan.expert_replicas
        phases["request"]["distinct_experts"] = plan.law.distinct(a, step)
    return phases, used


def _possible(a: Arithmetic, used: MemoryUse) -> Values | None:
    """1 where the point fits, NaN where it does not; None when every point fits."""
    if used.fits is True or (not a.scalar and not isinstance(used.fits, bool) and used.fits.all()):
        return None
    return a.where(used.fits, 1.0, math.nan)


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


def _empty_flops(a: Arithmetic, plan: Plan, step: Step) -> Values:
    """FLOPs over all devices on rows that no token fills: arithmetic units work on whole tiles of rows, and
    an expert with a single token has one. They take no time beside the weights, but energy."""
    if not plan.expert_row_flops:
        return 0
    split = plan.deployment.parallelism
    rows = a.maximum(step.mean["H"] * TILE - step.mean["R"], 0)
    return rows * (plan.expert_row_flops * split.tensor * split.data * split.micro_batches)


def _empty_flops_of_prefill(a: Arithmetic, plan: Plan, load: Load) -> Values:
    """The same of a prefill, whole or in chunks, which count as equally long."""
    if not plan.expert_row_flops:
        return 0
    n, prompt = _sequences(a, plan, load), shifted(load.prompt, -load.shared)
    pieces: Values = 1
    if load.chunked:
        pieces = a.ceil(prompt / a.where(load.chunk > 0, a.minimum(a.maximum(load.chunk, 1), prompt), prompt))
    tokens = n * prompt / pieces
    return scaled(_empty_flops(a, plan, _step(a, plan, sequences=n, tokens=tokens, logits=n)), pieces)


def _through_stages(
    a: Arithmetic,
    plan: Plan,
    price_of: Callable[[Program], Cost],
    traffic: Mapping[str, Values],
    *,
    single: bool,
    estimate: Callable[[], Estimate],
    steps: Values = 1,
) -> Phase:
    """A phase over all devices: micro-batches pass the stages one behind the other.

    `traffic` holds the steps, tokens and logits of a micro-batch. Where the phase is a run of like `steps`,
    both it and `estimate` are of one of them.
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
        talk_s = scaled(value(plan.communication_s, traffic) * visible, steps)
        talk_bytes = scaled(value(plan.communication_bytes, traffic) * (pieces / split.pipeline), steps)
        time = time + talk_s
    devices = split.tensor * split.data * pieces
    phase = Phase(time, talk_s, talk_bytes, whole.flops, whole.bytes, whole.compute_s, steps=steps)
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
        estimate=lambda: (
            _estimate(a, plan, body, Run(full, runs)).times(full).plus(_estimate(a, plan, tail, Run(1, last)))
        ),
    )


def _steps(load: Load, speculation: Drafting | None) -> Values:
    """Decode steps of a request: as a float, so that a count of one is not taken for the constant of single
    steps."""
    return load.output - 1.0 if speculation is None else (load.output - 1) / speculation.tokens_per_step


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
        steps = _steps(self._load, self._speculation)

        def runs(geometry: Geometry, new: int) -> list[Attended]:
            return attended_runs(
                self._a, geometry, cached=self._load.prompt, new=new, stride=stride, steps=steps
            )

        return self._over(steps, runs)

    def _over(self, steps: Values, runs_of: Callable[[Geometry, int], list[Attended]]) -> Phase:
        a, plan = self._a, self._plan
        run = Run(steps, {mask: runs_of(g, self.new) for mask, g in plan.geometries.items()})
        phase = _through_stages(
            a,
            plan,
            lambda program: self._priced(program, run),
            {"1": 1, "T": self._tokens, "N": self._logits},
            single=self._single,
            estimate=lambda: self._estimate(run),
            steps=steps,
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

    def _steady_estimate(self, timing: Timing) -> Steady:
        """Kernels that see tokens only: worked out once for each batch that occurs."""
        a, n = self._a, self.step.sequences
        few = None if self.step.riding else a.distinct(n)
        if few is None:
            return steady_of(a, timing, self.step, decoding=True)
        batches, places = few
        tokens = batches * self.new
        step = _step(a, self._plan, sequences=batches, tokens=tokens, logits=tokens)
        return tuple(part.at(places) for part in steady_of(a, timing, step, decoding=True))

    def _estimate(self, run: Run) -> Estimate:
        timing = self._plan.timing
        if timing is None:
            return Estimate()
        if self._steady is None:
            self._steady = self._steady_estimate(timing)
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
