"""Catalogue entries in one line: the numbers people choose a device, a model or a format by."""

from __future__ import annotations

from typing import Final

from engine.spec.calibration import Calibration
from engine.spec.hardware import Hardware, Peaks, Precision
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.settings import Settings
from engine.units import format_quantity

__all__ = ["headline_peak", "summary_of"]

# The rate a 16-bit checkpoint runs at comes first; devices without matrix units show what they have.
_PREFERRED: Final[tuple[Precision, ...]] = ("bf16", "fp16", "fp32", "fp8", "int8", "fp4")


def summary_of(settings: Settings) -> str:
    """The entry in one line; unknown numbers are left out, never shown as 0."""
    if isinstance(settings, Hardware):
        return ", ".join(_hardware(settings))
    if isinstance(settings, Quantization):
        return ", ".join(_quantization(settings))
    if isinstance(settings, Calibration):
        return ", ".join(_calibration(settings))
    return ", ".join(_model(settings)) if isinstance(settings, Model) else ""


def _calibration(found: Calibration) -> list[str]:
    """What was measured where; the error is that of unseen shapes."""
    parts = [f"{found.engine} {found.engine_version}".strip(), f"on {found.device}"]
    for fit in found.operators:
        kind = fit.operator.replace("_", " ") + (f" x{fit.devices}" if fit.devices else "")
        parts.append(f"{kind} {fit.precision} {fit.held_out.median:.0%}")
    return parts


def headline_peak(peak: Peaks) -> tuple[Precision, float] | None:
    """The dense rate that stands for a device, FLOP/s, with its precision; None when none is published."""
    for precision in _PREFERRED:
        value = getattr(peak, precision)
        if value is not None:
            return precision, float(value)
    return None


def _hardware(device: Hardware) -> list[str]:
    parts = [_peak(device.peak)]
    parts.append(format_quantity(device.memory_bandwidth, "bytes_per_s"))
    if device.memory is not None:
        parts.append(f"{format_quantity(device.memory, 'bytes')} {device.memory_kind or ''}".strip())
    if device.power is not None:
        parts.append(format_quantity(device.power, "watts"))
    return [*parts, f"confidence {device.confidence}"]


def _peak(peak: Peaks) -> str:
    headline = headline_peak(peak)
    if headline is None:
        return "no dense peak"
    rates = set(peak.model_dump().values())
    label = "at any precision" if len(rates) == 1 else headline[0]
    return f"{format_quantity(headline[1], 'flops_per_s')} {label}"


def _quantization(number_format: Quantization) -> list[str]:
    q = number_format
    experts = q.weight_ffn if q.weight_experts is None else q.weight_experts
    widths = dict.fromkeys((q.weight_attn, q.weight_ffn, experts))
    weights = " and ".join(f"{width:g}" for width in widths)
    narrowest = min(widths)
    stored = f"weights {weights} bit ({q.weight_bytes(narrowest):.6g} B each)"
    return [stored, f"activations {q.activation:g} bit", f"cache {q.kv_cache:g} bit ({q.kv_bytes():.6g} B)"]


def _model(model: Model) -> list[str]:
    parts = [f"{model.num_hidden_layers} layers", f"hidden {model.hidden_size}"]
    parts.append(f"heads {model.num_attention_heads}/{model.kv_heads}")
    if model.moe is not None:
        parts.append("mixture of experts")
    if model.mla is not None:
        parts.append("latent attention")
    known = model.parameters
    return [f"{known / 1e9:.4g} B parameters", *parts] if known else parts
