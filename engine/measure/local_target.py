"""What a local target builds for a point: the same model whether it is timed or metered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import MeasurementError

if TYPE_CHECKING:
    from engine.measure.local_model import LocalRequest
    from engine.plan.point import Point
    from engine.spec.live import LocalTarget
    from engine.spec.workload import Parallelism

__all__ = ["request_of", "spread_over"]

_NOT_HERE = ("tensor", "data", "expert", "micro_batches")


def request_of(target: LocalTarget, point: Point, *, folder: Path, seed: int) -> LocalRequest:
    """The model of a point, its number format and its devices; raises `MeasurementError` for what a local
    target cannot be."""
    from engine.measure.local_model import LocalRequest, dtype_name_of

    c = point.combination
    devices = spread_over(c.parallelism)
    bits = min(c.quantization.weight_attn, c.quantization.weight_ffn)
    return LocalRequest(
        c.model,
        weights=target.weights,
        device=target.device,
        dtype=dtype_name_of(c.quantization, wanted=target.dtype),
        attention=target.attention,
        weight_bits=16 if target.dtype != "auto" else 4 if bits <= 4 else 8 if bits <= 8 else 16,
        group_size=c.quantization.group_size,
        quantizer=target.quantizer,
        threads=target.threads,
        devices=devices,
        search=(folder,),
        seed=seed,
    )


def spread_over(parallelism: Parallelism) -> int:
    """Devices that the layers are spread over: `pipeline`, and nothing else can be asked for here."""
    for name in _NOT_HERE:
        if (asked := getattr(parallelism, name)) > 1:
            raise MeasurementError(
                f"a local target spreads whole layers (`parallelism.pipeline`), the point asks for "
                f"`{name}: {asked}`",
                hint="measure a server that spreads the model, with `target: {kind: openai}`",
            )
    return parallelism.pipeline
