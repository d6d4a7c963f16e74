"""Families whose configs need more than a row of the table, and the reading of unknown architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from engine.spec.hf_families import FAMILIES, Family
from engine.spec.hf_keys import Keys

__all__ = ["SPECIAL", "unknown_family"]

Fields = dict[str, object]

# Keys that only architectures without a cost model have.
_TELLTALES: Final = (
    "ssm_cfg", "ssm_state_size", "state_size", "mamba_d_state", "mamba_num_heads", "time_step_rank",
    "hybrid_override_pattern", "block_configs", "layers_block_type", "lru_width", "compress_ratios",
    "altup_num_inputs", "hybrid_layer_pattern", "attn_type_list", "linear_attn_config",
)  # fmt: skip


def unknown_family(keys: Keys, kind: str | None) -> tuple[str, Family]:
    """An architecture nobody has told us about, read as what its keys look like."""
    known = f"architecture `{kind[:80]}` is not known" if kind else "the config names no architecture"
    strange = [key for key in _TELLTALES if keys.given(key)]
    if strange:
        named = ", ".join(f"`{key}`" for key in strange)
        raise keys.wrong("model_type", f"{known} and has {named}: no cost model")
    keys.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if keys.given("kv_lora_rank") and keys.given("num_experts"):
        family, style = FAMILIES["deepseek_v3"], "DeepSeek-V3-style"
    elif keys.given("num_experts"):
        family, style = Family(moe=True), "Mixtral-style"
    else:
        keys.require("intermediate_size")
        family, style = FAMILIES["llama"], "Llama-style"
    keys.assume(f"{known}; read as a {style} decoder")
    return kind or "unknown", family


def _falcon(keys: Keys, fields: Mapping[str, object]) -> Fields:
    # Two norms feed the two branches of a parallel block in the new decoder architecture, one in the old.
    new = keys.flag("new_decoder_architecture", default=False)
    parallel = new or keys.flag("parallel_attn", default=True)
    special: Fields = {"parallel_block": parallel}
    if parallel:
        norms = keys.optional_integer("num_ln_in_parallel_attn")
        special["norms_per_layer"] = norms or (2 if new else 1)
    if not new and keys.flag_or("multi_query", default=True):
        special["num_key_value_heads"] = 1
    if keys.flag("alibi", default=False):
        special["position_embedding"] = "alibi"
    return special


def _opt(keys: Keys, fields: Mapping[str, object]) -> Fields:
    rows = keys.integer_or("max_position_embeddings", 2048)
    # OPT-350m norms after each block and has none at the end.
    before = keys.flag("do_layer_norm_before", default=True)
    width = keys.optional_integer("word_embed_proj_dim")
    return {
        "position_embedding": "learned",
        "learned_positions": rows + 2,  # the first two rows stand for padding
        "final_norm": before and not keys.flag("_remove_final_layer_norm", default=False),
        "embedding_size": width if width != fields["hidden_size"] else None,
    }


def _gpt2(keys: Keys, fields: Mapping[str, object]) -> Fields:
    return {
        "position_embedding": "learned",
        "learned_positions": keys.integer_or("max_position_embeddings", 1024),
    }


def _gpt_bigcode(keys: Keys, fields: Mapping[str, object]) -> Fields:
    shared = keys.flag_or("multi_query", default=True)
    return {
        **_gpt2(keys, fields),
        "num_key_value_heads": 1 if shared else fields["num_attention_heads"],
    }


def _gptj(keys: Keys, fields: Mapping[str, object]) -> Fields:
    rotated = keys.optional_integer("rotary_dim")
    width = fields["head_dim"]
    if not rotated or not isinstance(width, int):
        return {}
    rope = fields["rope"]
    return {"rope": {**_dumped(rope), "rotary_fraction": min(1.0, rotated / width)}}


def _dumped(section: object) -> Fields:
    dump: Callable[[], Fields] = getattr(section, "model_dump")  # noqa: B009 - a pydantic section
    return dump()


def _gpt_neox(keys: Keys, fields: Mapping[str, object]) -> Fields:
    return {"parallel_block": keys.flag("use_parallel_residual", default=True)}


def _bloom(keys: Keys, fields: Mapping[str, object]) -> Fields:
    return {"position_embedding": "alibi", "embedding_norm": True}


def _mpt(keys: Keys, fields: Mapping[str, object]) -> Fields:
    attention = keys.mapping("attn_config") or {}
    if not keys.flag("no_bias", default=True):
        raise keys.wrong("no_bias", "`no_bias: false` of architecture `mpt` has no cost model")
    if not attention.get("alibi", True):
        raise keys.wrong("attn_config", "`mpt` without `alibi` has no cost model")
    heads = attention.get("kv_n_heads")
    found: Fields = {"position_embedding": "alibi"}
    if isinstance(heads, int) and heads > 0:
        found["num_key_value_heads"] = heads
    return found


def _stablelm(keys: Keys, fields: Mapping[str, object]) -> Fields:
    parallel = keys.flag("use_parallel_residual", default=False)
    return {"parallel_block": parallel, "norms_per_layer": 1 if parallel else 2}


def _llama4(keys: Keys, fields: Mapping[str, object]) -> Fields:
    # `intermediate_size` is the width of an expert here; dense layers have their own.
    if fields["intermediate_size"] is None:
        return {}
    return {"intermediate_size": keys.integer_or("intermediate_size_mlp", 16384)}


def _qwen(keys: Keys, fields: Mapping[str, object]) -> Fields:
    # The first Qwen states the widths of gate and up together.
    return {"intermediate_size": keys.integer("intermediate_size") // 2}


def _apertus(keys: Keys, fields: Mapping[str, object]) -> Fields:
    keys.assume("the learned numbers of its xIELU activation, a few in each layer, are not counted")
    return {}


def _ernie(keys: Keys, fields: Mapping[str, object]) -> Fields:
    return {"lm_head_bias": keys.flag("use_bias", default=False)}


SPECIAL: Final[dict[str, Callable[[Keys, Mapping[str, object]], Fields]]] = {
    "falcon": _falcon,
    "opt": _opt,
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt_bigcode,
    "gptj": _gptj,
    "gpt_neox": _gpt_neox,
    "bloom": _bloom,
    "mpt": _mpt,
    "stablelm": _stablelm,
    "llama4_text": _llama4,
    "qwen": _qwen,
    "apertus": _apertus,
    "ernie4_5_moe": _ernie,
}
