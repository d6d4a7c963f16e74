"""What the settings of a number format say about each other and about its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from engine.spec.lint_rules import Finding
from engine.spec.quantization import UNSCALED_BITS, Quantization

__all__ = ["lint_quantization"]

_WIDTHS_IN_NAME: Final = re.compile(r"(?:^|-)w(\d+)a(\d+)(?:-|$)")
_GROUP_IN_NAME: Final = re.compile(r"(?:^|-)g(\d+)(?:-|$)")
# Scales that take more than the elements they belong to are a slip of units, bits for bytes for example.
_LARGEST_SHARE: Final = 0.5


def lint_quantization(number_format: Quantization, *, name: str = "") -> list[Finding]:
    """Findings on one number format; `name` is the one it is found under, where that is not its own."""
    return [
        *_scales(number_format),
        *_names(number_format, name or number_format.name),
        *_arithmetic(number_format),
        *_words(number_format),
    ]


def _weights(q: Quantization) -> dict[str, float]:
    found = {name: getattr(q, name) for name in type(q).model_fields if name.startswith("weight_")}
    return {name: bits for name, bits in found.items() if bits is not None}


def _scales(q: Quantization) -> Iterator[Finding]:
    narrow = [bits for bits in _weights(q).values() if bits < UNSCALED_BITS]
    if q.group_size is not None and not narrow:
        yield Finding(
            rule="scales",
            field="group_size",
            message="`group_size` is given, but no weight is narrower than 16 bits",
        )
    if q.group_size is None and q.zero_bits:
        yield Finding(
            rule="scales",
            field="zero_bits",
            message="zero points are counted once a group; give `group_size`",
        )
    if q.kv_group_size is not None and q.kv_cache >= UNSCALED_BITS:
        yield Finding(
            rule="scales",
            field="kv_group_size",
            message="`kv_group_size` is given, but the cache is not narrower than 16 bits",
        )
    groups = (
        ("group_size", q.group_size, q.scale_bits + q.zero_bits, min(narrow, default=16.0)),
        ("kv_group_size", q.kv_group_size, q.kv_scale_bits, q.kv_cache),
    )
    for field, size, bits, width in groups:
        if size is not None and bits / size > _LARGEST_SHARE * width:
            yield Finding(
                rule="scales",
                field=field,
                message=f"scales add {bits / size:.3g} bits to {width:g}-bit elements",
                hint="sizes of groups are counted in elements, scales in bits",
            )


def _names(q: Quantization, name: str) -> Iterator[Finding]:
    if found := _WIDTHS_IN_NAME.search(name):
        weight, activation = float(found[1]), float(found[2])
        if weight not in _weights(q).values():
            yield Finding(
                rule="name",
                field="weight_ffn",
                message=f"the name says {weight:g}-bit weights; no component has them",
            )
        if activation != q.activation:
            yield Finding(
                rule="name",
                field="activation",
                message=f"the name says {activation:g}-bit activations, `activation` says {q.activation:g}",
            )
    if (found := _GROUP_IN_NAME.search(name)) and q.group_size != int(found[1]):
        yield Finding(
            rule="name",
            field="group_size",
            message=f"the name says groups of {found[1]}, `group_size` says {q.group_size or 'none'}",
        )


def _arithmetic(q: Quantization) -> Iterator[Finding]:
    computed = {"fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4}
    if q.compute is None:
        return
    if q.compute in ("fp8", "fp4", "int8", "int4") and q.integer is not q.compute.startswith("int"):
        yield Finding(
            rule="arithmetic",
            field="integer",
            message=f"`integer: {str(q.integer).lower()}` contradicts `compute: {q.compute}`",
        )
    widest = max(q.activation, *(_weights(q)[name] for name in ("weight_attn", "weight_ffn")))
    if computed[q.compute] < widest:
        yield Finding(
            rule="arithmetic",
            field="compute",
            message=f"{q.compute} cannot take {widest:g}-bit operands",
            hint="the wider operand decides; leave `compute` out",
        )


def _words(q: Quantization) -> Iterator[Finding]:
    if not q.notes:
        yield Finding(
            rule="source",
            field="",
            message="no note says where the format comes from",
            severity="warning",
        )
