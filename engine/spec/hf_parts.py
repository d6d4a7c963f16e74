"""Sections of a model read from a config: rotary positions, latent and linear attention, experts."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from engine.errors import Problem, SpecError
from engine.spec.hf_families import Family
from engine.spec.hf_keys import Config, Keys
from engine.spec.model import LatentAttention, LinearAttention, MixtureOfExperts, Rope

__all__ = ["as_spec_error", "experts", "latent_attention", "linear_attention", "rope"]

_SCALINGS: Final[dict[str, str]] = {
    **dict.fromkeys(("default", "mrope", "proportional"), "none"),
    **{name: name for name in ("linear", "dynamic", "yarn", "llama3", "longrope")},
    "su": "longrope",
}


def latent_attention(keys: Keys) -> LatentAttention:
    widths = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    keys.require(*widths)
    if "q_lora_rank" not in keys:
        keys.assume("`q_lora_rank` is not given; queries are read as projected directly")
    indexer = keys.anything("indexer_types")
    if isinstance(indexer, list) and "shared" in indexer:
        keys.assume("layers that share another layer's index are counted as if each had its own")
    try:
        return LatentAttention(
            **{width: keys.integer(width) for width in widths},
            q_lora_rank=keys.optional_integer("q_lora_rank"),
            index_heads=keys.optional_integer("index_n_heads") or 0,
            index_head_dim=keys.optional_integer("index_head_dim") or 0,
            index_topk=keys.optional_integer("index_topk") or 0,
        )
    except ValidationError as err:
        raise as_spec_error(err, keys) from err


def linear_attention(keys: Keys) -> LinearAttention:
    try:
        return LinearAttention(
            num_key_heads=keys.integer_or("linear_num_key_heads", 16),
            num_value_heads=keys.integer_or("linear_num_value_heads", 32),
            key_head_dim=keys.integer_or("linear_key_head_dim", 128),
            value_head_dim=keys.integer_or("linear_value_head_dim", 128),
            conv_kernel=keys.integer_or("linear_conv_kernel_dim", 4),
        )
    except ValidationError as err:
        raise as_spec_error(err, keys) from err


def experts(keys: Keys, family: Family) -> MixtureOfExperts:
    keys.require("num_experts", "num_experts_per_tok")
    width_key = "moe_intermediate_size" if keys.given("moe_intermediate_size") else "intermediate_size"
    shared, shared_width = _shared_experts(keys, family)
    try:
        return MixtureOfExperts(
            num_experts=keys.integer("num_experts"),
            num_experts_per_tok=keys.integer("num_experts_per_tok"),
            intermediate_size=keys.integer(width_key),
            num_shared_experts=shared,
            shared_intermediate_size=shared_width,
            shared_expert_gate=family.shared_gate and shared > 0,
            router_bias=family.router_bias,
            expert_bias=family.expert_bias,
        )
    except ValidationError as err:
        raise as_spec_error(err, keys) from err


def _shared_experts(keys: Keys, family: Family) -> tuple[int, int | None]:
    """How many shared experts, and the width of one where it is not the routed width."""
    if family.shared_gate:
        keys.require("shared_expert_intermediate_size")
    for key in ("shared_expert_intermediate_size", "shared_intermediate_size"):
        width = keys.optional_integer(key)
        if width is not None:
            return (1, width) if width else (0, None)
    if keys.given("n_shared_experts"):
        return keys.integer("n_shared_experts"), None
    if "n_shared_experts" in keys or not family.shared_experts:
        return 0, None
    return keys.integer_or("n_shared_experts", family.shared_experts), None


def rope(keys: Keys, family: Family) -> Rope:
    scaling = _rope_section(keys)
    theta = keys.number("rope_theta") or keys.number("rotary_emb_base") or _number(scaling, "rope_theta")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    known = _SCALINGS.get(kind) if isinstance(kind, str) else None
    if known is None:
        keys.assume(f"rope scaling `{str(kind)[:60]}` is not known; read as none")
    values: dict[str, object] = {
        "theta": theta or 10000.0,
        "scaling": known or "none",
        "factor": _number(scaling, "factor") or 1.0,
        "original_max_position_embeddings": scaling.get("original_max_position_embeddings"),
        "rotary_fraction": _rotary_fraction(keys, family, scaling),
    }
    try:
        return Rope.model_validate(values)
    except ValidationError as err:
        raise as_spec_error(err, keys) from err


def _rope_section(keys: Keys) -> Config:
    """Rope settings under their old or new name; of the global layers where layers differ."""
    section = keys.mapping("rope_parameters") or keys.mapping("rope_scaling") or {}
    for kind in ("full_attention", "main"):
        inner = section.get(kind)
        if isinstance(inner, dict):
            return inner
    return section


def _number(section: Config, key: str) -> float | None:
    value = section.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rotary_fraction(keys: Keys, family: Family, scaling: Config) -> float:
    fraction = (
        keys.number("partial_rotary_factor")
        or keys.number("rotary_pct")
        or _number(scaling, "partial_rotary_factor")
    )
    return fraction if fraction is not None else family.rotary_fraction


def as_spec_error(err: ValidationError, keys: Keys) -> SpecError:
    problems: list[Problem] = []
    for item in err.errors(include_url=False, include_context=False):
        path = tuple(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if path:
            message = f"`{'.'.join(map(str, path))}`: {message[:1].lower()}{message[1:]}"
        problems.append(Problem(code="bad-value", message=message, file=keys.origin, path=path))
    return SpecError(problems)
