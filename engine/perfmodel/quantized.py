"""Bytes of tensors in any number format, scales and zero points included, and the arithmetic it implies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.spec.hardware import Hardware, Precision
from engine.spec.model import Model
from engine.spec.quantization import Quantization

_LONGEST_ROW_GROUP: Final = 1024
"""Groups up to this size run along a row, however short the row."""


@dataclass(frozen=True)
class TensorFormat:
    """Bits of one kind of tensor and what its groups add."""

    bits: float
    group_size: int | None = None
    group_bits: float = 0.0
    """Scale and zero point of one group."""

    @property
    def element_bytes(self) -> float:
        """Bytes per element on average, groups included."""
        extra = self.group_bits / self.group_size if self.group_size else 0.0
        return (self.bits + extra) / 8

    def matrix_bytes(self, rows_in: int, columns_out: int) -> float:
        """Bytes of a matrix in -> out: every output has a whole number of groups along the input."""
        elements = rows_in * columns_out
        if self.group_size is None:
            return elements * self.bits / 8
        if self.group_size <= max(rows_in, _LONGEST_ROW_GROUP):
            groups = columns_out * -(-rows_in // self.group_size)
        else:
            # A group larger than a row is a block (128 x 128 in fp8 checkpoints).
            groups = -(-elements // self.group_size)
        return (elements * self.bits + groups * self.group_bits) / 8


@dataclass(frozen=True)
class Formats:
    """Every tensor kind of a model in its format."""

    attention: TensorFormat
    feed_forward: TensorFormat
    experts: TensorFormat
    embedding: TensorFormat
    lm_head: TensorFormat
    router: TensorFormat
    norm: TensorFormat
    activation_bytes: float
    kv: TensorFormat
    rope_bytes: float


def formats_of(quantization: Quantization) -> Formats:
    """The formats a quantization means; only components below 16 bits carry group scales."""
    q = quantization

    def weights(bits: float) -> TensorFormat:
        if q.group_size is None or bits >= 16:
            return TensorFormat(bits)
        return TensorFormat(bits, q.group_size, q.scale_bits + q.zero_bits)

    cache = TensorFormat(q.kv_cache)
    if q.kv_group_size is not None and q.kv_cache < 16:
        cache = TensorFormat(q.kv_cache, q.kv_group_size, q.kv_scale_bits)
    experts = q.weight_ffn if q.weight_experts is None else q.weight_experts
    head = q.weight_embedding if q.weight_lm_head is None else q.weight_lm_head
    return Formats(
        attention=weights(q.weight_attn),
        feed_forward=weights(q.weight_ffn),
        experts=weights(experts),
        embedding=weights(q.weight_embedding),
        lm_head=weights(head),
        router=weights(q.weight_router),
        norm=TensorFormat(q.weight_norm),
        activation_bytes=q.activation / 8,
        kv=cache,
        rope_bytes=q.rope / 8,
    )


_STEPS: Final = (4, 8, 16, 32)


def compute_precision(quantization: Quantization, *operand_bits: float) -> Precision:
    """The arithmetic of a matrix product: the wider operand decides, so int4 weights on 16-bit
    activations compute in 16 bits."""
    if quantization.compute is not None:
        return quantization.compute
    widest = max(operand_bits)
    step = next((step for step in _STEPS if widest <= step), 32)
    if step == 4:
        return "int4" if quantization.integer else "fp4"
    if step == 8:
        return "int8" if quantization.integer else "fp8"
    return "bf16" if step == 16 else "fp32"


def peak_flops_per_s(hardware: Hardware, precision: Precision) -> float | None:
    """Dense peak of a precision; 16-bit formats share one rate where the device offers only one of them."""
    peak = getattr(hardware.peak, precision)
    if peak is None and precision in ("bf16", "fp16"):
        peak = hardware.peak.fp16 if precision == "bf16" else hardware.peak.bf16
    return None if peak is None else float(peak)


def component_precisions(model: Model, quantization: Quantization) -> dict[str, Precision]:
    """The arithmetic of each group of matrix products of a model."""
    q, f = quantization, formats_of(quantization)
    found: dict[str, Precision] = {
        "attention projections": compute_precision(q, f.attention.bits, q.activation),
        "attention": compute_precision(q, q.kv_cache, q.activation),
        "output head": compute_precision(q, f.lm_head.bits, q.activation),
    }
    kinds = {run.feed_forward for run in model.layer_runs}
    if "dense" in kinds:
        found["feed-forward layers"] = compute_precision(q, f.feed_forward.bits, q.activation)
    if "moe" in kinds:
        found["experts"] = compute_precision(q, f.experts.bits, q.activation)
        found["router"] = compute_precision(q, f.router.bits, q.activation)
    return found


def missing_precisions(model: Model, quantization: Quantization, hardware: Hardware) -> dict[Precision, str]:
    """Precisions the format needs and the device lacks, each with what would use it."""
    components = component_precisions(model, quantization)
    missing: dict[Precision, list[str]] = {}
    for user, precision in components.items():
        if peak_flops_per_s(hardware, precision) is None:
            missing.setdefault(precision, []).append(user)
    return {
        precision: "everything" if len(users) == len(components) else _listed(users)
        for precision, users in missing.items()
    }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
