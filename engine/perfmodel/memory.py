"""What one device must hold, whether it fits, and the largest batch and longest context that do.

Everything is linear in the batch and piecewise linear in the context, so the largest values are solved
for, not searched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.perfmodel.arithmetic import Arithmetic, Values, scaled, shifted
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.layers import Block
from engine.perfmodel.operators import Share, ceil_div


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the fullest device, as coefficients of the workload."""

    weights_bytes: float
    """Stored weights with group scales and zero points."""
    full_bytes_per_token: float
    """Cache of one token in layers that keep every token."""
    window_bytes_per_token: float
    """Cache of one token in layers that keep a window."""
    window: int
    state_bytes_per_sequence: float
    """Fixed state of linear attention."""
    activation_bytes_per_token: float
    """Live activations of one token of a step."""
    score_bytes_per_pair: float
    """Scores kept in memory for one query and one position; 0 unless attention is unfused."""
    logit_bytes: float
    """Logits of one sequence, in fp32."""
    reserve_bytes: float
    usable_bytes: float | None
    """Device memory that may be used; None when the sheet does not say."""
    block_tokens: int
    step_tokens: int
    replicas: int

    def with_draft(self, draft: MemoryPlan) -> MemoryPlan:
        """The same device holding a draft model too; the draft keeps its whole context."""
        return replace(
            self,
            weights_bytes=self.weights_bytes + draft.weights_bytes,
            full_bytes_per_token=self.full_bytes_per_token
            + draft.full_bytes_per_token
            + draft.window_bytes_per_token,
            state_bytes_per_sequence=self.state_bytes_per_sequence + draft.state_bytes_per_sequence,
        )


@dataclass(frozen=True)
class MemoryUse:
    """Bytes on the fullest device for a workload."""

    kv_cache: Values
    activations: Values
    needed: Values
    free: Values
    """Usable minus needed; negative is the shortfall. NaN when the memory of the device is unknown."""
    fits: Values


@dataclass(frozen=True)
class MemoryLoad:
    """What a workload asks a device to hold."""

    sequences: Values
    """Sequences on each replica."""
    context: Values
    """Longest prompt plus output."""
    shared: Values
    """Leading tokens that all sequences share; their cache is held once."""
    prefill_tokens: Values
    """Tokens per sequence of one prefill step."""
    decode_tokens: Values
    """Tokens per sequence of one decode step."""
    riding_tokens: Values
    """Prefill tokens that ride along with a decode step."""
    output: Values
    chunk_tokens: Values
    """Most prompt tokens of one sequence in a prefill step; infinite when prompts are not cut."""
    chunked: bool
    """Some prompts are cut."""


def memory_plan(deployment: Deployment, share: Share, stages: Sequence[Sequence[Block]]) -> MemoryPlan:
    """Coefficients from the operator rows of each pipeline stage; the fullest stage decides each of them."""
    model, settings, hardware = deployment.model, deployment.settings, deployment.hardware
    weights = full = windowed = state = 0.0
    for blocks in stages:
        weights = max(weights, _stored(blocks, stages))
        ideal = settings.kv_layout == "ideal"
        sums = [_cache(blocks, kind) for kind in ("full", "window", "linear")]
        full = max(full, sums[0][0] + (0 if ideal else sums[1][0]))
        windowed = max(windowed, sums[1][0] if ideal else 0.0)
        state = max(state, sums[2][1])
    marketed = hardware.usable_memory if hardware.usable_memory is not None else hardware.memory
    return MemoryPlan(
        weights_bytes=weights,
        full_bytes_per_token=full,
        window_bytes_per_token=windowed,
        window=model.sliding_window.tokens if model.sliding_window else 0,
        state_bytes_per_sequence=state,
        activation_bytes_per_token=_activation_width(share, deployment) * share.activation,
        score_bytes_per_pair=share.query_heads * share.activation if settings.attention == "unfused" else 0.0,
        logit_bytes=4.0 * ceil_div(model.vocab_size, share.tensor),
        reserve_bytes=settings.reserve,
        usable_bytes=None if marketed is None else marketed * settings.memory_utilization,
        block_tokens=settings.kv_block_tokens,
        step_tokens=settings.step_tokens,
        replicas=deployment.parallelism.data,
    )


