"""Dense feed-forward layers and mixtures of experts as operator rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from engine.perfmodel.operators import (
    Operator,
    Share,
    Symbol,
    ceil_div,
    elementwise,
    linear,
    norm,
    number_text,
    terms,
)
from engine.perfmodel.quantized import TensorFormat
from engine.spec.model import MixtureOfExperts

# Operations per element: SiLU is exp, add, divide, multiply; tanh-GELU by its usual polynomial.
_ACTIVATION_FLOPS: Final = {"silu": 4, "gelu": 8, "gelu_tanh": 8, "relu": 1, "relu2": 2}


def dense_operators(share: Share) -> list[Operator]:
    """A feed-forward layer with every token through the same matrices."""
    width = share.model.intermediate_size or 0
    return _matrices(
        share,
        "",
        "T",
        width=(ceil_div(width, share.tensor), width),
        weights=share.formats.feed_forward,
        bias=share.model.mlp_bias,
    )


def moe_operators(share: Share, moe: MixtureOfExperts) -> list[Operator]:
    """Router, routed experts, shared experts and the weighted sum of their outputs."""
    h = share.model.hidden_size
    router = _router(share, moe)
    operators = [router, *_expert_matrices(share, moe)]
    if moe.num_shared_experts:
        operators += _shared_experts(share, moe)
    # Each token's k expert rows (and the shared one) are read back, weighted and added.
    k = moe.num_experts_per_tok
    operators.append(
        elementwise(
            share,
            "combine",
            "T",
            flops=2 * k * h,
            reads=k * h,
            writes=h,
            formula=f"FLOPs 2·T·{k}·{h}; bytes T·({k} + 1)·{h}·{number_text(share.activation)}",
        )
    )
    return operators


def _router(share: Share, moe: MixtureOfExperts) -> Operator:
    size = (share.model.hidden_size, moe.num_experts)
    router = linear(share, "router", "T", size=size, whole_size=size, weights=share.formats.router)
    if moe.router_bias:
        # One correction term per expert, added to the scores: its bytes do not show beside the matrix.
        extra = moe.num_experts * share.formats.router.element_bytes
        router = replace(
            router, parameters=router.parameters + moe.num_experts, stored_bytes=router.stored_bytes + extra
        )
    if share.settings.router_softmax:
        per_token = 2 * size[0] * size[1] + 5 * moe.num_experts
        router = replace(
            router, flops=terms(T=per_token), formula=router.formula + f"; softmax 5·T·{moe.num_experts}"
        )
    return router


def _shared_experts(share: Share, moe: MixtureOfExperts) -> list[Operator]:
    width = (moe.shared_intermediate_size or moe.intermediate_size) * moe.num_shared_experts
    operators = _matrices(
        share,
        "shared ",
        "T",
        width=(ceil_div(width, share.tensor), width),
        weights=share.formats.experts,
        bias=share.model.mlp_bias,
    )
    if moe.shared_expert_gate:
        size = (share.model.hidden_size, 1)
        operators.append(
            linear(share, "shared gate", "T", size=size, whole_size=size, weights=share.formats.router)
        )
    return operators


def _expert_matrices(share: Share, moe: MixtureOfExperts) -> list[Operator]:
    """Routed experts: weights are read once for each distinct expert, work is done for each routed row."""
    whole, h = moe.intermediate_size, share.model.hidden_size
    width = ceil_div(whole, share.expert_tensor)
    names = ["expert gate", "expert up"] if share.model.gated_ffn else ["expert up"]
    fused = share.settings.fused_gate_up
    rows = [
        _expert_matrix(
            share, moe, name, size=(h, width), whole_size=(h, whole), reads_input=not (fused and i)
        )
        for i, name in enumerate(names)
    ]
    down = _expert_matrix(share, moe, "expert down", size=(width, h), whole_size=(whole, h))
    return [*rows, _activation(share, "expert act", "R", width), down]


def _expert_matrix(
    share: Share,
    moe: MixtureOfExperts,
    name: str,
    *,
    size: tuple[int, int],
    whole_size: tuple[int, int],
    reads_input: bool = True,
) -> Operator:
    inner, outer = size
    one = linear(
        share,
        name,
        "R",
        size=size,
        whole_size=whole_size,
        weights=share.formats.experts,
        bias=moe.expert_bias,
        reads_input=reads_input,
    )
    each = one.weight_bytes.get("1", 0)
    w = number_text(share.formats.experts.element_bytes)
    return replace(
        one,
        parameters=one.parameters * moe.num_experts,
        weight_bytes=terms(H=each),
        stored_bytes=each * ceil_div(moe.num_experts, share.expert),
        formula=one.formula.replace(f"{inner}·{outer}·{w}", f"H·{inner}·{outer}·{w}", 1),
    )


def _matrices(
    share: Share,
    prefix: str,
    rows: Symbol,
    *,
    width: tuple[int, int],
    weights: TensorFormat,
    bias: bool,
) -> list[Operator]:
    """Gate, up, activation and down (or up, activation and down) with `width` on this device and whole."""
    h, (local, whole) = share.model.hidden_size, width
    names = ["gate", "up"] if share.model.gated_ffn else ["up"]
    fused = share.settings.fused_gate_up
    up = [
        linear(
            share,
            prefix + name,
            rows,
            size=(h, local),
            whole_size=(h, whole),
            weights=weights,
            bias=bias,
            reads_input=not (fused and i),
        )
        for i, name in enumerate(names)
    ]
    down = linear(
        share, prefix + "down", rows, size=(local, h), whole_size=(whole, h), weights=weights, bias=bias
    )
    middle = [_activation(share, prefix + "act", rows, local)]
    if share.model.attention_sub_norm and not prefix:
        middle.append(norm(share, "down norm", rows, width=whole, held=local))
    return [*up, *middle, down]


def _activation(share: Share, name: str, rows: Symbol, width: int) -> Operator:
    per_element = _ACTIVATION_FLOPS[share.model.hidden_act]
    gated = share.model.gated_ffn
    flops, reads = (per_element + 1, 2) if gated else (per_element, 1)
    return elementwise(
        share,
        name,
        rows,
        flops=flops * width,
        reads=reads * width,
        writes=width,
        formula=f"FLOPs {flops}·{rows}·{width}; "
        f"bytes {reads + 1}·{rows}·{width}·{number_text(share.activation)}",
    )
