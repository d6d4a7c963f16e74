"""What each generation of chips offers: which precisions exist, and how wide its units are per clock.

Sources: NVIDIA's architecture whitepapers (Pascal 2016 to Blackwell 2025), AMD's CDNA and RDNA instruction
set guides, Intel's Xe and AMX guides. Only what a lint rule uses stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.spec.hardware import Precision

__all__ = ["Architecture", "architecture_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Traits of one generation; None where no rule needs the number or vendors do not publish it."""

    precisions: frozenset[Precision]
    """Every precision with units of its own."""
    lanes: int | None = None
    """fp32 lanes of one SM (NVIDIA)."""
    tensor_flops: int | None = None
    """Dense 16-bit FLOPs of one SM per clock (NVIDIA, accumulating in fp32 on data-centre parts)."""
    matrix_over_vector: float | None = None
    """Dense 16-bit matrix rate over the fp32 vector rate (AMD)."""
    int8_over_fp16: float | None = None
    """Where it is fixed by the design."""


def _offers(*precisions: Precision) -> frozenset[Precision]:
    return frozenset(precisions)


_PASCAL: Final = _offers("fp32", "fp16")
_TURING: Final = _PASCAL | _offers("int8", "int4")
_AMPERE: Final = _TURING | _offers("tf32", "bf16")
_ADA: Final = _AMPERE | _offers("fp8")
_HOPPER: Final = _ADA - _offers("int4")
_BLACKWELL: Final = _HOPPER | _offers("fp4")
_CDNA: Final = _offers("fp32", "fp16", "bf16", "int8")
_CDNA3: Final = _CDNA | _offers("tf32", "fp8")
_RDNA3: Final = _CDNA | _offers("int4")
_XE: Final = _CDNA | _offers("int4")
_AMX: Final = _offers("fp32", "bf16", "int8")

_KNOWN: Final[dict[str, Architecture]] = {
    "pascal": Architecture(precisions=_PASCAL),
    "pascal gp100": Architecture(precisions=_PASCAL, lanes=64),
    "volta": Architecture(precisions=_PASCAL, lanes=64, tensor_flops=1024),
    "turing": Architecture(precisions=_TURING, lanes=64, tensor_flops=1024),
    "ampere": Architecture(precisions=_AMPERE),
    "ampere ga100": Architecture(precisions=_AMPERE, lanes=64, tensor_flops=2048),
    "ampere ga10x": Architecture(precisions=_AMPERE, lanes=128, tensor_flops=1024),
    "ampere ga10b": Architecture(precisions=_AMPERE, lanes=128, tensor_flops=2048),
    "ada": Architecture(precisions=_ADA, lanes=128, tensor_flops=1024),
    "hopper": Architecture(precisions=_HOPPER, lanes=128, tensor_flops=4096),
    "blackwell": Architecture(precisions=_BLACKWELL),
    "blackwell gb100": Architecture(precisions=_BLACKWELL, lanes=128, tensor_flops=8192),
    "blackwell gb20x": Architecture(precisions=_BLACKWELL, lanes=128, tensor_flops=1024),
    "cdna 1": Architecture(precisions=_CDNA, matrix_over_vector=8, int8_over_fp16=1),
    "cdna 2": Architecture(precisions=_CDNA, matrix_over_vector=8, int8_over_fp16=1),
    "cdna 3": Architecture(precisions=_CDNA3, matrix_over_vector=8),
    "cdna 4": Architecture(precisions=_CDNA | _offers("fp8", "fp4"), matrix_over_vector=16),
    "rdna 3": Architecture(precisions=_RDNA3),
    "rdna 3.5": Architecture(precisions=_RDNA3),
    "rdna 4": Architecture(precisions=_RDNA3 | _offers("fp8")),
    "xe-hpc": Architecture(precisions=_XE | _offers("tf32")),
    "xe-hpg": Architecture(precisions=_XE),
    "xe2": Architecture(precisions=_XE | _offers("tf32")),
    "sapphire rapids": Architecture(precisions=_AMX),
    "emerald rapids": Architecture(precisions=_AMX),
    "granite rapids": Architecture(precisions=_AMX | _offers("fp16")),
}


def architecture_named(name: str | None) -> Architecture | None:
    """The traits of a generation by name; None for one that no rule knows."""
    return _KNOWN.get(" ".join(name.lower().split())) if name else None
