"""What the classes of each model family fix in code, so that their `config.json` does not say it.

Read from the modelling code of transformers 5.23 (2026); a class default is never a model, only what a key
that is left out stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from engine.spec.hf_layers import AttentionLayout

__all__ = ["FAMILIES", "NESTED_DEFAULTS", "NOT_EXPRESSIBLE", "Family"]

Bias = Literal["none", "qkv", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Traits of one family; the defaults are those of Llama."""

    tie: bool = False
    """Embeddings are tied when the config does not say."""
    kv_heads: int | None = None
    """Key/value heads when the config does not say; None: as many as query heads."""
    head_dim: int | None = None
    """Head width when the config does not say; None: hidden size / heads."""
    act: str = "silu"
    """Activation when the config does not say."""
    gated: bool = True
    """Feed-forward layers have three matrices."""
    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool = True
    norms: int = 2
    """Norms over the residual stream in each layer."""
    bias: Bias = "none"
    """Attention biases that the class always has."""
    bias_keys: tuple[tuple[str, Bias, bool], ...] = (("attention_bias", "all", False),)
    """Keys that switch attention biases on: key, which ones, class default."""
    mlp_bias: bool = False
    """The class always has feed-forward biases."""
    mlp_bias_keys: tuple[tuple[str, bool], ...] = (("mlp_bias", False),)
    """Keys that switch feed-forward biases on, with the class default."""
    lm_head_bias: bool = False
    qk_norm: Literal["none", "head", "full", "unit"] = "none"
    """Kind of query/key norm the class has."""
    qk_norm_key: tuple[str, bool] | None = None
    """Key that switches the query/key norm on, with its class default; None: always on."""
    layout: AttentionLayout = "uniform"
    """How windows are spread over layers where `layer_types` does not say it."""
    period: int = 1
    """Every how many layers one is global, for the patterned layouts."""
    rotary_fraction: float = 1.0
    """Share of a head that is rotated when the config does not say."""
    nope_period: int | None = None
    """Every how many layers one goes without rotary positions."""
    parallel_block: bool = False
    attention_sinks: bool = False
    attention_gate: bool = False
    attention_sub_norm: bool = False
    moe: bool = False
    """Layers have routed experts."""
    shared_experts: int = 0
    """Shared experts when `n_shared_experts` is left out."""
    shared_gate: bool = False
    """A sigmoid gate scales the shared expert."""
    first_dense: int = 0
    """Leading dense layers when `first_k_dense_replace` is left out."""
    router_bias: bool = False
    expert_bias: bool = False


_LLAMA: Final = Family()
_QWEN2: Final = Family(bias="qkv", bias_keys=(), layout="late_window", mlp_bias_keys=())
_QWEN3: Final = Family(qk_norm="head", layout="late_window", head_dim=128, mlp_bias_keys=())
_QWEN3_NEXT: Final = Family(
    qk_norm="head", kv_heads=2, head_dim=256, layout="linear", period=4, rotary_fraction=0.25,
    attention_gate=True,
)  # fmt: skip
_GEMMA: Final = Family(tie=True, head_dim=256, act="gelu_tanh")
_DEEPSEEK_V3: Final = Family(
    moe=True, shared_experts=1, first_dense=3, router_bias=True, mlp_bias_keys=(), bias_keys=()
)
_GLM: Final = Family(
    kv_heads=2, head_dim=128, rotary_fraction=0.5, bias_keys=(("attention_bias", "qkv", True),)
)
_GPT: Final = Family(
    tie=True, act="gelu_tanh", gated=False, norm="layer", bias="all", mlp_bias=True, bias_keys=()
)
_ERNIE: Final = Family(
    tie=True, bias_keys=(("use_bias", "all", False),), mlp_bias_keys=(("use_bias", False),)
)

