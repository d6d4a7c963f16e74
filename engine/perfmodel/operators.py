"""The operator table: everything one device does for one layer and for the model's ends, as terms.

A term is an amount per unit of a workload quantity (`T` tokens, `Q` attended pairs ...). Sums over
operators, layers and steps are then sums of coefficients, made once; a reader can check any row by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from engine.perfmodel.quantized import Formats, TensorFormat, compute_precision, formats_of
from engine.spec.analytical import AnalyticalSettings
from engine.spec.hardware import Precision
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism

Symbol = Literal["1", "T", "N", "B", "Q", "K", "R", "H"]
SYMBOLS: Final[Mapping[str, str]] = {
    "1": "constant",
    "T": "tokens of the step",
    "N": "tokens that get logits",
    "B": "sequences",
    "Q": "query-key pairs attended, per head, summed over sequences",
    "K": "cached positions read, summed over sequences",
    "R": "rows of expert matrix products (tokens x experts per token)",
    "H": "distinct experts touched",
}
Terms: TypeAlias = Mapping[str, float]
"""Amount per unit of each workload quantity."""

Mask = Literal["full", "window", "sparse"]
Bucket = Literal["body", "head", "attention"]
Variant = Literal["", "absorbed", "expanded"]


@dataclass(frozen=True)
class Operator:
    """One operator of one layer (or of the model's ends) on one device."""

    name: str
    precision: Precision
    flops: Terms = field(default_factory=dict)
    parameters: int = 0
    """Of the whole model, not of the device's share."""
    weight_bytes: Terms = field(default_factory=dict)
    input_bytes: Terms = field(default_factory=dict)
    output_bytes: Terms = field(default_factory=dict)
    kv_read_bytes: Terms = field(default_factory=dict)
    kv_write_bytes: Terms = field(default_factory=dict)
    stored_bytes: float = 0.0
    """Weights this device holds for the operator, all its experts included."""
    formula: str = ""
    bucket: Bucket = "body"
    mask: Mask = "full"
    """Which positions `Q` and `K` count."""
    variant: Variant = ""
    """Form of latent attention this row belongs to."""

    @property
    def total_bytes(self) -> Terms:
        """Device-memory traffic of every kind together."""
        return add_terms(
            self.weight_bytes, self.input_bytes, self.output_bytes, self.kv_read_bytes, self.kv_write_bytes
        )


@dataclass(frozen=True)
class Share:
    """What one device of a tensor and expert group works with; the whole model when nothing is split."""

    model: Model
    formats: Formats
    quantization: Quantization
    settings: AnalyticalSettings
    tensor: int = 1
    expert: int = 1
    expert_tensor: int = 1
    """Devices over which each single expert is cut."""
    sequence_parallel: bool = False

    @property
    def activation(self) -> float:
        """Bytes per activation element."""
        return self.formats.activation_bytes

    @property
    def token_share(self) -> float:
        """Share of the tokens whose norms and residuals this device computes."""
        return 1 / self.tensor if self.sequence_parallel else 1

    @property
    def query_heads(self) -> int:
        """Query heads on this device."""
        return ceil_div(self.model.num_attention_heads, self.tensor)

    @property
    def kv_heads(self) -> int:
        """Key/value heads on this device; replicated when there are more devices than heads."""
        return ceil_div(self.model.kv_heads, self.tensor)

    def precision(self, *operand_bits: float) -> Precision:
        """Arithmetic of a product of these operands and activations."""
        return compute_precision(self.quantization, self.quantization.activation, *operand_bits)


def share_of(
    model: Model, quantization: Quantization, parallelism: Parallelism, settings: AnalyticalSettings
) -> Share:
    """The share of the fullest device of a group."""
    tensor, expert = parallelism.tensor, parallelism.expert
    return Share(
        model=model,
        formats=formats_of(quantization),
        quantization=quantization,
        settings=settings,
        tensor=tensor,
        expert=expert,
        expert_tensor=max(1, tensor // expert),
        sequence_parallel=parallelism.sequence_parallel and tensor > 1,
    )


def whole(share: Share) -> Share:
    """The same model on one device, for parameter counts."""
    return replace(share, tensor=1, expert=1, expert_tensor=1, sequence_parallel=False)


def ceil_div(a: int, b: int) -> int:
    """`a / b` rounded up."""
    return -(-a // b)


def terms(**amounts: float) -> dict[str, float]:
    """Terms by symbol; `one` is the constant. Zero amounts are left out."""
    named = {("1" if name == "one" else name): amount for name, amount in amounts.items()}
    return {symbol: amount for symbol, amount in named.items() if amount}


def add_terms(*parts: Terms) -> dict[str, float]:
    """Sum of terms."""
    total: dict[str, float] = {}
    for part in parts:
        for symbol, amount in part.items():
            total[symbol] = total.get(symbol, 0) + amount
    return total


def scale_terms(part: Terms, factor: float) -> dict[str, float]:
    """Terms times a number."""
    return {symbol: amount * factor for symbol, amount in part.items()}


def linear(
    share: Share,
    name: str,
    rows: Symbol,
    *,
    size: tuple[int, int],
    whole_size: tuple[int, int],
    weights: TensorFormat,
    bias: bool = False,
    reads_input: bool = True,
    owns_weights: bool = True,
    bucket: Bucket = "body",
    variant: Variant = "",
) -> Operator:
    """A matrix product of `rows` activations with a weight matrix in -> out."""
    inner, outer = size
    b = share.activation
    stored = weights.matrix_bytes(inner, outer) + (outer * share.formats.norm.element_bytes if bias else 0)
    read = f" + {rows}·{inner}·{number_text(b)}" if reads_input else ""
    formula = (
        f"FLOPs 2·{rows}·{inner}·{outer}{f' + {rows}·{outer}' if bias else ''}; "
        f"bytes {inner}·{outer}·{number_text(weights.element_bytes)}{read} + {rows}·{outer}·{number_text(b)}"
    )
    return Operator(
        name,
        share.precision(weights.bits),
        flops=terms(**{rows: 2 * inner * outer + (outer if bias else 0)}),
        parameters=(whole_size[0] * whole_size[1] + (whole_size[1] if bias else 0)) if owns_weights else 0,
        weight_bytes=terms(one=stored),
        input_bytes=terms(**{rows: inner * b}) if reads_input else {},
        output_bytes=terms(**{rows: outer * b}),
        stored_bytes=stored if owns_weights else 0.0,
        formula=formula,
        bucket=bucket,
        variant=variant,
    )


def elementwise(
    share: Share,
    name: str,
    rows: Symbol,
    *,
    flops: float,
    reads: float,
    writes: float,
    parameters: int = 0,
    local_parameters: int | None = None,
    bucket: Bucket = "body",
    formula: str,
) -> Operator:
    """An operator that touches each activation once: FLOPs, elements read and written per row."""
    b = share.activation
    held = parameters if local_parameters is None else local_parameters
    stored = held * share.formats.norm.element_bytes
    return Operator(
        name,
        share.precision(),
        flops=terms(**{rows: flops}),
        parameters=parameters,
        weight_bytes=terms(one=stored),
        input_bytes=terms(**{rows: reads * b}),
        output_bytes=terms(**{rows: writes * b}),
        stored_bytes=stored,
        formula=formula,
        bucket=bucket,
    )


def norm(
    share: Share, name: str, rows: Symbol = "T", *, width: int | None = None, held: int | None = None
) -> Operator:
    """A norm over the residual stream, or over `width` elements of which this device has `held`."""
    full = share.model.hidden_size if width is None else width
    held = full if held is None else held
    layered = share.model.norm == "layer"
    per_element = 7 if layered else 4
    weights = 2 if layered and share.model.norm_bias else 1
    portion = share.token_share if rows == "T" and width is None else 1
    return elementwise(
        share,
        name,
        rows,
        flops=per_element * held * portion,
        reads=held * portion,
        writes=held * portion,
        parameters=weights * full,
        local_parameters=weights * held,
        bucket="head" if rows == "N" else "body",
        formula=f"FLOPs {per_element}·{rows}·{held}; bytes 2·{rows}·{held}·{number_text(share.activation)} "
        f"+ {weights * held}·{number_text(share.formats.norm.element_bytes)}",
    )


def residual(share: Share, name: str) -> Operator:
    """Addition of a branch to the residual stream."""
    h = share.model.hidden_size * share.token_share
    return elementwise(
        share,
        name,
        "T",
        flops=h,
        reads=2 * h,
        writes=h,
        formula=f"FLOPs T·{number_text(h)}; bytes 3·T·{number_text(h)}·{number_text(share.activation)}",
    )


def embedding_operators(share: Share) -> list[Operator]:
    """Token embedding (a gather, no matrix product), its projection and norm, and learned positions."""
    model, f = share.model, share.formats
    h, rows = model.hidden_size, ceil_div(model.vocab_size, share.tensor)
    width = model.embedding_size or h
    read, b = f.embedding.element_bytes, share.activation
    operators = [
        Operator(
            "embedding",
            share.precision(),
            parameters=model.vocab_size * width,
            # Each device of a tensor group holds, and so reads, the rows of its part of the vocabulary.
            input_bytes=terms(T=width * read / share.tensor),
            output_bytes=terms(T=width * b),
            stored_bytes=f.embedding.matrix_bytes(width, rows),
            formula=f"FLOPs 0; bytes T·{width}·{number_text(read)} + T·{width}·{number_text(b)}",
        )
    ]
    if width != h:
        size = (width, h)
        operators.append(linear(share, "embedding up", "T", size=size, whole_size=size, weights=f.embedding))
    if model.position_embedding == "learned":
        positions = model.learned_positions * h
        operators.append(
            Operator(
                "position embedding",
                share.precision(),
                flops=terms(T=h),
                parameters=positions,
                input_bytes=terms(T=h * (read + b)),
                output_bytes=terms(T=h * b),
                stored_bytes=positions * read,
                formula=f"FLOPs T·{h}; bytes T·{h}·{number_text(read)} + 2·T·{h}·{number_text(b)}",
            )
        )
    if model.embedding_norm:
        operators.append(norm(share, "embedding norm"))
    return operators


def head_operators(share: Share) -> list[Operator]:
    """Final norm and output head; a tied head has no parameters of its own but is read all the same."""
    model, f = share.model, share.formats
    width, local = model.embedding_size or model.hidden_size, ceil_div(model.vocab_size, share.tensor)
    tied = model.tie_word_embeddings
    head = linear(
        share,
        "LM head",
        "N",
        size=(width, local),
        whole_size=(width, model.vocab_size),
        weights=f.lm_head,
        bias=model.lm_head_bias,
        owns_weights=not tied,
        bucket="head",
    )
    if tied and model.lm_head_bias:
        head = replace(head, parameters=model.vocab_size)
    operators = [norm(share, "final norm", "N")] if model.final_norm else []
    if width != model.hidden_size:
        size = (model.hidden_size, width)
        down = linear(
            share, "embedding down", "N", size=size, whole_size=size, weights=f.embedding, bucket="head"
        )
        operators.append(down)
    return [*operators, head]


def number_text(value: float) -> str:
    """A coefficient as text: whole numbers in full."""
    return f"{value:g}" if value != int(value) else str(int(value))
