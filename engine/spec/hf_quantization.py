"""The number format that a published checkpoint declares in the `quantization_config` of its `config.json`.

Reading only the element type of a config is a common mistake: a 4-bit checkpoint then counts as 16 bits.
Patterns of ignored modules are looked at word by word, never run as regular expressions: the file may come
from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import ValidationError

from engine.errors import Problem, SpecError
from engine.spec.hf_keys import Config
from engine.spec.quantization import Quantization

__all__ = ["quantization_from_config"]

_SECTIONS: Final = ("quantization_config", "compression_config")
_TEXT_SECTIONS: Final = ("text_config", "llm_config", "language_config")
_IGNORED_KEYS: Final = (
    "modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules", "exclude_modules",
)  # fmt: skip
_SHOWN: Final = 6
_UNQUANTISED_BITS: Final = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """What a method says about the weights it converts."""

    name: str
    bits: float
    activation: float = 16.0
    kv_cache: float = 16.0
    group_size: int | None = None
    scale_bits: float = 16.0
    zero_bits: float = 0.0
    integer: bool = True
    every_linear: bool = False
    """The output head is converted too unless it is ignored; routers are left alone by every tool."""
    experts_only: bool = False
    ignored: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def quantization_from_config(config: Config, *, origin: str = "config.json") -> Quantization | None:
    """The number format of a parsed `config.json`, or None when the checkpoint is not quantised."""
    section = _section(config)
    if section is None:
        return None
    method = section.get("quant_method")
    if method is None and (section.get("load_in_4bit") or section.get("load_in_8bit")):
        method = "bitsandbytes"
    reader = _METHODS.get(method) if isinstance(method, str) else None
    if reader is None:
        known = ", ".join(f"`{name}`" for name in _METHODS)
        raise _wrong(f"quantization method `{str(method)[:60]}` is not known", origin, hint=f"known: {known}")
    try:
        return _quantization(replace(reader(section), ignored=_ignored(section)))
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _wrong(f"`quantization_config` gives `{where}`: {first['msg'].lower()}", origin) from err
    except _Unclear as err:
        raise _wrong(f"`quantization_config`: {err}", origin) from err


class _Unclear(Exception):
    """Something in the section that has no single meaning here; the text says what."""


def _wrong(message: str, origin: str, *, hint: str | None = None) -> SpecError:
    problem = Problem(
        code="bad-value", message=message, hint=hint, file=origin, path=("quantization_config",)
    )
    return SpecError([problem], hint=hint)


def _section(config: Config) -> Config | None:
    levels = [config, *(level for key in _TEXT_SECTIONS if isinstance(level := config.get(key), dict))]
    for level in levels:
        for key in _SECTIONS:
            section = level.get(key)
            if isinstance(section, dict):
                return section
    return None


def _whole(section: Config, *names: str) -> int | None:
    for name in names:
        value = section.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**6:
            raise _Unclear(f"`{name}` is {repr(value)[:60]}, expected a whole number")
        return value
    return None


def _bits(section: Config, *names: str) -> int:
    bits = _whole(section, *names)
    if bits is None:
        raise _Unclear(f"`{names[0]}` is missing")
    return bits


def _group(section: Config, *names: str) -> int | None:
    """Weights per group; None for one group a row or a tensor, too few to count."""
    size = _whole(section, *names)
    return size if size is not None and size > 0 else None


def _gptq(section: Config) -> _Format:
    bits, group = _bits(section, "bits"), _group(section, "group_size")
    zero = 0 if section.get("sym", True) else bits
    return _Format(name=f"gptq-{bits}bit", bits=bits, group_size=group, zero_bits=zero)


def _awq(section: Config) -> _Format:
    bits, group = _bits(section, "bits", "w_bit"), _group(section, "group_size", "q_group_size")
    zero = bits if section.get("zero_point", True) else 0
    return _Format(name=f"awq-{bits}bit", bits=bits, group_size=group, zero_bits=zero)


def _fp8(section: Config) -> _Format:
    block = section.get("weight_block_size")
    found = _Format(name="fp8", bits=8, activation=8, integer=False)
    if block is None:
        return found
    if not isinstance(block, list) or len(block) != 2 or not all(type(side) is int for side in block):
        raise _Unclear(f"`weight_block_size` is {str(block)[:60]}, expected two whole numbers")
    rows, columns = block
    return replace(found, name=f"fp8-block{rows}x{columns}", group_size=rows * columns, scale_bits=32)


def _mxfp4(section: Config) -> _Format:
    # transformers converts the experts of gpt-oss only; the config lists what is left alone.
    return _Format(
        name="mxfp4-experts", bits=4, group_size=32, scale_bits=8, integer=False, experts_only=True
    )


def _bitsandbytes(section: Config) -> _Format:
    if section.get("load_in_8bit"):
        return _Format(name="bnb-int8", bits=8, activation=8)
    kind = section.get("bnb_4bit_quant_type", "fp4")
    double = bool(section.get("bnb_4bit_use_double_quant", False))
    # Groups of 64 with an fp32 scale; double quantisation keeps scales in 8 bits with one fp32 for 256.
    return _Format(
        name=f"bnb-{'nf4' if kind == 'nf4' else 'fp4'}{'-double' if double else ''}",
        bits=4,
        group_size=64,
        scale_bits=8.125 if double else 32,
        integer=False,
    )


def _bitnet(section: Config) -> _Format:
    return _Format(
        name="bitnet-packed", bits=2, activation=8, remarks=("ternary weights are packed four to a byte",)
    )


def _modelopt(section: Config) -> _Format:
    algorithm = str(section.get("quant_algo", "")).upper()
    kv_bits = 8.0 if "FP8" in str(section.get("kv_cache_quant_algo", "")).upper() else 16.0
    if algorithm == "NVFP4":
        found = _Format(name="nvfp4", bits=4, activation=4, group_size=16, scale_bits=8, integer=False)
    elif algorithm == "FP8":
        found = _Format(name="fp8", bits=8, activation=8, integer=False)
    else:
        raise _Unclear(f"`quant_algo` `{algorithm[:60]}` is not known")
    return replace(found, kv_cache=kv_bits)


def _compressed_tensors(section: Config) -> _Format:
    groups = section.get("config_groups")
    entries = list(groups.values()) if isinstance(groups, dict) else []
    formats = [_compressed_group(entry, section) for entry in entries if isinstance(entry, dict)]
    if not formats:
        raise _Unclear("`config_groups` is missing")
    if any(found != formats[0] for found in formats[1:]):
        raise _Unclear("groups of modules in different formats have no cost model")
    cache = section.get("kv_cache_scheme")
    kv_bits = _bits(cache, "num_bits") if isinstance(cache, dict) else 16
    return replace(formats[0], kv_cache=kv_bits, every_linear=True)


def _compressed_group(entry: Config, section: Config) -> _Format:
    weights, activations = entry.get("weights"), entry.get("input_activations")
    if not isinstance(weights, dict):
        raise _Unclear("`weights` of a group is missing")
    bits, group = _bits(weights, "num_bits"), _group(weights, "group_size")
    block = weights.get("block_structure")
    if isinstance(block, list) and len(block) == 2 and all(type(side) is int for side in block):
        group = block[0] * block[1]
    is_float = weights.get("type") == "float"
    active = _bits(activations, "num_bits") if isinstance(activations, dict) else 16
    # nvfp4 keeps e4m3 scales for 16 weights, mxfp4 e8m0 scales for 32.
    small_scale = is_float and bits == 4 and group is not None
    return _Format(
        name=f"{'fp' if is_float else 'int'}{bits}-w{bits}a{active}{f'-g{group}' if group else ''}",
        bits=bits,
        activation=active,
        group_size=group,
        scale_bits=8 if small_scale else 16,
        zero_bits=0 if weights.get("symmetric", True) else bits,
        integer=not is_float,
    )


_METHODS: Final[dict[str, Callable[[Config], _Format]]] = {
    "gptq": _gptq,
    "awq": _awq,
    "fp8": _fp8,
    "finegrained_fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "compressed-tensors": _compressed_tensors,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "bitnet": _bitnet,
    "modelopt": _modelopt,
}


def _ignored(section: Config) -> tuple[str, ...]:
    found: list[str] = []
    for key in _IGNORED_KEYS:
        entries = section.get(key)
        if isinstance(entries, list):
            found.extend(entry for entry in entries if isinstance(entry, str))
    return tuple(dict.fromkeys(found))


def _left_alone(patterns: Sequence[str]) -> set[str]:
    """The kinds of weights that patterns of module names leave unquantised in every layer."""
    kinds: set[str] = set()
    for pattern in patterns:
        # A pattern with a layer number speaks of that layer only.
        if re.search(r"(?:layers|h|blocks)\\?\.\d", pattern):
            continue
        words = set(re.findall(r"[a-z_]+", pattern.lower()))
        text = pattern.lower()
        if "lm_head" in text:
            kinds.add("lm_head")
        elif "router" in text or (words & {"gate"} and "proj" not in text):
            continue
        elif "attn" in text or "attention" in text:
            kinds.add("attention")
        elif "shared_expert" in text:
            kinds.add("shared experts")
        elif "expert" in text:
            kinds.add("experts")
        elif "mlp" in text:
            kinds.add("dense feed-forward")
    return kinds


def _quantization(found: _Format) -> Quantization:
    alone = _left_alone(found.ignored)
    bits = found.bits

    def unless(kind: str) -> float:
        return _UNQUANTISED_BITS if kind in alone else bits

    experts = unless("experts")
    whole = _UNQUANTISED_BITS if found.experts_only else None
    return Quantization(
        name=found.name,
        weight_attn=whole or unless("attention"),
        weight_ffn=whole or unless("dense feed-forward"),
        weight_experts=experts,
        weight_lm_head=unless("lm_head") if found.every_linear else None,
        activation=found.activation,
        kv_cache=found.kv_cache,
        group_size=found.group_size,
        scale_bits=found.scale_bits,
        zero_bits=found.zero_bits,
        integer=found.integer,
        notes=_notes(found, alone),
    )


def _notes(found: _Format, alone: set[str]) -> str:
    parts = ["from the `quantization_config` of the checkpoint", *found.remarks]
    if found.ignored:
        shown = ", ".join(f"`{pattern[:80]}`" for pattern in found.ignored[:_SHOWN])
        more = len(found.ignored) - _SHOWN
        parts.append(f"modules left unquantised: {shown}{f' and {more} more' if more > 0 else ''}")
    if "shared experts" in alone:
        parts.append("shared experts, left unquantised, are counted in the format of the routed ones")
    return "; ".join(parts)
