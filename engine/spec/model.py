"""What a model is, for everything that only needs its shape: costs, memory, random weights.

Field names follow `config.json` of Hugging Face models wherever that format has one, so that a model
card can be copied; what it spreads over flags is gathered in the sections `rope`, `sliding_window`,
`mla`, `linear_attention` and `moe`.
"""

from itertools import cycle
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from engine.spec.settings import Settings

MODEL_SUFFIXES: Final = frozenset({".json", ".yaml", ".yml"})
"""Endings of files that may describe a model: our own YAML, or a `config.json`."""

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
Parameters = Annotated[int, Field(ge=1, le=10**15)]


class Rope(Settings):
    """Rotary position embedding. Scaling changes the admissible context, not FLOPs or bytes."""

    theta: Annotated[float, Field(gt=0)] = 10000.0
    """Base of the rotation frequencies."""
    scaling: Literal["none", "linear", "dynamic", "yarn", "llama3", "longrope"] = "none"
    """How positions beyond the trained context are scaled."""
    factor: Annotated[float, Field(gt=0)] = 1.0
    """Scaling factor of the context."""
    original_max_position_embeddings: PositiveInt | None = None
    """Context the model was trained on before scaling."""
    rotary_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each head's dimensions that is rotated."""


class SlidingWindow(Settings):
    """Local attention: each token sees at most `tokens` positions, itself included."""

    tokens: PositiveInt
    """Window length in tokens."""
    kind: Literal["sliding", "chunked"] = "sliding"
    """`sliding` moves with the token; `chunked` cuts the context into blocks (Llama 4)."""


class LatentAttention(Settings):
    """Multi-head latent attention (DeepSeek V2/V3): one compressed vector per token is cached."""

    kv_lora_rank: PositiveInt
    """Width of the cached latent vector."""
    q_lora_rank: PositiveInt | None = None
    """Width of the compressed query; absent when queries are projected directly."""
    qk_nope_head_dim: PositiveInt
    """Query/key width per head without position."""
    qk_rope_head_dim: PositiveInt
    """Query/key width per head that carries the rotary position; the key part is shared by all heads."""
    v_head_dim: PositiveInt
    """Value width per head."""
    index_heads: NonNegativeInt = 0
    """Heads of the sparse-attention indexer (DeepSeek V3.2); 0 when there is none."""
    index_head_dim: NonNegativeInt = 0
    """Width of each indexer head."""
    index_topk: NonNegativeInt = 0
    """Positions the indexer keeps per query; 0 attends to all."""