def _stored(blocks: Sequence[Block], stages: Sequence[Sequence[Block]]) -> float:
    total = sum(block.count * sum(o.stored_bytes for o in block.operators) for block in blocks)
    names = {block.name for block in blocks}
    if "head" in names and "embedding" not in names:
        head = next(o for block in blocks for o in block.operators if o.name == "LM head")
        if not head.stored_bytes:
            # A tied table is needed on the last stage as well as on the first.
            total += next(
                o.stored_bytes
                for stage in stages
                for b in stage
                for o in b.operators
                if o.name == "embedding"
            )
    return total


def _cache(blocks: Sequence[Block], kind: str) -> tuple[float, float]:
    """Cached bytes per token and state bytes per sequence in layers of one kind of attention."""
    per_token = per_sequence = 0.0
    for block in blocks:
        if block.name.startswith(f"{kind}+"):
            for operator in block.operators:
                per_token += block.count * operator.kv_write_bytes.get("T", 0)
                per_sequence += block.count * operator.kv_write_bytes.get("B", 0)
    return per_token, per_sequence


def _activation_width(share: Share, deployment: Deployment) -> float:
    """Elements live per token: the residual stream, its normed copy, and the widest operator's tensors."""
    model, split = share.model, deployment.parallelism
    widths = [0.0]
    if model.mla is not None:
        query = model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim
        widths.append(share.query_heads * (2 * query + model.mla.v_head_dim))
    else:
        widths.append((share.query_heads + 2 * share.kv_heads) * model.head_size)
    branches = 2 if model.gated_ffn else 1
    kinds = {run.feed_forward for run in model.layer_runs}
    if "dense" in kinds and model.intermediate_size is not None:
        widths.append(branches * ceil_div(model.intermediate_size, share.tensor))
    if "moe" in kinds and model.moe is not None:
        rows = model.moe.num_experts_per_tok * max(1, split.expert // split.tensor) / split.expert
        inner = branches * ceil_div(model.moe.intermediate_size, share.expert_tensor)
        widths.append(rows * (inner + model.hidden_size))
    buffer = model.hidden_size if split.tensor * split.expert > 1 else 0
    return 2 * model.hidden_size + max(widths) + buffer


def memory_use(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> MemoryUse:
    """What the workload needs, and whether it fits."""
    cache = shifted(load.sequences * _cache_per_sequence(a, plan, load.context), -_saved(a, plan, load))
    activations = _activations(a, plan, load)
    needed = (plan.weights_bytes + plan.reserve_bytes) + cache + activations
    if plan.usable_bytes is None:
        return MemoryUse(cache, activations, needed, math.nan, True)
    free = plan.usable_bytes - needed
    return MemoryUse(cache, activations, needed, free, free >= 0)


def _blocks(a: Arithmetic, plan: MemoryPlan, tokens: Values) -> Values:
    if plan.block_tokens == 1:
        return tokens
    return a.ceil(tokens / plan.block_tokens) * plan.block_tokens


def _cache_per_sequence(a: Arithmetic, plan: MemoryPlan, context: Values) -> Values:
    total = plan.full_bytes_per_token * _blocks(a, plan, context)
    if plan.state_bytes_per_sequence:
        total = total + plan.state_bytes_per_sequence
    if plan.window_bytes_per_token:
        kept = a.minimum(context, plan.window)
        total = total + plan.window_bytes_per_token * _blocks(a, plan, kept)
    return total


def _shared_bytes(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> Values:
    """Cache of the whole blocks that all sequences share."""
    if isinstance(load.shared, int) and load.shared == 0:
        return 0
    whole = a.floor(load.shared / plan.block_tokens) * plan.block_tokens
    return plan.full_bytes_per_token * whole


def _saved(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> Values:
    shared = _shared_bytes(a, plan, load)
    return scaled(shared, load.sequences - 1) if isinstance(shared, int) else (load.sequences - 1) * shared


def _per_token(plan: MemoryPlan, context: Values) -> Values:
    if not plan.score_bytes_per_pair:
        return plan.activation_bytes_per_token
    return plan.activation_bytes_per_token + plan.score_bytes_per_pair * context


def _activations(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> Values:
    width = _per_token(plan, load.context)
    prefill = a.minimum(load.sequences * load.prefill_tokens, plan.step_tokens)
    emitted = scaled(load.sequences, load.decode_tokens)
    return a.maximum(prefill, shifted(emitted, load.riding_tokens)) * width + emitted * plan.logit_bytes


def largest_batch(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> Values:
    """Most sequences, over all replicas, that fit at this length; NaN when memory is unknown."""
    if plan.usable_bytes is None:
        return math.nan
    shared = _shared_bytes(a, plan, load)
    width = _per_token(plan, load.context)
    room = shifted(plan.usable_bytes - plan.weights_bytes - plan.reserve_bytes, -shared)
    each = (
        shifted(_cache_per_sequence(a, plan, load.context), -shared) + load.decode_tokens * plan.logit_bytes
    )
    # Prefill activations grow with the batch up to a step's tokens: the smaller need decides.
    below = room / (each + load.prefill_tokens * width)
    capped = (room - plan.step_tokens * width) / each
    decode = (room - load.riding_tokens * width) / (each + load.decode_tokens * width)
    fitting = a.floor(a.minimum(a.maximum(below, capped), decode))
    return scaled(a.maximum(fitting, 0), plan.replicas)


def longest_context(a: Arithmetic, plan: MemoryPlan, load: MemoryLoad) -> Values:
    """Longest prompt plus output that fits at this batch, output and shared prefix as given.

    NaN when memory is unknown; infinite when every layer keeps a window and the window fits.
    """
    if plan.usable_bytes is None:
        return math.nan
    n, width = load.sequences, plan.activation_bytes_per_token
    logits = scaled(load.decode_tokens, plan.logit_bytes)
    known = plan.usable_bytes - plan.weights_bytes - plan.reserve_bytes
    room = shifted(known - n * (plan.state_bytes_per_sequence + logits), _saved(a, plan, load))
    cap = a.minimum(n * load.chunk_tokens, plan.step_tokens) if load.chunked else plan.step_tokens
    decode = shifted(scaled(n, load.decode_tokens), load.riding_tokens)
    score = plan.score_bytes_per_pair
    # A step's prompt tokens grow with the prompt up to a cap: the smaller need decides.
    capped = _context_for(a, plan, n, room=room - cap * width, per_token=scaled(cap, score) if score else 0)
    if not score:
        per_token = n * width
        more = room + shifted(load.output, load.shared) * per_token
        capped = a.maximum(capped, _context_for(a, plan, n, room=more, per_token=per_token))
    pairs = decode * score if score else 0
    return a.minimum(capped, _context_for(a, plan, n, room=room - decode * width, per_token=pairs))


def _context_for(
    a: Arithmetic, plan: MemoryPlan, sequences: Values, *, room: Values, per_token: Values
) -> Values:
    """Longest context whose cache, plus `per_token` bytes for each token, stays within `room`."""
    both = sequences * (plan.full_bytes_per_token + plan.window_bytes_per_token)
    growing = _solve(a, plan, room, both, per_token)
    if not plan.window_bytes_per_token:
        return growing
    # Beyond the window its layers stop growing; the smaller need decides again.
    kept = sequences * plan.window_bytes_per_token * _blocks(a, plan, plan.window)
    slope = sequences * plan.full_bytes_per_token
    return a.maximum(growing, _solve(a, plan, room - kept, slope, per_token))


def _solve(a: Arithmetic, plan: MemoryPlan, room: Values, cache: Values, per_token: Values) -> Values:
    """Largest c with cache * (c rounded up to blocks) + per_token * c <= room; infinite without growth."""
    b = plan.block_tokens
    if b == 1 and plan.full_bytes_per_token:
        return a.maximum(a.floor(room / shifted(cache, per_token)), 0)
    growth = a.maximum(b * (cache + per_token), 1e-200)
    blocks = a.maximum(a.floor(a.minimum((room + per_token * (b - 1)) / growth, 1e200)), 0)
    whole = blocks * b
    # The last block may be filled in part by what grows with every token.
    part = a.floor((room - whole * cache) / a.maximum(per_token, 1e-200))
    filled = a.maximum(a.minimum(whole, part), 0)
    return a.where(whole < 1e15, a.where(room >= 0, filled, 0), math.inf)
