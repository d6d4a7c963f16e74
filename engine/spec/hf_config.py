"""A local `config.json` of the Hugging Face format becomes a `Model`: read as data, nothing is executed.

transformers is not imported; what its classes fix in code stands in `hf_families`. An architecture that is
not known but has the usual keys is read as a Llama-style decoder, with that assumption on record; one that
the cost model cannot express is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from engine.errors import Problem, SpecError
from engine.spec.hf_families import FAMILIES, NESTED_DEFAULTS, NOT_EXPRESSIBLE, Bias, Family
from engine.spec.hf_keys import Config, Keys
from engine.spec.hf_layers import (
    attention_layers,
    feed_forward_layers,
    layer_runs,
    rotating_layers,
    window_of,
)
from engine.spec.hf_parts import as_spec_error, experts, latent_attention, linear_attention, rope
from engine.spec.hf_special import SPECIAL, unknown_family
from engine.spec.model import Model

__all__ = ["model_from_config"]

# Where multimodal configs keep the language model.
_TEXT_SECTIONS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
_OTHER_SECTIONS: Final = ("vision_config", "audio_config", "vit_config", "talker_config")
# What a text section may leave to the level above it.
_INHERITED: Final = ("tie_word_embeddings", "quantization_config")

_TYPE_SYNONYMS: Final[dict[str, str]] = {
    "gemma3": "gemma3_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "kimi_k25": "kimi_k2",
    "deepseek_v2_lite": "deepseek_v2",
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_omni_moe_text": "qwen3_moe",
    "glm4v_text": "glm4",
    "glm4v_moe_text": "glm4_moe",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
}

_ACTIVATIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("silu", "swish", "swiglu"), "silu"),
    **dict.fromkeys(("gelu", "gelu_python", "quick_gelu"), "gelu"),
    **dict.fromkeys(
        ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh", "gelu_accurate"), "gelu_tanh"
    ),
    "relu": "relu",
    **dict.fromkeys(("relu2", "relu_squared"), "relu2"),
}


def model_from_config(config: Config, *, name: str, origin: str | None = None) -> Model:
    """The model that a parsed `config.json` describes; `origin` is the file named in messages."""
    keys, nested = _language_keys(config, origin or name)
    kind, family = _family(keys)
    if nested:
        keys = keys.filled(NESTED_DEFAULTS.get(kind, {}))
    keys.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    fields = _common_fields(keys, family)
    fields.update(_attention_fields(keys, family, kind))
    fields.update(_feed_forward_fields(keys, family))
    fields.update(_layer_fields(keys, family, fields))
    fields.update(SPECIAL.get(kind, _nothing_special)(keys, fields))
    predicted = keys.optional_integer("num_nextn_predict_layers")
    if predicted:
        keys.assume(f"{predicted} multi-token-prediction layer(s) are left out")
    if keys.given("quantization_config"):
        keys.assume("the number format of the checkpoint is not applied; the experiment names its own")
    return _validated({"name": name, "architecture": kind, **fields, "assumptions": keys.assumptions}, keys)


def _nothing_special(_keys: Keys, _fields: Mapping[str, object]) -> dict[str, object]:
    return {}


def _language_keys(config: Config, origin: str) -> tuple[Keys, bool]:
    """The keys of the language model, and whether the config keeps them in a section of their own."""
    if not isinstance(config, Mapping):
        raise SpecError([Problem(code="bad-type", message="a model config must be a mapping", file=origin)])
    section: Config = config
    notes: list[str] = []
    while True:
        inner = next((key for key in _TEXT_SECTIONS if isinstance(section.get(key), dict)), None)
        if inner is None:
            break
        text = section[inner]
        notes = [
            f"only the language model in `{inner}` is read; `{key}` is left out"
            for key in _OTHER_SECTIONS
            if isinstance(section.get(key), dict)
        ]
        inherited = {key: section[key] for key in _INHERITED if section.get(key) is not None}
        section = {**inherited, **text}  # type: ignore[dict-item]
    keys = Keys(section, origin=origin)
    for note in notes:
        keys.assume(note)
    return keys, section is not config


def _family(keys: Keys) -> tuple[str, Family]:
    """The model type and its traits; an error for what has no cost model."""
    kind = keys.text("model_type")
    if kind is not None:
        kind = _TYPE_SYNONYMS.get(kind, kind)
    if kind is not None and kind in FAMILIES:
        return kind, FAMILIES[kind]
    if kind is not None and kind in NOT_EXPRESSIBLE:
        raise keys.wrong("model_type", f"architecture `{kind}` has no cost model: {NOT_EXPRESSIBLE[kind]}")
    if keys.flag("is_encoder_decoder", default=False):
        raise keys.wrong("is_encoder_decoder", "encoder-decoder models have no cost model; only decoders do")
    return unknown_family(keys, kind)


def _common_fields(keys: Keys, family: Family) -> dict[str, object]:
    heads = keys.integer("num_attention_heads")
    return {
        "hidden_size": keys.integer("hidden_size"),
        "num_hidden_layers": keys.integer("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": _kv_heads(keys, family, heads),
        "head_dim": _head_dim(keys, family, heads),
        "vocab_size": keys.integer("vocab_size"),
        "max_position_embeddings": keys.optional_integer("max_position_embeddings"),
        "norm": family.norm,
        "norm_bias": family.norm_bias,
        "norms_per_layer": family.norms,
        "tie_word_embeddings": keys.flag_or("tie_word_embeddings", default=family.tie),
        "lm_head_bias": keys.flag("lm_head_bias", default=family.lm_head_bias),
        "parallel_block": family.parallel_block,
        "rope": rope(keys, family),
    }


def _kv_heads(keys: Keys, family: Family, heads: int) -> int:
    if keys.given("num_key_value_heads"):
        return keys.integer("num_key_value_heads")
    # `null` means "as many as query heads" in every class; a key left out means the class default.
    if "num_key_value_heads" in keys or family.kv_heads is None:
        return heads
    return keys.integer_or("num_key_value_heads", family.kv_heads)


def _head_dim(keys: Keys, family: Family, heads: int) -> int | None:
    if keys.given("kv_lora_rank"):
        return None  # latent attention has its own widths; a `head_dim` beside them is the rotary part
    if keys.given("head_dim"):
        return keys.integer("head_dim")
    hidden = keys.integer("hidden_size")
    if "head_dim" not in keys and family.head_dim is not None:
        if family.head_dim * heads != hidden:
            keys.assume(f"`head_dim` is not given; the class default {family.head_dim} is used")
        return family.head_dim
    if heads == 0 or hidden % heads:
        raise keys.wrong(
            "num_attention_heads",
            f"`hidden_size` {hidden} does not divide by `num_attention_heads` {heads}; give `head_dim`",
        )
    return hidden // heads


def _attention_fields(keys: Keys, family: Family, kind: str) -> dict[str, object]:
    fields: dict[str, object] = {
        "attention_sinks": family.attention_sinks,
        "attention_gate": family.attention_gate,
        "attention_sub_norm": family.attention_sub_norm,
        "attention_logit_softcap": keys.anything("attn_logit_softcapping") is not None,
        "attention_bias": _attention_bias(keys, family),
        "qk_norm": family.qk_norm,
    }
    if family.qk_norm_key is not None:
        key, default = family.qk_norm_key
        fields["qk_norm"] = family.qk_norm if keys.flag(key, default=default) else "none"
    elif keys.flag("qk_layernorm", default=False):
        raise keys.wrong("qk_layernorm", f"`qk_layernorm` of architecture `{kind}` has no cost model")
    if keys.given("kv_lora_rank"):
        fields["mla"] = latent_attention(keys)
    return fields


def _attention_bias(keys: Keys, family: Family) -> Bias:
    strength: list[Bias] = ["none", "qkv", "all"]
    found: list[Bias] = [family.bias]
    for key, which, default in family.bias_keys:
        if keys.flag(key, default=default):
            # Seed-OSS says separately whether the output projection has a bias too.
            out = key == "attention_bias" and keys.flag("attention_out_bias", default=False)
            found.append("all" if out else which)
    if keys.given("kv_lora_rank") and keys.flag("attention_bias", default=False):
        raise keys.wrong("attention_bias", "`attention_bias` with latent attention has no cost model")
    return max(found, key=strength.index)


def _feed_forward_fields(keys: Keys, family: Family) -> dict[str, object]:
    act = keys.text("hidden_activation") or keys.text("hidden_act") or family.act
    if act not in _ACTIVATIONS:
        keys.assume(f"activation `{act[:60]}` is counted as `gelu`")
    return {
        "hidden_act": _ACTIVATIONS.get(act, "gelu"),
        "gated_ffn": family.gated,
        "mlp_bias": family.mlp_bias
        or any(keys.flag(key, default=default) for key, default in family.mlp_bias_keys),
        "intermediate_size": keys.optional_integer("intermediate_size"),
    }


def _layer_fields(keys: Keys, family: Family, fields: Mapping[str, object]) -> dict[str, object]:
    """The sections that layers choose from, and which layer uses which."""
    layers = keys.integer("num_hidden_layers")
    if not 1 <= layers <= 1000:
        raise keys.wrong(
            "num_hidden_layers", f"`num_hidden_layers` is {layers}, expected a whole number from 1 to 1000"
        )
    window = window_of(keys, layout=family.layout)
    attention = attention_layers(keys, layout=family.layout, window=window, period=_period(keys, family))
    feed_forward = feed_forward_layers(_with_first_dense(keys, family)) if family.moe else ["dense"] * layers
    rotates = [True] * layers
    if family.nope_period is not None:
        explicit = family.layout == "pattern"
        rotates = (
            [kind == "window" or window is None for kind in attention]
            if explicit
            else rotating_layers(keys, period=family.nope_period)
        )
    found: dict[str, object] = {}
    if "window" in attention:
        found["sliding_window"] = window
    if "linear" in attention:
        found["linear_attention"] = linear_attention(keys)
    if "moe" in feed_forward:
        found["moe"] = experts(keys, family)
    if "dense" not in feed_forward:
        found["intermediate_size"] = None
    elif fields["intermediate_size"] is None and not keys.given("intermediate_size"):
        found["intermediate_size"] = _default_width(keys, family)
    runs, repeated = layer_runs(attention, feed_forward, rotates)  # type: ignore[arg-type]
    if len(runs) > 1 or not runs[0].rope or (window is None and runs[0].attention == "linear"):
        found["layers"] = runs
        found["repeat_layers"] = repeated
    return found


def _period(keys: Keys, family: Family) -> int:
    for key in ("sliding_window_pattern", "_sliding_window_pattern", "full_attention_interval"):
        value = keys.anything(key)
        if isinstance(value, str) and value:
            return len(value)  # EXAONE writes one period as letters, such as `LLLG`
        if isinstance(value, int) and value > 0:
            return value
    return family.period


def _with_first_dense(keys: Keys, family: Family) -> Keys:
    """The same keys, with the class default of `first_k_dense_replace` on record where it counts."""
    said = ("first_k_dense_replace", "moe_layer_start_index", "mlp_layer_types")
    if not family.first_dense or any(keys.given(key) for key in said):
        return keys
    if isinstance(keys.anything("moe_layer_freq"), list):
        return keys
    keys.integer_or("first_k_dense_replace", family.first_dense)
    return keys.with_value("first_k_dense_replace", family.first_dense)


def _default_width(keys: Keys, family: Family) -> int:
    # GPT-2, Falcon, BLOOM and MPT: four times the hidden size unless the config says otherwise.
    if family.gated:
        keys.require("intermediate_size")
    factor = keys.optional_integer("expansion_ratio") or 4
    return factor * keys.integer("hidden_size")


def _validated(fields: dict[str, object], keys: Keys) -> Model:
    try:
        return Model.model_validate(fields)
    except ValidationError as err:
        raise as_spec_error(err, keys) from err
