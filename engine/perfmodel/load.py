"""A workload as the kernels take it: numbers of one point or columns of many, and what they ask of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.perfmodel.arithmetic import Arithmetic, Values, shifted
from engine.perfmodel.memory import MemoryLoad, MemoryPlan
from engine.perfmodel.program import Plan
from engine.spec.workload import Speculation, Workload


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


def load_of(
    prompt: Values,
    output: Values,
    batch: Values,
    shared: Values,
    chunk: Values,
    riding: Values,
    *,
    chunked: bool,
    mixed: bool,
) -> Load:
    """A load from its columns, in the order of `WorkloadArrays`."""
    return Load(prompt, output, batch, shared, chunk, riding, chunked=chunked, mixed=mixed)


def load_of_workload(workload: Workload) -> Load:
    """The load of one workload."""
    chunk = workload.prefill_chunk_tokens or 0
    return load_of(
        workload.prompt_tokens,
        workload.output_tokens,
        workload.batch_size,
        workload.shared_prefix_tokens,
        chunk,
        workload.prefill_tokens_per_step,
        chunked=chunk > 0,
        mixed=workload.prefill_tokens_per_step > 0,
    )


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
