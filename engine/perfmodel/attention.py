"""Attention of every kind as operator rows: grouped heads here, latent and linear forms beside."""

from __future__ import annotations

from engine.perfmodel.attention_parts import append, products, rope, rotary_width
from engine.perfmodel.latent import latent_operators
from engine.perfmodel.linear_attention import delta_rule_operators
from engine.perfmodel.operators import Mask, Operator, Share, elementwise, linear, norm, number_text, terms


def attention_operators(share: Share, kind: str) -> list[Operator]:
    """Every operator between the first norm and the first residual of a layer."""
    model = share.model
    if kind == "linear" and model.linear_attention is not None:
        return delta_rule_operators(share, model.linear_attention)
    mask: Mask = "window" if kind == "window" else "full"
    if model.mla is not None:
        return latent_operators(share, model.mla, mask)
    return _grouped(share, mask)


def _grouped(share: Share, mask: Mask) -> list[Operator]:
    model = share.model
    d, h = model.head_size, model.hidden_size
    q, kv = share.query_heads * d, share.kv_heads * d
    whole_q, whole_kv = model.num_attention_heads * d, model.kv_heads * d
    bias = model.attention_bias != "none"
    fused = share.settings.fused_qkv
    gates = 2 if model.attention_gate else 1

    def projection(name: str, local: int, whole: int, *, reads: bool) -> Operator:
        return linear(
            share,
            name,
            "T",
            size=(h, local),
            whole_size=(h, whole),
            weights=share.formats.attention,
            bias=bias,
            reads_input=reads,
        )

    operators = [
        projection("q", gates * q, gates * whole_q, reads=True),
        projection("k", kv, whole_kv, reads=not fused),
        projection("v", kv, whole_kv, reads=not fused),
    ]
    if model.qk_norm != "none":
        operators.append(_qk_norm(share, q, kv))
    if model.position_embedding == "rope":
        rotated = rotary_width(d, model.rope.rotary_fraction)
        operators += [
            rope(share, "RoPE q", share.query_heads, rotated),
            rope(share, "RoPE k", share.kv_heads, rotated),
        ]
    operators.append(append(share, 2 * kv))
    operators += products(
        share,
        mask,
        heads=share.query_heads,
        key=d,
        value=d,
        key_read=terms(K=kv * share.formats.kv.element_bytes),
        value_read=terms(K=kv * share.formats.kv.element_bytes),
    )
    if model.attention_gate:
        operators.append(
            elementwise(
                share, "attention gate", "T", flops=5 * q, reads=2 * q, writes=q,
                formula=f"FLOPs 5·T·{q}; bytes 3·T·{q}·{number_text(share.activation)}",
            )
        )  # fmt: skip
    return [*operators, *_output(share, q, whole_q)]


def _output(share: Share, local: int, whole: int) -> list[Operator]:
    model = share.model
    operators = []
    if model.attention_sub_norm:
        operators.append(norm(share, "o norm", width=whole, held=local))
    operators.append(
        linear(
            share,
            "o",
            "T",
            size=(local, model.hidden_size),
            whole_size=(whole, model.hidden_size),
            weights=share.formats.attention,
            bias=model.attention_bias == "all",
        )
    )
    return operators


def _qk_norm(share: Share, q: int, kv: int) -> Operator:
    model = share.model
    d = model.head_size
    full = model.qk_norm == "full"
    weights = {"head": 2 * d, "full": (model.num_attention_heads + model.kv_heads) * d}
    whole = weights.get(model.qk_norm, 0)
    return elementwise(
        share,
        "q/k norm",
        "T",
        flops=4 * (q + kv),
        reads=q + kv,
        writes=q + kv,
        parameters=whole,
        local_parameters=q + kv if full else whole,
        formula=f"FLOPs 4·T·{q + kv}; bytes 2·T·{q + kv}·{number_text(share.activation)}",
    )