FAMILIES: Final[dict[str, Family]] = {
    "llama": _LLAMA,
    "mistral": Family(kv_heads=8),
    "ministral": Family(kv_heads=8),
    "ministral3": Family(kv_heads=8, head_dim=128),
    "mixtral": Family(kv_heads=8, moe=True),
    "phi3": _LLAMA,  # query, key and value, and gate and up, are fused: fewer matrices, same weights
    "granite": _LLAMA,
    "granitemoe": Family(moe=True),
    "granitemoeshared": Family(moe=True),
    "hunyuan_v1_dense": Family(qk_norm="head"),
    "internlm2": Family(bias_keys=(("bias", "all", False),)),
    "internlm3": Family(bias_keys=(("qkv_bias", "qkv", False), ("bias", "all", False))),
    "seed_oss": Family(kv_heads=8, head_dim=128, bias_keys=(("attention_bias", "qkv", True),)),
    "smollm3": Family(tie=True, kv_heads=4, nope_period=4, layout="late_window"),
    "arcee": Family(act="relu2", gated=False),
    "nemotron": Family(
        act="relu2", gated=False, norm="layer", rotary_fraction=0.5,
    ),
    "apertus": Family(act="xielu", gated=False, qk_norm="head"),
    "exaone4": Family(qk_norm="head", layout="pattern", period=4, nope_period=4),
    "stablelm": Family(
        norm="layer", rotary_fraction=0.25, bias_keys=(("use_qkv_bias", "qkv", False),), mlp_bias_keys=(),
    ),
    "starcoder2": Family(
        tie=True, kv_heads=2, act="gelu_tanh", gated=False, norm="layer",
        bias_keys=(("use_bias", "all", True),), mlp_bias_keys=(("use_bias", True),),
    ),
    "qwen": Family(bias="qkv", bias_keys=(), mlp_bias_keys=()),
    "qwen2": _QWEN2,
    "qwen2_moe": Family(
        bias_keys=(("qkv_bias", "qkv", True),), layout="late_window", moe=True, shared_gate=True,
        mlp_bias_keys=(),
    ),
    "qwen3": _QWEN3,
    "qwen3_moe": Family(qk_norm="head", kv_heads=4, layout="late_window", moe=True, mlp_bias_keys=()),
    "qwen3_next": Family(
        qk_norm="head", kv_heads=2, head_dim=256, layout="linear", period=4, rotary_fraction=0.25,
        attention_gate=True, moe=True, shared_gate=True,
    ),
    "qwen3_5_text": _QWEN3_NEXT,
    "qwen3_5_moe_text": Family(
        qk_norm="head", kv_heads=2, head_dim=256, layout="linear", period=4, rotary_fraction=0.25,
        attention_gate=True, moe=True, shared_gate=True,
    ),
    # MiMo is Qwen2 with multi-token-prediction layers; `attention_bias` says what Qwen2 fixes in code.
    "mimo": Family(bias_keys=(("attention_bias", "qkv", True),), layout="late_window"),
    "gemma": _GEMMA,
    "gemma2": Family(
        tie=True, kv_heads=4, head_dim=256, act="gelu_tanh", norms=4, layout="pattern", period=2,
    ),
    "gemma3_text": Family(
        tie=True, kv_heads=4, head_dim=256, act="gelu_tanh", norms=4, qk_norm="head", layout="pattern",
        period=6,
    ),
    "olmo2": Family(qk_norm="full"),
    "olmo3": Family(qk_norm="full", layout="pattern", period=4),
    "olmoe": Family(qk_norm="full", moe=True),
    "cohere": Family(
        tie=True, norm="layer", norm_bias=False, norms=1, parallel_block=True, qk_norm="full",
        qk_norm_key=("use_qk_norm", False),
    ),
    "cohere2": Family(
        tie=True, norm="layer", norm_bias=False, norms=1, parallel_block=True, layout="pattern", period=4,
        nope_period=4,
    ),
    "phi": Family(
        act="gelu_tanh", gated=False, norm="layer", norms=1, bias="all", bias_keys=(), mlp_bias=True,
        lm_head_bias=True, parallel_block=True, rotary_fraction=0.5,
    ),
    "phimoe": Family(
        kv_heads=8, norm="layer", moe=True, bias_keys=(("attention_bias", "all", False),),
    ),
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neox": Family(
        act="gelu", gated=False, norm="layer", mlp_bias=True, parallel_block=True, rotary_fraction=0.25,
        bias_keys=(("attention_bias", "all", True),),
    ),
    "gptj": Family(
        act="gelu_tanh", gated=False, norm="layer", norms=1, bias_keys=(), mlp_bias=True, lm_head_bias=True,
        parallel_block=True,
    ),
    "opt": Family(
        tie=True, act="relu", gated=False, norm="layer", bias_keys=(("enable_bias", "all", True),),
        mlp_bias_keys=(("enable_bias", True),),
    ),
    "bloom": Family(
        tie=True, act="gelu_tanh", gated=False, norm="layer", bias="all", bias_keys=(), mlp_bias=True,
    ),
    "mpt": Family(
        tie=True, act="gelu", gated=False, norm="layer", norm_bias=False, bias_keys=(), mlp_bias_keys=(),
    ),
    "falcon": Family(
        tie=True, act="gelu", gated=False, norm="layer", bias_keys=(("bias", "all", False),),
        mlp_bias_keys=(("bias", False),),
    ),
    "bitnet": Family(kv_heads=5, act="relu2", attention_sub_norm=True),
    "gpt_oss": Family(
        kv_heads=8, head_dim=64, bias_keys=(("attention_bias", "all", True),), attention_sinks=True,
        layout="pattern", period=2, moe=True, router_bias=True, expert_bias=True,
    ),
    "llama4_text": Family(
        kv_heads=8, head_dim=128, qk_norm="unit", qk_norm_key=("use_qk_norm", True), layout="chunked",
        period=4, nope_period=4, moe=True, shared_experts=1,
    ),
    "deepseek_v2": Family(
        moe=True, shared_experts=2, first_dense=0, bias_keys=(), mlp_bias_keys=(),
    ),
    "deepseek_v3": _DEEPSEEK_V3,
    "deepseek_v32": _DEEPSEEK_V3,
    "kimi_k2": _DEEPSEEK_V3,
    "glm_moe_dsa": _DEEPSEEK_V3,
    "glm": _GLM,
    "glm4": Family(
        kv_heads=2, head_dim=128, rotary_fraction=0.5, norms=4,
        bias_keys=(("attention_bias", "qkv", True),),
    ),
    "glm4_moe": Family(
        kv_heads=8, rotary_fraction=0.5, bias_keys=(("attention_bias", "qkv", False),), qk_norm="head",
        qk_norm_key=("use_qk_norm", False), moe=True, shared_experts=1, first_dense=1, router_bias=True,
    ),
    "dots1": Family(
        qk_norm="head", layout="late_window", moe=True, shared_experts=0, router_bias=True,
    ),
    "minimax_m2": Family(
        kv_heads=8, head_dim=128, qk_norm="full", moe=True, router_bias=True, bias_keys=(),
    ),
    "ernie4_5": _ERNIE,
    "ernie4_5_moe": Family(
        tie=True, kv_heads=4, bias_keys=(("use_bias", "all", False),), mlp_bias_keys=(("use_bias", False),),
        moe=True, shared_experts=2, first_dense=1, router_bias=True,
    ),
}  # fmt: skip

