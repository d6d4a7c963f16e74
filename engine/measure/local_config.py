"""The transformers config of a `Model`: the same shape under the names each family gives its parts.

Families name the same thing differently (`num_experts`, `num_local_experts`, `n_routed_experts`); a config
takes every name and its class reads its own. Whether the result is the model meant is not believed but
checked: the parameters of the built model must be those that the performance model counts.
"""

from __future__ import annotations

from typing import Any, Final

from engine.errors import MeasurementError
from engine.spec.model import LayerRun, Model

__all__ = ["transformers_config"]

# The same layers under the name of the class that transformers has for them.
_SYNONYMS: Final = {"kimi_k2": "deepseek_v3", "mimo": "qwen2"}
_DERIVED_HEADS: Final = frozenset({"falcon", "opt", "gpt2"})
"""Families whose class works the head width out itself."""
_ACTIVATIONS: Final = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def transformers_config(model: Model) -> Any:
    """A config object for random weights: no end-of-text token, so that every answer has full length.

    Raises `MeasurementError` for a family that transformers does not have.
    """
    from transformers import CONFIG_MAPPING

    family = _SYNONYMS.get(model.architecture or "", model.architecture or _family_of(model))
    if family not in CONFIG_MAPPING:
        raise MeasurementError(
            f"transformers has no architecture `{family}`",
            hint="measure it through a server (`target: {kind: openai}`), or name a model of another family",
        )
    values = {**_common(model), **_attention(model), **_feed_forward(model), **_OWN.get(family, _none)(model)}
    config = CONFIG_MAPPING[family](**{name: value for name, value in values.items() if value is not None})
    # `None` is an answer here, and the classes have other defaults.
    if model.mla is not None:
        config.q_lora_rank = model.mla.q_lora_rank
    if model.sliding_window is None and getattr(config, "sliding_window", None):
        config.sliding_window = None
    config.eos_token_id = None
    config.pad_token_id = None
    config.bos_token_id = None
    return config


def _family_of(model: Model) -> str:
    """The plainest family that has these parts, for a shape written by hand."""
    if model.mla is not None or model.linear_attention is not None:
        raise MeasurementError(
            f"model `{model.name}` does not say its `architecture`, so no class can be chosen for it",
            hint="add `architecture`, the `model_type` of its config.json",
        )
    if model.moe is not None:
        return "qwen3_moe" if model.qk_norm == "head" else "mixtral"
    if model.qk_norm == "head":
        return "qwen3"
    return "qwen2" if model.attention_bias == "qkv" else "llama"


def _none(_model: Model) -> dict[str, Any]:
    return {}


def _common(model: Model) -> dict[str, Any]:
    act = _ACTIVATIONS[model.hidden_act]
    return {
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_hidden_layers,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings or 131_072,
        "hidden_act": act,
        "hidden_activation": act,
        "tie_word_embeddings": model.tie_word_embeddings,
        "initializer_range": 0.02,
        "use_cache": True,
        "rope_parameters": _rope(model),
    }


def _rope(model: Model) -> dict[str, Any] | None:
    if model.position_embedding != "rope":
        return None
    # Scaling changes the angles, not the work: plain angles cost the same and fit every class.
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": model.rope.theta}
    if model.rope.rotary_fraction != 1.0:
        found["partial_rotary_factor"] = model.rope.rotary_fraction
    return found


def _attention(model: Model) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.kv_heads,
        "attention_bias": model.attention_bias == "all",
        "attention_dropout": 0.0,
        "use_qk_norm": model.qk_norm != "none",
    }
    if model.mla is None:
        found["head_dim"] = None if model.architecture in _DERIVED_HEADS else model.head_size
    else:
        found |= {
            "kv_lora_rank": model.mla.kv_lora_rank,
            "qk_nope_head_dim": model.mla.qk_nope_head_dim,
            "qk_rope_head_dim": model.mla.qk_rope_head_dim,
            "v_head_dim": model.mla.v_head_dim,
        }
    if model.sliding_window is not None:
        found["sliding_window"] = model.sliding_window.tokens
    if model.layers is not None and model.linear_attention is None:
        found["layer_types"] = [_layer_type(model, run) for run in _each_layer(model)]
    return found


def _layer_type(model: Model, run: LayerRun) -> str:
    if run.attention != "window":
        return "full_attention"
    chunked = model.sliding_window is not None and model.sliding_window.kind == "chunked"
    return "chunked_attention" if chunked else "sliding_attention"


def _each_layer(model: Model) -> list[LayerRun]:
    return [run for run in model.layer_runs for _ in range(run.count)]


