"""FLOPs of a training sequence by two conventions, and the share of a node's peak they make.

Reference: the convention of the NeuronX training scripts (aws-neuron/neuronx-distributed-training), kept so
that published MFU numbers can be compared. It counts attention without causality, a softmax, and the input
embedding as a matrix product. Causal: what a causal model must do at least - matrix products only, each
query against the keys it may see, the embedding as the table look-up it is. Both count a multiply-add as two
and the backward pass as twice the forward pass; recomputation of activations is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import MeasurementError
from engine.spec.catalog import load_hardware
from engine.spec.model import LayerRun, Model

NODE_PEAKS: Final = {
    # bf16, per node: trn1.32xlarge 16 chips x 190 TFLOP/s, trn2.48xlarge 16 x 667; the rounded figures of
    # aws-neuron/neuronx-distributed-training, 2025.
    "trn1": 3040e12,
    "trn2": 10672e12,
}
_BACKWARD: Final = 2
"""A backward pass computes gradients of inputs and of weights: two products for each one."""


@dataclass(frozen=True)
class SequenceFlops:
    """FLOPs of one sequence in a forward pass, by part."""

    attention: int
    feed_forward: int
    embedding: int
    """Input embedding, where the convention counts it."""
    head: int
    """Logits of every position."""

    @property
    def forward(self) -> int:
        """The whole forward pass."""
        return self.attention + self.feed_forward + self.embedding + self.head

    @property
    def training(self) -> int:
        """Forward and backward pass."""
        return (1 + _BACKWARD) * self.forward


def reference_flops(model: Model, tokens: int) -> SequenceFlops:
    """FLOPs of a sequence of `tokens` by the reference convention.

    Raises `MeasurementError` for a model it does not describe: it knows dense layers of grouped heads only.
    """
    width = model.intermediate_size
    if model.moe or model.mla or model.linear_attention or width is None:
        raise MeasurementError(
            f"the reference FLOP convention knows dense layers with grouped heads only, not `{model.name}`"
        )
    hidden, heads = model.hidden_size, model.num_attention_heads
    per_head = hidden // heads
    attention = (
        4 * hidden**2 * tokens
        + 4 * model.kv_heads * per_head * hidden * tokens
        + 4 * tokens**2 * hidden
        + 6 * heads * tokens**2
    )
    table = 2 * model.vocab_size * hidden * tokens
    layers = model.num_hidden_layers
    return SequenceFlops(layers * attention, layers * 6 * hidden * width * tokens, table, table)


def reference_departures(model: Model) -> Iterator[str]:
    """Where a model differs from what the reference convention takes every model for."""
    if not model.gated_ffn:
        yield f"the reference convention counts three feed-forward matrices a layer; `{model.name}` has two"
    own = model.hidden_size // model.num_attention_heads
    if model.head_size != own:
        yield (
            f"the reference convention takes heads of {own}, hidden size over heads; "
            f"those of `{model.name}` have {model.head_size}"
        )


def causal_flops(model: Model, tokens: int) -> SequenceFlops:
    """FLOPs of the matrix products of a sequence of `tokens`, each query seeing only what came before.

    Raises `MeasurementError` for latent and linear attention, whose training products depend on the kernel.
    """
    if model.mla or model.linear_attention:
        raise MeasurementError(
            f"the causal FLOP convention knows softmax attention with grouped heads only, not `{model.name}`"
        )
    attention = feed_forward = 0
    for run in model.layer_runs:
        attention += run.count * _attention(model, run, tokens)
        feed_forward += run.count * 2 * _active_weights(model, run) * tokens
    head = 2 * model.vocab_size * (model.embedding_size or model.hidden_size) * tokens
    return SequenceFlops(attention, feed_forward, 0, head)


def _attention(model: Model, run: LayerRun, tokens: int) -> int:
    query = model.num_attention_heads * model.head_size
    keys = model.kv_heads * model.head_size
    read = query * (2 if model.attention_gate else 1) + 2 * keys
    return 2 * model.hidden_size * (read + query) * tokens + 4 * query * _pairs(model, run, tokens)


def _pairs(model: Model, run: LayerRun, tokens: int) -> int:
    """Query-key pairs of one sequence: the n-th query sees n keys, or those of its window."""
    window = model.sliding_window if run.attention == "window" else None
    if window is None or window.tokens >= tokens:
        return tokens * (tokens + 1) // 2
    size = window.tokens
    if window.kind == "chunked":
        chunks, rest = divmod(tokens, size)
        return chunks * size * (size + 1) // 2 + rest * (rest + 1) // 2
    return size * (size + 1) // 2 + (tokens - size) * size


def _active_weights(model: Model, run: LayerRun) -> int:
    """Weights of the feed-forward products that one token goes through."""
    matrices = 3 if model.gated_ffn else 2
    moe = model.moe if run.feed_forward == "moe" else None
    if moe is None:
        return matrices * model.hidden_size * (model.intermediate_size or 0)
    shared = moe.num_shared_experts * (moe.shared_intermediate_size or moe.intermediate_size)
    width = moe.num_experts_per_tok * moe.intermediate_size + shared
    return matrices * model.hidden_size * width + model.hidden_size * moe.num_experts


@dataclass(frozen=True)
class NodePeak:
    """What a node can do at most."""

    name: str
    flops_per_s: float
    basis: str
    """How it was found, for people."""


def node_peak(
    backend: str, *, devices: int | None, precision: str = "bf16", search: Sequence[Path] = ()
) -> NodePeak:
    """The peak of one node of a backend (trn1, trn2) or of `devices` devices of the catalogue.

    Raises `CatalogError` for an unknown name, `MeasurementError` for a device without that precision.
    """
    if backend in NODE_PEAKS and devices is None:
        return NodePeak(backend, NODE_PEAKS[backend], f"{NODE_PEAKS[backend] / 1e12:g} TFLOP/s, bf16")
    hardware = load_hardware(backend, search=search)
    peak = getattr(hardware.peak, precision, None)
    if peak is None:
        raise MeasurementError(f"`{backend}` has no peak in `{precision}`", hint="choose another `precision`")
    count = devices or 1
    basis = f"{count} x {peak / 1e12:g} TFLOP/s {precision}"
    return NodePeak(hardware.name, count * peak, basis)


def mfu(flops_per_sequence: float, sequences_per_s: float, *, nodes: int, peak_flops_per_s: float) -> float:
    """Share of the peak of all nodes that a training throughput makes of its FLOPs, 1 being all of it."""
    return sequences_per_s * flops_per_sequence / nodes / peak_flops_per_s