NESTED_DEFAULTS: Final[dict[str, dict[str, int]]] = {
    "llama": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 131072,
    },
    "gemma3_text": {
        "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8,
        "intermediate_size": 9216, "vocab_size": 262208, "max_position_embeddings": 131072,
    },
}  # fmt: skip
"""What stands for a size that a nested section leaves out.

Multimodal configs are written as differences to the class: LLaVA 1.5 names nothing of its Llama but the
vocabulary, Gemma 3 4B no heads. At the top level a missing size is a mistake and stays one.
"""

_STATE_SPACE: Final = "it has state-space layers"
_ENCODER_DECODER: Final = "it has an encoder beside its decoder"
NOT_EXPRESSIBLE: Final[dict[str, str]] = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "zamba", "zamba2"), _STATE_SPACE),
    **dict.fromkeys(("nemotron_h", "falcon_h1", "granitemoehybrid", "plamo2"), _STATE_SPACE),
    **dict.fromkeys(("rwkv", "recurrent_gemma", "lfm2", "lfm2_moe", "xlstm"), "it has recurrent layers"),
    **dict.fromkeys(("kimi_linear", "minimax"), "its linear attention is of another kind"),
    **dict.fromkeys(("deepseek_v4",), "its attention compresses the cache layer by layer"),
    **dict.fromkeys(("gemma3n", "gemma3n_text", "gemma4", "gemma4_text"), "its layers differ in width"),
    **dict.fromkeys(("nemotron-nas", "deci", "openelm"), "every layer has a shape of its own"),
    **dict.fromkeys(
        ("mimo_v2_flash", "step3p5", "step3p7", "minimax_m3"), "its local layers have other heads"
    ),
    **dict.fromkeys(("mllama", "mllama_text_model"), "some of its layers attend to an image"),
    **dict.fromkeys(("longcat_flash",), "each layer holds two attentions and experts without weights"),
    **dict.fromkeys(("bert", "roberta", "deberta", "electra", "distilbert", "albert"), "it is an encoder"),
    **dict.fromkeys(("deberta-v2", "longformer", "modernbert", "mpnet", "nomic_bert"), "it is an encoder"),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers", "t5gemma"), _ENCODER_DECODER),
    **dict.fromkeys(("bart", "mbart", "led", "pegasus", "blenderbot", "marian", "m2m_100"), _ENCODER_DECODER),
    **dict.fromkeys(("nllb-moe", "seamless_m4t", "whisper", "prophetnet"), _ENCODER_DECODER),
}
"""Model types that have no honest cost model here, each with the reason."""
