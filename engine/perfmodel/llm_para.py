"""Operators in the columns, names and rules of LLM-para's CSV, for people who have scripts that read it.

That dialect counts differently from our own table: one layer, the full attention rectangle with scores
kept in memory, all experts in prefill and `k` in decode, no norms, softmax, embedding or output head. Its
`Decode_Last`, documented but never written by it, is here the step that sees prompt plus output.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload

COLUMNS: Final = (
    "Phase",
    "Operation",
    "FLOPs",
    "Param Count",
    "Input1 Bytes",
    "Input2 Bytes",
    "Output Bytes",
    "Total Bytes",
    "Density (Op/Byte)",
    "input_shape",
    "weight_shape",
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Layer:
    """Shape and bits in the dialect's terms."""

    model: Model
    bits: Quantization
    batch: int
    new: int
    cached: int
    phase: str

    @property
    def head_size(self) -> int:
        return self.model.hidden_size // self.model.num_attention_heads

    @property
    def kv_width(self) -> int:
        return self.head_size * self.model.kv_heads

    @property
    def ffn_width(self) -> int:
        if self.model.moe is not None:
            return self.model.moe.intermediate_size
        return self.model.intermediate_size or 4 * self.model.hidden_size

    @property
    def context(self) -> int:
        return self.cached + self.new


def llm_para_rows(
    model: Model, quantization: Quantization, workload: Workload
) -> list[dict[str, str | float]]:
    """Rows of one layer in the dialect's order: `Prefill`, `Decode`, `Decode_Last`; densities to 0.01."""
    s, last = workload.prompt_tokens, workload.prompt_tokens + workload.output_tokens - 1
    phases = (("Prefill", s, 0), ("Decode", 1, s), ("Decode_Last", 1, last))
    rows: list[dict[str, str | float]] = []
    for phase, new, cached in phases:
        layer = _Layer(model, quantization, workload.batch_size, new, cached, phase)
        rows += _attention(layer)
        rows += _ffn(layer) if model.moe is None else _experts(layer)
    return rows


def llm_para_csv(rows: Sequence[dict[str, str | float]]) -> str:
    """The rows as the text of a CSV file."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(
    layer: _Layer,
    name: str,
    flops: float,
    parameters: int,
    *,
    shapes: tuple[Shape, Shape, Shape],
    second_bits: float,
) -> dict[str, str | float]:
    first, second, output = shapes
    activation = layer.bits.activation
    sizes = [
        prod(first) * activation / 8,
        prod(second) * second_bits / 8,
        prod(output) * activation / 8,
    ]
    total = sizes[0] + sizes[2] + sizes[1]
    density: str | float = round(flops / total, 2) if total else "-"
    values = (
        layer.phase,
        name,
        float(flops),
        float(parameters),
        *sizes,
        total,
        density,
        str(first),
        str(second),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _projection(layer: _Layer, name: str, inner: int, outer: int, bits: float) -> dict[str, str | float]:
    b, s = layer.batch, layer.new
    shapes = ((b, s, inner), (inner, outer), (b, s, outer))
    return _row(layer, name, 2 * b * s * inner * outer, inner * outer, shapes=shapes, second_bits=bits)


def _attention(layer: _Layer) -> list[dict[str, str | float]]:
    model, bits = layer.model, layer.bits
    h, n, kv, d = model.hidden_size, model.num_attention_heads, model.kv_heads, layer.head_size
    b, s, c = layer.batch, layer.new, layer.context
    rows = [
        _projection(layer, "xW_Q", h, h, bits.weight_attn),
        _projection(layer, "xW_K", h, layer.kv_width, bits.weight_attn),
        _projection(layer, "xW_V", h, layer.kv_width, bits.weight_attn),
    ]
    if model.position_embedding == "rope":
        for name, heads in (("RoPE-Q", n), ("RoPE-K", kv)):
            # Two multiplications and two additions a pair; the table has a row for each new position.
            turned = (b, heads, s, d)
            shapes = (turned, (s, d), turned)
            rows.append(
                _row(layer, name, b * s * heads * (d // 2) * 4, 0, shapes=shapes, second_bits=bits.rope)
            )
    flops = 2 * b * n * s * c * d
    queries, scores = (b, n, s, d), (b, n, s, c)
    rows += [
        _row(layer, "Q × Kᵀ", flops, 0, shapes=(queries, (b, kv, d, c), scores), second_bits=bits.kv_cache),
        _row(layer, "Attn × V", flops, 0, shapes=(scores, (b, kv, c, d), queries), second_bits=bits.kv_cache),
        _projection(layer, "xW_O", h, h, bits.weight_attn),
    ]
    return rows


def _ffn(layer: _Layer) -> list[dict[str, str | float]]:
    h, f, bits = layer.model.hidden_size, layer.ffn_width, layer.bits.weight_ffn
    b, s = layer.batch, layer.new
    down = _projection(layer, "FFN-2", f, h, bits)
    if not layer.model.gated_ffn:
        return [_projection(layer, "FFN-1", h, f, bits), down]
    # One operation per element for the product with the gate, one output tensor.
    flops = 4 * b * s * h * f + b * s * f
    shapes = ((b, s, h), (2, h, f), (b, s, f))
    return [_row(layer, "FFN-1 (with Gate)", flops, 2 * h * f, shapes=shapes, second_bits=bits), down]


def _experts(layer: _Layer) -> list[dict[str, str | float]]:
    moe = layer.model.moe
    if moe is None:
        return []
    h, f, bits = layer.model.hidden_size, layer.ffn_width, layer.bits.weight_ffn
    b, k = layer.batch, moe.num_experts_per_tok
    rows = layer.new * k
    # The dialect charges every expert in prefill and k in decode, whatever the batch.
    charged = moe.num_experts if layer.phase == "Prefill" else k
    up = 4 * b * rows * h * f + b * rows * f
    return [
        _projection(layer, "Router", h, moe.num_experts, bits),
        _row(
            layer,
            "FFN-1(with MoE)",
            up,
            2 * h * f * charged,
            shapes=((b, rows, h), (h, f * 2 * charged), (b, rows, f)),
            second_bits=bits,
        ),
        _row(
            layer,
            "FFN-2(with MoE)",
            2 * b * rows * f * h,
            f * h * charged,
            shapes=((b, rows, f), (charged, f, h), (b, rows, h)),
            second_bits=bits,
        ),
    ]
