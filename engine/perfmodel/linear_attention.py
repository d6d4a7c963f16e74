"""Linear attention as operator rows: a state of fixed size instead of a growing cache."""

from __future__ import annotations

from engine.perfmodel.operators import Operator, Share, elementwise, linear, number_text, terms
from engine.spec.model import LinearAttention


def delta_rule_operators(share: Share, linear_attention: LinearAttention) -> list[Operator]:
    """Gated delta rule (Qwen3-Next): a matrix of key x value per head carried from token to token."""
    a, n = linear_attention, share.tensor
    h, b, f = share.model.hidden_size, share.activation, share.formats
    key, value = a.num_key_heads * a.key_head_dim, a.num_value_heads * a.value_head_dim
    mixed = 2 * key + value
    state = a.num_value_heads * a.key_head_dim * a.value_head_dim // n
    # Decay, prediction, outer-product update and read-out: 1 + 2 + 2 + 2 operations per state element.
    update = 7 * state

    def projection(name: str, outer: int) -> Operator:
        return linear(share, name, "T", size=(h, outer // n), whole_size=(h, outer), weights=f.attention)

    scalars = 2 * a.num_value_heads
    # The state is kept in fp32; it is read and written once for each sequence of a step.
    rule = Operator(
        "delta rule",
        share.precision(),
        flops=terms(T=update + 10 * scalars // n),
        parameters=scalars,
        weight_bytes=terms(one=scalars // n * f.norm.element_bytes),
        input_bytes=terms(T=(mixed // n) * b),
        output_bytes=terms(T=(value // n) * b),
        kv_read_bytes=terms(B=4 * state),
        kv_write_bytes=terms(B=4 * state),
        stored_bytes=scalars // n * f.norm.element_bytes,
        formula=f"FLOPs 7·T·{state}; bytes 2·B·{state}·4 + T·{(mixed + value) // n}·{number_text(b)}",
    )
    local = mixed // n
    convolution = Operator(
        "short convolution",
        share.precision(),
        flops=terms(T=(2 * a.conv_kernel + 4) * local),
        parameters=mixed * a.conv_kernel,
        weight_bytes=terms(one=local * a.conv_kernel * f.norm.element_bytes),
        input_bytes=terms(T=local * b),
        output_bytes=terms(T=local * b),
        kv_read_bytes=terms(B=local * a.conv_kernel * b),
        kv_write_bytes=terms(B=local * a.conv_kernel * b),
        stored_bytes=local * a.conv_kernel * f.norm.element_bytes,
        formula=f"FLOPs {2 * a.conv_kernel + 4}·T·{local}; bytes 2·T·{local}·{number_text(b)}",
    )
    gated_norm = elementwise(
        share,
        "gated norm",
        "T",
        flops=9 * value // n,
        reads=2 * value // n,
        writes=value // n,
        parameters=a.value_head_dim,
        formula=f"FLOPs 9·T·{value // n}; bytes 3·T·{value // n}·{number_text(b)}",
    )
    return [
        projection("qkv", mixed),
        projection("z", value),
        projection("beta and decay", 2 * a.num_value_heads),
        convolution,
        rule,
        gated_norm,
        linear(share, "o", "T", size=(value // n, h), whole_size=(value, h), weights=f.attention),
    ]
