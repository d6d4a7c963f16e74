"""Typed reading of a Hugging Face `config.json`: right types or a plain error, and a note of every default.

The format has no schema: the same thing has several names, keys are left out when they equal a default that
differs from class to class, and what is there may be of any type. Everything that reads such a file goes
through `Keys`, so that a wrong type is told once, in one way, and an assumed value is always recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from engine.errors import Problem, SpecError

__all__ = ["Config", "Keys"]

Config = Mapping[str, object]

_LARGEST: Final = 10**9
_MOST_LAYERS: Final = 1000

# Name in some model's config -> the name the others use.
_SYNONYMS: Final[dict[str, str]] = {
    "n_embd": "hidden_size",
    "n_embed": "hidden_size",
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "n_head_kv": "num_key_value_heads",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
    "ffn_hidden_size": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "num_local_experts": "num_experts",
    "n_routed_experts": "num_experts",
    "moe_num_experts": "num_experts",
    "moe_k": "num_experts_per_tok",
    "moe_topk": "num_experts_per_tok",
    "num_experts_per_token": "num_experts_per_tok",
    "moe_num_shared_experts": "n_shared_experts",
    "num_shared_experts": "n_shared_experts",
    "activation_function": "hidden_act",
}

_INTEGERS: Final = frozenset(
    {
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("intermediate_size", "intermediate_size_mlp", "vocab_size", "max_position_embeddings"),
        *("word_embed_proj_dim", "sliding_window", "attention_chunk_size", "max_window_layers"),
        *("num_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts"),
        *("shared_expert_intermediate_size", "shared_intermediate_size", "first_k_dense_replace"),
        *("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval"),
        *("moe_layer_start_index", "no_rope_layer_interval", "full_attention_interval"),
        *("num_nextn_predict_layers", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim"),
        *("v_head_dim", "index_n_heads", "index_head_dim", "index_topk", "linear_conv_kernel_dim"),
        *("linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads", "linear_num_value_heads"),
        *("num_ln_in_parallel_attn", "rotary_dim", "expansion_ratio"),
    }
)
_NUMBERS: Final = frozenset({"rope_theta", "partial_rotary_factor", "rotary_pct", "rotary_emb_base"})
_FLAGS: Final = frozenset(
    {
        *("tie_word_embeddings", "attention_bias", "mlp_bias", "use_bias", "bias", "qkv_bias"),
        *("use_qkv_bias", "attention_out_bias", "use_sliding_window", "use_qk_norm", "qk_layernorm"),
        *("parallel_attn", "new_decoder_architecture", "multi_query", "alibi", "do_layer_norm_before"),
        *("_remove_final_layer_norm", "enable_bias", "use_parallel_residual", "is_encoder_decoder"),
        *("no_bias", "add_cross_attention", "lm_head_bias"),
    }
)
_TEXTS: Final = frozenset({"model_type", "hidden_act", "hidden_activation", "topk_method"})
_LISTS: Final = frozenset(
    {"layer_types", "mlp_layer_types", "mlp_only_layers", "moe_layers", "no_rope_layers"}
)
_MAPPINGS: Final = frozenset({"rope_scaling", "rope_parameters", "attn_config", "quantization_config"})


def _expected(key: str) -> str | None:
    if key in _INTEGERS:
        return f"a whole number from 0 to {_LARGEST}"
    if key in _NUMBERS:
        return "a number above 0"
    if key in _FLAGS:
        return "true or false"
    if key in _TEXTS:
        return "text"
    if key in _LISTS:
        return f"a list of at most {_MOST_LAYERS} entries"
    return "a mapping" if key in _MAPPINGS else None


def _fits(key: str, value: object) -> bool:
    if key in _FLAGS:
        return isinstance(value, bool)
    if key in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    if key in _NUMBERS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]
    if key in _TEXTS:
        return isinstance(value, str)
    if key in _LISTS:
        return isinstance(value, list) and len(value) <= _MOST_LAYERS
    return isinstance(value, dict)


def _shown(value: object) -> str:
    """A value as it may stand in a message: never more than a short line."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Keys:
    """The keys of one config under their usual names, every known one of the right type.

    `assumptions` fills up while the config is read: what was left out and which value stands for it.
    """

    def __init__(self, config: Config, *, origin: str) -> None:
        self.origin = origin
        self.assumptions: list[str] = []
        self._problems: list[Problem] = []
        self._values: dict[str, object] = {}
        for key, value in config.items():
            self._take(key, value)
        if self._problems:
            raise SpecError(self._problems)

    def _take(self, written: str, value: object) -> None:
        key = _SYNONYMS.get(written, written)
        if value is None:
            # `null` says "left out on purpose" (no query compression, no window): kept apart from absent.
            self._values.setdefault(key, None)
            return
        expected = _expected(key)
        if expected is not None and not _fits(key, value):
            self._problem(written, "bad-type", f"`{written}` is {_shown(value)}, expected {expected}")
            return
        earlier = self._values.get(key)
        if earlier is not None and earlier != value:
            self._problem(
                written, "conflict", f"`{written}` is {_shown(value)}, but `{key}` is {_shown(earlier)}"
            )
            return
        self._values[key] = value

    def _problem(self, key: str, code: str, message: str) -> None:
        self._problems.append(Problem(code=code, message=message, file=self.origin, path=(key,)))

    def wrong(self, key: str, message: str, *, hint: str | None = None) -> SpecError:
        """The error for a value of `key` that cannot be used; the caller raises it."""
        return SpecError(
            [Problem(code="bad-value", message=message, hint=hint, file=self.origin, path=(key,))], hint=hint
        )

    def require(self, *keys: str) -> None:
        """Raise one error that names every key of `keys` that is missing."""
        missing = [key for key in keys if self._values.get(key) is None]
        if missing:
            raise SpecError(
                Problem(code="missing-key", message=f"`{key}` is missing", file=self.origin, path=(key,))
                for key in missing
            )

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def given(self, key: str) -> bool:
        """True when the key is there and not `null`."""
        return self._values.get(key) is not None

    def assume(self, text: str) -> None:
        """Record something that the config leaves open."""
        if text not in self.assumptions:
            self.assumptions.append(text)

    def integer(self, key: str) -> int:
        """A whole number that must be there."""
        self.require(key)
        value = self._values[key]
        if not isinstance(value, int):
            raise TypeError(f"`{key}` is not declared as a whole number")
        return value

    def optional_integer(self, key: str) -> int | None:
        """A whole number, or None when it is absent or `null`."""
        return self.integer(key) if self.given(key) else None

    def integer_or(self, key: str, default: int) -> int:
        """A whole number; the class default, recorded, when it is absent."""
        if self.given(key):
            return self.integer(key)
        self.assume(f"`{key}` is not given; the class default {default} is used")
        return default

    def number(self, key: str) -> float | None:
        """A number, or None when absent."""
        value = self._values.get(key)
        return float(value) if isinstance(value, int | float) else None

    def flag(self, key: str, *, default: bool) -> bool:
        """A flag; the default, unrecorded, when it is absent."""
        value = self._values.get(key)
        return value if isinstance(value, bool) else default

    def flag_or(self, key: str, *, default: bool) -> bool:
        """A flag; the class default, recorded, when it is absent."""
        if not self.given(key):
            self.assume(f"`{key}` is not given; the class default {str(default).lower()} is used")
        return self.flag(key, default=default)

    def text(self, key: str) -> str | None:
        """A text, or None when absent."""
        value = self._values.get(key)
        return value if isinstance(value, str) else None

    def items(self, key: str) -> Sequence[object] | None:
        """A list, or None when absent."""
        value = self._values.get(key)
        return value if isinstance(value, list) else None

    def mapping(self, key: str) -> Config | None:
        """A mapping, or None when absent."""
        value = self._values.get(key)
        return value if isinstance(value, dict) else None

    def anything(self, key: str) -> object:
        """The value as it stands, for the few keys that come in several types."""
        return self._values.get(key)

    def filled(self, defaults: Mapping[str, int]) -> Keys:
        """The same config with class defaults, recorded, where a size is left out."""
        missing = {key: value for key, value in defaults.items() if not self.given(key)}
        for key in missing:
            self.integer_or(key, missing[key])
        changed = Keys({**self._values, **missing}, origin=self.origin)
        changed.assumptions = self.assumptions
        return changed

    def with_value(self, key: str, value: object) -> Keys:
        """The same config with one value put in; assumptions are shared."""
        changed = Keys({**self._values, key: value}, origin=self.origin)
        changed.assumptions = self.assumptions
        return changed
