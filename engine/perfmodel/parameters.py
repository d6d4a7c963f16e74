"""How many weights a model has and where they sit: exact integers from its shape alone.

Convention of "active": weights that take part in the step of one token, without the input embedding (one row
is gathered, the table is not read) and with the output head. Publishers differ: DeepSeek-V3 has 36.6 billion
active parameters by this convention, 37.6 with the embedding, and its paper says 37.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from engine.spec.model import LatentAttention, LayerRun, LinearAttention, MixtureOfExperts, Model

__all__ = ["ACTIVE_CONVENTION", "LayerParameters", "ParameterCount", "count_parameters"]

ACTIVE_CONVENTION: Final = "active parameters: without the input embedding, with the output head"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Weights of one layer of one kind, in numbers of parameters; norms and routers stand apart because
    quantised checkpoints leave them alone."""

    layers: int
    """How many layers of this kind the model has."""
    attention_kind: Literal["full", "window", "linear"]
    feed_forward_kind: Literal["dense", "moe"]
    attention: int
    """Attention projections with their biases, sinks, convolutions and index weights."""
    feed_forward: int
    """The dense feed-forward block; 0 in a layer of experts."""
    expert: int
    """One routed expert; 0 in a dense layer."""
    experts: int
    """How many routed experts; 0 in a dense layer."""
    experts_per_token: int
    """Routed experts one token uses; 0 in a dense layer."""
    shared_experts: int
    """All shared experts and their gate."""
    router: int
    """The router with its bias or balance terms."""
    norm: int
    """All norms of the layer, those on queries, keys and latents included."""

    @property
    def routed_experts(self) -> int:
        """All routed experts."""
        return self.expert * self.experts

    @property
    def total(self) -> int:
        """The whole layer."""
        return self.always + self.routed_experts

    @property
    def active(self) -> int:
        """What one token uses."""
        return self.always + self.expert * self.experts_per_token

    @property
    def always(self) -> int:
        """What every token uses."""
        return self.attention + self.feed_forward + self.shared_experts + self.router + self.norm


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Numbers of parameters of a model."""

    total: int
    """All stored parameters; tied tables count once."""
    active: int
    """Used per token, by `ACTIVE_CONVENTION`."""
    embedding: int
    """The token embedding table."""
    positions: int
    """The learned position table; 0 without one."""
    embedding_projection: int
    """The two matrices between a narrower embedding and the hidden size; 0 as a rule."""
    lm_head: int
    """Stored for the output head; its bias only when the table is tied to the embedding."""
    tied: bool
    """The output head reuses the embedding table."""
    final_norm: int
    """Norms outside the layers: before the output head, and after the embedding where there is one."""
    layers: tuple[LayerParameters, ...]
    """One entry for each kind of layer, in order of first appearance."""

    @property
    def active_with_embedding(self) -> int:
        """Active parameters with the tables a token looks up, as some publishers count; a table that is
        tied to the output head is in `active` already."""
        return self.active + self.positions + (0 if self.tied else self.embedding)


def count_parameters(model: Model) -> ParameterCount:
    """Exact numbers of parameters of `model`, from its shape alone."""
    width = model.embedding_size or model.hidden_size
    embedding = model.vocab_size * width
    projection = 0 if width == model.hidden_size else 2 * model.hidden_size * width
    positions = model.learned_positions * model.hidden_size
    head_bias = model.vocab_size if model.lm_head_bias else 0
    lm_head = head_bias + (0 if model.tie_word_embeddings else embedding)
    final_norm = _norm(model, model.hidden_size) * (int(model.final_norm) + int(model.embedding_norm))
    layers = _layers(model)
    stored = sum(layer.layers * layer.total for layer in layers)
    used = sum(layer.layers * layer.active for layer in layers)
    return ParameterCount(
        total=embedding + positions + projection + stored + final_norm + lm_head,
        active=projection + used + final_norm + embedding + head_bias,  # the head's table is as large
        embedding=embedding,
        positions=positions,
        embedding_projection=projection,
        lm_head=lm_head,
        tied=model.tie_word_embeddings,
        final_norm=final_norm,
        layers=layers,
    )


def _layers(model: Model) -> tuple[LayerParameters, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], LayerRun] = {}
    for run in model.layer_runs:
        kind = (run.attention, run.feed_forward)
        counts[kind] += run.count
        first.setdefault(kind, run)
    return tuple(_layer(model, run, counts[kind]) for kind, run in first.items())


def _layer(model: Model, run: LayerRun, layers: int) -> LayerParameters:
    attention, norm = _attention(model, run)
    norm += model.norms_per_layer * _norm(model, model.hidden_size)
    moe = model.moe if run.feed_forward == "moe" else None
    dense = 0
    if moe is None:
        width = model.intermediate_size or 0
        dense = _feed_forward(model, width, bias=model.mlp_bias)
        norm += width if model.attention_sub_norm else 0
    return LayerParameters(
        layers=layers,
        attention_kind=run.attention,
        feed_forward_kind=run.feed_forward,
        attention=attention,
        feed_forward=dense,
        expert=_feed_forward(model, moe.intermediate_size, bias=moe.expert_bias) if moe else 0,
        experts=moe.num_experts if moe else 0,
        experts_per_token=moe.num_experts_per_tok if moe else 0,
        shared_experts=_shared_experts(model, moe) if moe else 0,
        router=_router(model, moe) if moe else 0,
        norm=norm,
    )


def _norm(model: Model, width: int) -> int:
    return 2 * width if model.norm == "layer" and model.norm_bias else width


def _feed_forward(model: Model, width: int, *, bias: bool) -> int:
    matrices = 3 if model.gated_ffn else 2
    biases = (matrices - 1) * width + model.hidden_size if bias else 0
    return matrices * model.hidden_size * width + biases


def _router(model: Model, moe: MixtureOfExperts) -> int:
    return moe.num_experts * (model.hidden_size + int(moe.router_bias))


def _shared_experts(model: Model, moe: MixtureOfExperts) -> int:
    width = moe.shared_intermediate_size or moe.intermediate_size
    gate = model.hidden_size if moe.shared_expert_gate else 0
    return moe.num_shared_experts * _feed_forward(model, width, bias=model.mlp_bias) + gate


def _attention(model: Model, run: LayerRun) -> tuple[int, int]:
    """Attention weights and the norms inside attention, of one layer."""
    if run.attention == "linear" and model.linear_attention is not None:
        return _linear_attention(model, model.linear_attention)
    if model.mla is not None:
        return _latent_attention(model, model.mla)
    return _grouped_attention(model)


def _grouped_attention(model: Model) -> tuple[int, int]:
    query = model.num_attention_heads * model.head_size
    keys = model.kv_heads * model.head_size
    read = query * (2 if model.attention_gate else 1) + 2 * keys
    weights = model.hidden_size * (read + query)
    if model.attention_bias != "none":
        weights += read
    if model.attention_bias == "all":
        weights += model.hidden_size
    if model.attention_sinks:
        weights += model.num_attention_heads
    norm = {"none": 0, "unit": 0, "head": 2 * model.head_size, "full": query + keys}[model.qk_norm]
    return weights, norm + (query if model.attention_sub_norm else 0)


def _latent_attention(model: Model, mla: LatentAttention) -> tuple[int, int]:
    heads, hidden = model.num_attention_heads, model.hidden_size
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    if mla.q_lora_rank is None:
        weights, norm = hidden * query, 0
    else:
        weights, norm = mla.q_lora_rank * (hidden + query), mla.q_lora_rank
    weights += hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    weights += mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    weights += heads * mla.v_head_dim * hidden
    norm += mla.kv_lora_rank
    if mla.index_heads:
        # DeepSeek V3.2: index queries from the compressed query, one index key and one weight per head
        # from the hidden state; the key has a layer norm with bias.
        source = mla.q_lora_rank or hidden
        weights += source * mla.index_heads * mla.index_head_dim
        weights += hidden * (mla.index_head_dim + mla.index_heads)
        norm += 2 * mla.index_head_dim
    return weights, norm


def _linear_attention(model: Model, linear: LinearAttention) -> tuple[int, int]:
    keys = linear.num_key_heads * linear.key_head_dim
    values = linear.num_value_heads * linear.value_head_dim
    # Query, key, value and output gate; the decay and the step size of each value head; the output.
    weights = model.hidden_size * (2 * keys + 2 * values + 2 * linear.num_value_heads + values)
    weights += (2 * keys + values) * linear.conv_kernel
    weights += 2 * linear.num_value_heads  # learned decay rate and step bias
    return weights, linear.value_head_dim