def _feed_forward(model: Model) -> dict[str, Any]:
    found: dict[str, Any] = {"intermediate_size": model.intermediate_size, "mlp_bias": model.mlp_bias}
    moe = model.moe
    if moe is None:
        return found
    shared = moe.shared_intermediate_size or moe.intermediate_size
    dense = [run.feed_forward == "dense" for run in _each_layer(model)]
    return found | {
        "intermediate_size": model.intermediate_size or moe.intermediate_size,
        "moe_intermediate_size": moe.intermediate_size,
        "num_experts": moe.num_experts,
        "num_local_experts": moe.num_experts,
        "n_routed_experts": moe.num_experts,
        "num_experts_per_tok": moe.num_experts_per_tok,
        "n_shared_experts": moe.num_shared_experts,
        "shared_expert_intermediate_size": shared * moe.num_shared_experts,
        "first_k_dense_replace": dense.index(False) if False in dense else len(dense),
        "mlp_only_layers": [i for i, is_dense in enumerate(dense) if is_dense],
    }


# What single families name in ways of their own.


def _opt(model: Model) -> dict[str, Any]:
    return {
        "ffn_dim": model.intermediate_size,
        "activation_function": _ACTIVATIONS[model.hidden_act],
        "word_embed_proj_dim": model.embedding_size or model.hidden_size,
        "max_position_embeddings": model.learned_positions - 2,  # the class keeps two rows to itself
        "enable_bias": model.attention_bias == "all",
        "dropout": 0.0,
    }


def _gpt2(model: Model) -> dict[str, Any]:
    return {
        "n_embd": model.hidden_size,
        "n_layer": model.num_hidden_layers,
        "n_head": model.num_attention_heads,
        "n_inner": model.intermediate_size,
        "n_positions": model.learned_positions,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def _falcon(model: Model) -> dict[str, Any]:
    grouped = model.kv_heads > 1
    return {
        "num_kv_heads": model.kv_heads,
        "new_decoder_architecture": grouped,
        "multi_query": not grouped,
        "parallel_attn": model.parallel_block,
        "bias": model.attention_bias == "all",
        "ffn_hidden_size": model.intermediate_size,
        "alibi": model.position_embedding == "alibi",
    }


def _llama4(model: Model) -> dict[str, Any]:
    layers = _each_layer(model)
    moe = model.moe
    return {
        "intermediate_size": moe.intermediate_size if moe else model.intermediate_size,
        "intermediate_size_mlp": model.intermediate_size or 2 * (moe.intermediate_size if moe else 1),
        "moe_layers": [i for i, run in enumerate(layers) if run.feed_forward == "moe"],
        "no_rope_layers": [int(run.rope) for run in layers],
        "attention_chunk_size": model.sliding_window.tokens if model.sliding_window else None,
    }


def _mixtral(model: Model) -> dict[str, Any]:
    return {"intermediate_size": model.moe.intermediate_size if model.moe else model.intermediate_size}


def _gpt_oss(model: Model) -> dict[str, Any]:
    return {**_mixtral(model), "attention_bias": model.attention_bias != "none"}


def _glm(model: Model) -> dict[str, Any]:
    return {"attention_bias": model.attention_bias == "qkv"}


def _deepseek(model: Model) -> dict[str, Any]:
    if model.mla is None:
        return {}
    dense = [run.feed_forward == "dense" for run in _each_layer(model)]
    found: dict[str, Any] = {
        "mlp_layer_types": ["dense" if is_dense else "sparse" for is_dense in dense],
        "index_n_heads": model.mla.index_heads or None,
        "index_head_dim": model.mla.index_head_dim or None,
        "index_topk": model.mla.index_topk or None,
        # One group of experts: grouping limits which experts may be chosen, not how many.
        "n_group": 1,
        "topk_group": 1,
    }
    return found


def _linear(model: Model) -> dict[str, Any]:
    linear = model.linear_attention
    if linear is None:
        return {}
    return {
        "layer_types": [
            "linear_attention" if run.attention == "linear" else "full_attention"
            for run in _each_layer(model)
        ],
        "linear_conv_kernel_dim": linear.conv_kernel,
        "linear_key_head_dim": linear.key_head_dim,
        "linear_value_head_dim": linear.value_head_dim,
        "linear_num_key_heads": linear.num_key_heads,
        "linear_num_value_heads": linear.num_value_heads,
    }


def _gemma(model: Model) -> dict[str, Any]:
    return {"query_pre_attn_scalar": model.head_size, "layer_types": None if model.layers is None else [
        _layer_type(model, run) for run in _each_layer(model)]}  # fmt: skip


def _phi3(model: Model) -> dict[str, Any]:
    return {"original_max_position_embeddings": model.max_position_embeddings, "resid_pdrop": 0.0}


_OWN: Final = {
    "opt": _opt,
    "gpt2": _gpt2,
    "falcon": _falcon,
    "llama4_text": _llama4,
    "mixtral": _mixtral,
    "minimax_m2": _mixtral,
    "gpt_oss": _gpt_oss,
    "glm4_moe": _glm,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_v32": _deepseek,
    "glm_moe_dsa": _deepseek,
    "qwen3_next": _linear,
    "qwen3_5_text": _linear,
    "qwen3_5_moe_text": _linear,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "phi3": _phi3,
}