class LinearAttention(Settings):
    """Gated delta-rule attention (Qwen3-Next): a fixed state per sequence instead of a growing cache."""

    num_key_heads: PositiveInt
    """Key (and query) heads."""
    num_value_heads: PositiveInt
    """Value heads."""
    key_head_dim: PositiveInt
    """Width of a key head."""
    value_head_dim: PositiveInt
    """Width of a value head."""
    conv_kernel: PositiveInt = 4
    """Length of the short causal convolution."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_value_heads % self.num_key_heads:
            raise ValueError(
                f"`num_value_heads` {self.num_value_heads} does not divide by "
                f"`num_key_heads` {self.num_key_heads}"
            )
        return self


class MixtureOfExperts(Settings):
    """Routed feed-forward experts."""

    num_experts: PositiveInt
    """Routed experts per layer."""
    num_experts_per_tok: PositiveInt
    """Routed experts each token uses (top-k)."""
    intermediate_size: PositiveInt
    """Width of one routed expert."""
    num_shared_experts: NonNegativeInt = 0
    """Experts that every token uses."""
    shared_intermediate_size: PositiveInt | None = None
    """Width of one shared expert; the routed width when absent."""
    shared_expert_gate: bool = False
    """A sigmoid gate scales the shared expert (Qwen2-MoE, Qwen3-Next)."""
    router_bias: bool = False
    """The router has one bias term per expert."""
    expert_bias: bool = False
    """Experts have bias terms (gpt-oss)."""

    @model_validator(mode="after")
    def _top_k_fits(self) -> Self:
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"`num_experts_per_tok` is {self.num_experts_per_tok}, "
                f"more than the {self.num_experts} experts"
            )
        return self


class LayerRun(Settings):
    """Consecutive layers of one kind."""

    count: PositiveInt
    """How many layers follow each other."""
    attention: Literal["full", "window", "linear"] = "full"
    """`window` uses the section `sliding_window`, `linear` the section `linear_attention`."""
    feed_forward: Literal["dense", "moe"] = "dense"
    """`moe` uses the section `moe`."""
    rope: bool = True
    """Rotary positions are applied here; false in the position-free layers of Llama 4 and Cohere 2."""


class Model(Settings):
    """The shape of a decoder-only language model."""

    name: Annotated[str, Field(min_length=1, max_length=120)] = "custom"
    """What reports call this model."""
    hidden_size: PositiveInt
    """Width of the residual stream."""
    num_hidden_layers: PositiveInt
    """Decoder layers."""
    num_attention_heads: PositiveInt
    """Query heads."""
    num_key_value_heads: PositiveInt | None = None
    """Key/value heads, fewer than `num_attention_heads` in grouped-query attention; as many when absent."""
    head_dim: PositiveInt | None = None
    """Width of a head; `hidden_size / num_attention_heads` when absent."""
    intermediate_size: PositiveInt | None = None
    """Width of the dense feed-forward layers; absent when every layer is a mixture of experts."""
    vocab_size: PositiveInt
    """Rows of the embedding table."""
    max_position_embeddings: PositiveInt | None = None
    """Longest context the model admits, in tokens."""
    hidden_act: Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"] = "silu"
    """Activation of the feed-forward layers."""
    gated_ffn: bool = True
    """Feed-forward layers have three matrices (gate, up, down) instead of two."""
    norm: Literal["rms", "layer"] = "rms"
    """Kind of normalisation; `layer` has a bias too unless `norm_bias` is false."""
    norm_bias: bool = True
    """Layer norms have a bias term; false for Cohere and MPT. RMS norms never have one."""
    norms_per_layer: Annotated[int, Field(ge=1, le=4)] = 2
    """Norms over the residual stream in each layer: 2 as a rule, 4 for Gemma 2/3, 1 for some parallel
    blocks."""
    final_norm: bool = True
    """A norm stands before the output head (not in OPT-350m)."""
    embedding_norm: bool = False
    """A norm stands right after the embedding (BLOOM)."""
    embedding_size: PositiveInt | None = None
    """Width of the embedding table where it differs from `hidden_size`; two projections bridge the
    difference (OPT-350m)."""
    tie_word_embeddings: bool = False
    """The output head reuses the embedding table: stored once, still read by the head."""
    attention_bias: Literal["none", "qkv", "all"] = "none"
    """Which attention projections have bias terms."""
    mlp_bias: bool = False
    """Dense feed-forward matrices have bias terms."""
    lm_head_bias: bool = False
    """The output head has a bias term."""
    qk_norm: Literal["none", "head", "full", "unit"] = "none"
    """Norm on queries and keys: one weight per head dimension (`head`), over all heads (`full`) or no
    weights at all (`unit`, Llama 4)."""
    attention_sinks: bool = False
    """One learned sink logit per head (gpt-oss)."""
    attention_gate: bool = False
    """The query projection also yields an output gate of the same width (Qwen3-Next)."""
    attention_sub_norm: bool = False
    """A norm stands before the attention output projection and before the down projection (BitNet)."""
    attention_logit_softcap: bool = False
    """Attention scores are squashed before the softmax (Gemma 2)."""
    parallel_block: bool = False
    """Attention and feed-forward read the same input and are added together (Falcon)."""
    position_embedding: Literal["rope", "learned", "alibi", "none"] = "rope"
    """How positions enter the model."""
    learned_positions: NonNegativeInt = 0
    """Rows of a learned position table."""
    rope: Rope = Rope()
    """Rotary embedding, when `position_embedding` is `rope`."""
    sliding_window: SlidingWindow | None = None
    """Local attention; used by every layer unless `layers` says otherwise."""
    mla: LatentAttention | None = None
    """Multi-head latent attention instead of grouped heads."""
    linear_attention: LinearAttention | None = None
    """Linear attention for the layers that `layers` names so."""
    moe: MixtureOfExperts | None = None
    """Mixture of experts; used by every layer unless `layers` says otherwise."""
    layers: Annotated[list[LayerRun], Field(min_length=1, max_length=1000)] | None = None
    """Runs of layers in order, for models that mix kinds; counts add up to `num_hidden_layers`."""
    repeat_layers: bool = False
    """`layers` is one period: it is repeated, and cut off where the model ends."""
    parameters: Parameters | None = None
    """Published number of parameters, to check the shape against."""
    parameters_basis: str | None = None
    """What the published number is: an exact checkpoint total, a rounded figure of a model card..."""
    parameters_tolerance: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Relative difference to the published number that its basis explains; 0 for exact totals."""
    active_parameters: Parameters | None = None
    """Published parameters used per token; publishers count differently, so it is never compared exactly."""
    architecture: str | None = None
    """`model_type` of the source config, for building random weights."""
    hub_id: str | None = None
    """Name on the Hugging Face hub."""
    aliases: Annotated[list[str], Field(max_length=50)] = []
    """Further names under which the catalogue finds this model, such as instruction-tuned variants."""
    source: str | None = None
    """Where the numbers come from."""
    notes: str | None = None
    """What a reader should know, for example what the text tower leaves out."""
    assumptions: list[str] = []
    """What was assumed where the source left something open; shown in every report."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.head_dim is None and self.mla is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` {self.hidden_size} does not divide by `num_attention_heads` "
                f"{self.num_attention_heads}; give `head_dim`"
            )
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(
                f"`num_attention_heads` {self.num_attention_heads} does not divide by "
                f"`num_key_value_heads` {self.kv_heads}"
            )
        return self

    @model_validator(mode="after")
    def _positions_given(self) -> Self:
        if (self.position_embedding == "learned") != (self.learned_positions > 0):
            raise ValueError(
                "`learned_positions` gives the rows of a learned position table; it belongs to "
                "`position_embedding: learned` and to nothing else"
            )
        return self

    @model_validator(mode="after")
    def _sections_match_layers(self) -> Self:
        runs = self.layer_runs
        total = sum(run.count for run in self.layers or runs)
        if total > self.num_hidden_layers or (total != self.num_hidden_layers and not self.repeat_layers):
            raise ValueError(f"`layers` adds up to {total}, `num_hidden_layers` is {self.num_hidden_layers}")
        used = {
            "sliding_window": any(run.attention == "window" for run in runs),
            "linear_attention": any(run.attention == "linear" for run in runs),
            "moe": any(run.feed_forward == "moe" for run in runs),
            "intermediate_size": any(run.feed_forward == "dense" for run in runs),
        }
        for field, needed in used.items():
            given = getattr(self, field) is not None
            if needed and not given:
                raise ValueError(f"`{field}` is missing, but some layers use it")
            # A dense width beside experts only is common in published configs and does no harm.
            if given and not needed and field != "intermediate_size":
                raise ValueError(f"`{field}` is given, but `layers` never uses it")
        return self

    @property
    def kv_heads(self) -> int:
        """Key/value heads, resolved."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of a query/key head, resolved; for latent attention the part with and without position."""
        if self.mla is not None:
            return self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def layer_runs(self) -> tuple[LayerRun, ...]:
        """Runs of equal layers in order; one run when the model does not mix kinds."""
        if not self.layers:
            return (
                LayerRun(
                    count=self.num_hidden_layers,
                    attention="window" if self.sliding_window else "full",
                    feed_forward="moe" if self.moe else "dense",
                ),
            )
        if not self.repeat_layers:
            return tuple(self.layers)
        runs: list[LayerRun] = []
        left = self.num_hidden_layers
        for run in cycle(self.layers):
            runs.append(run.model_copy(update={"count": min(run.count, left)}))
            left -= runs[-1].count
            if left == 0:
                return tuple(runs)
        return tuple(runs)
