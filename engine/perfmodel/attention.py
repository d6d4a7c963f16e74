"""Attention of every kind as operator rows: grouped heads, latent (MLA), windows, linear attention."""

from __future__ import annotations

from dataclasses import replace

from engine.perfmodel.operators import (
    Mask,
    Operator,
    Share,
    Terms,
    Variant,
    add_terms,
    elementwise,
    linear,
    norm,
    number_text,
    terms,
)
from engine.spec.model import LatentAttention, LinearAttention


def attention_operators(share: Share, kind: str) -> list[Operator]:
    """Every operator between the first norm and the first residual of a layer."""
    model = share.model
    if kind == "linear" and model.linear_attention is not None:
        return _delta_rule(share, model.linear_attention)
    mask: Mask = "window" if kind == "window" else "full"
    if model.mla is not None:
        return _latent(share, model.mla, mask)
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
            _rope(share, "RoPE q", share.query_heads, rotated),
            _rope(share, "RoPE k", share.kv_heads, rotated),
        ]
    operators.append(_append(share, 2 * kv))
    operators += _products(
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


def rotary_width(head_size: int, fraction: float) -> int:
    """Rotated dimensions of a head: whole pairs."""
    return 2 * int(head_size * fraction / 2)


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


def _rope(share: Share, name: str, heads: int, rotated: int) -> Operator:
    width, b = heads * rotated, share.activation
    # The table of sines and cosines stays on chip by default, as the golden totals have it.
    table = rotated * share.formats.rope_bytes if share.settings.rope_table else 0
    extra = f" + T·{rotated}·{number_text(share.formats.rope_bytes)}" if table else ""
    rope = share.model.rope
    # Scaling turns by other angles: the admissible context changes, neither FLOPs nor bytes do.
    scaling = "" if rope.scaling == "none" else f"; {rope.scaling} scaling by {rope.factor:g}"
    return Operator(
        name,
        share.precision(),
        flops=terms(T=3 * width),
        input_bytes=terms(T=width * b + table),
        output_bytes=terms(T=width * b),
        formula=f"FLOPs 3·T·{width}; bytes 2·T·{width}·{number_text(b)}{extra}{scaling}",
    )


def _append(share: Share, elements: int) -> Operator:
    b, kv = share.activation, share.formats.kv.element_bytes
    return Operator(
        "KV append",
        share.precision(),
        input_bytes=terms(T=elements * b),
        kv_write_bytes=terms(T=elements * kv),
        formula=f"FLOPs 0; bytes T·{elements}·{number_text(b)} + T·{elements}·{number_text(kv)}",
    )


def _products(
    share: Share,
    mask: Mask,
    *,
    heads: int,
    key: int,
    value: int,
    key_read: Terms,
    value_read: Terms,
    key_input: Terms | None = None,
    value_input: Terms | None = None,
    variant: Variant = "",
) -> list[Operator]:
    """Scores, softmax and context; one row when fused, with score traffic when unfused.

    `key_read` and `value_read` come from the cache, `key_input` and `value_input` from activations.
    """
    model, b = share.model, share.activation
    precision = share.precision(share.quantization.kv_cache)
    soft = 5 + (3 if model.attention_logit_softcap else 0)
    soft += 2 if model.position_embedding == "alibi" else 0
    sinks = model.num_attention_heads if model.attention_sinks else 0
    local_sinks = sinks // share.tensor * share.formats.norm.element_bytes
    form = share.settings.attention
    unfused = form == "unfused"
    score = heads * b if unfused else 0
    queries = add_terms(terms(T=heads * key * b), key_input or {})
    tail = f"; {variant}" if variant else ""
    scores = Operator(
        "scores",
        precision,
        flops=terms(Q=2 * heads * key),
        input_bytes=queries,
        output_bytes=terms(Q=score),
        kv_read_bytes=key_read,
        formula=f"FLOPs 2·{heads}·{key}·Q; bytes {_text(queries, key_read, terms(Q=score))}{tail}",
        bucket="attention",
        mask=mask,
        variant=variant,
    )
    softmax = Operator(
        "softmax",
        share.precision(),
        flops=terms(Q=soft * heads),
        parameters=sinks,
        weight_bytes=terms(one=local_sinks),
        input_bytes=terms(Q=score),
        output_bytes=terms(Q=score),
        stored_bytes=local_sinks,
        formula=f"FLOPs {soft}·{heads}·Q; bytes {_text(terms(Q=2 * score))}{tail}",
        bucket="attention",
        mask=mask,
        variant=variant,
    )
    read = add_terms(terms(Q=score), value_input or {})
    written = terms(T=heads * value * b)
    context = Operator(
        "context",
        precision,
        flops=terms(Q=2 * heads * value),
        input_bytes=read,
        output_bytes=written,
        kv_read_bytes=value_read,
        formula=f"FLOPs 2·{heads}·{value}·Q; bytes {_text(read, value_read, written)}{tail}",
        bucket="attention",
        mask=mask,
        variant=variant,
    )
    if form != "fused":
        return [scores, softmax, context]
    return [_fused(scores, softmax, context)]


def _fused(scores: Operator, softmax: Operator, context: Operator) -> Operator:
    """One kernel that keeps scores on chip: the same work and traffic in one row."""
    rows = (scores, softmax, context)
    flops = add_terms(*(row.flops for row in rows))
    traffic = _text(*(row.total_bytes for row in rows))
    return Operator(
        "attention",
        scores.precision,
        flops=flops,
        parameters=softmax.parameters,
        weight_bytes=softmax.weight_bytes,
        input_bytes=add_terms(scores.input_bytes, context.input_bytes),
        output_bytes=context.output_bytes,
        kv_read_bytes=add_terms(scores.kv_read_bytes, context.kv_read_bytes),
        stored_bytes=softmax.stored_bytes,
        formula=f"FLOPs {_text(flops)}; bytes {traffic}",
        bucket="attention",
        mask=scores.mask,
        variant=scores.variant,
    )


def _text(*parts: Terms) -> str:
    total = add_terms(*parts)
    pieces = [
        number_text(amount) if symbol == "1" else f"{number_text(amount)}·{symbol}"
        for symbol, amount in total.items()
    ]
    return " + ".join(pieces) or "0"


def _latent(share: Share, mla: LatentAttention, mask: Mask) -> list[Operator]:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): the cache holds one vector per token."""
    model, h, f = share.model, share.model.hidden_size, share.formats
    heads, all_heads = share.query_heads, model.num_attention_heads
    query = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    cached = mla.kv_lora_rank + mla.qk_rope_head_dim

    def projection(
        name: str, size: tuple[int, int], whole: tuple[int, int], *, biased: bool = False
    ) -> Operator:
        return linear(share, name, "T", size=size, whole_size=whole, weights=f.attention, bias=biased)

    operators = []
    if mla.q_lora_rank is None:
        operators.append(projection("q", (h, heads * query), (h, all_heads * query)))
    else:
        r = mla.q_lora_rank
        operators += [
            projection("q down", (h, r), (h, r)),
            norm(share, "q latent norm", width=r),
            projection("q up", (r, heads * query), (r, all_heads * query)),
        ]
    operators += [
        projection("kv down", (h, cached), (h, cached)),
        norm(share, "kv latent norm", width=mla.kv_lora_rank),
        _rope(share, "RoPE q", heads, mla.qk_rope_head_dim),
        _rope(share, "RoPE k", 1, mla.qk_rope_head_dim),
        _append(share, cached),
    ]
    products_mask = mask
    if mla.index_topk:
        operators += _indexer(share, mla)
        products_mask = "sparse"
    forms = ("absorbed", "expanded") if share.settings.mla == "auto" else (share.settings.mla,)
    if "absorbed" in forms:
        operators += _absorbed(share, mla, products_mask)
    if "expanded" in forms:
        expanded = _expanded(share, mla, products_mask)
        # The two forms are alternatives over the same matrices: these count once.
        operators += [_without_weights(o) for o in expanded] if len(forms) == 2 else expanded
    output = linear(
        share,
        "o",
        "T",
        size=(heads * mla.v_head_dim, h),
        whole_size=(all_heads * mla.v_head_dim, h),
        weights=f.attention,
    )
    return [*operators, output]


def _without_weights(operator: Operator) -> Operator:
    return replace(operator, parameters=0, stored_bytes=0.0)


def _absorbed(share: Share, mla: LatentAttention, mask: Mask) -> list[Operator]:
    """Queries are moved into the latent space: keys and values are the cached vector itself, read once."""
    heads, all_heads, r = share.query_heads, share.model.num_attention_heads, mla.kv_lora_rank
    weights, b = share.formats.attention, share.activation
    cached = (r + mla.qk_rope_head_dim) * share.formats.kv.element_bytes

    def per_head(name: str, inner: int, outer: int, *, matrix: int) -> Operator:
        stored = weights.matrix_bytes(r, heads * matrix)
        return Operator(
            name,
            share.precision(weights.bits),
            flops=terms(T=2 * heads * inner * outer),
            parameters=r * all_heads * matrix,
            weight_bytes=terms(one=stored),
            input_bytes=terms(T=heads * inner * b),
            output_bytes=terms(T=heads * outer * b),
            stored_bytes=stored,
            formula=f"FLOPs 2·T·{heads}·{inner}·{outer}; bytes {r}·{heads * matrix}·"
            f"{number_text(weights.element_bytes)} + T·{heads}·({inner} + {outer})·{number_text(b)}"
            "; absorbed",
            bucket="attention",
            mask=mask,
            variant="absorbed",
        )

    nope, value = mla.qk_nope_head_dim, mla.v_head_dim
    return [
        per_head("q absorb", nope, r, matrix=nope),
        *_products(
            share,
            mask,
            heads=heads,
            key=r + mla.qk_rope_head_dim,
            value=r,
            key_read=terms(K=cached),
            value_read={},
            variant="absorbed",
        ),
        per_head("v up", r, value, matrix=value),
    ]


def _expanded(share: Share, mla: LatentAttention, mask: Mask) -> list[Operator]:
    """Keys and values of every head are rebuilt from the latent vectors, written and read back."""
    heads, all_heads, r = share.query_heads, share.model.num_attention_heads, mla.kv_lora_rank
    weights, b = share.formats.attention, share.activation
    nope, rope, value = mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim
    stored = weights.matrix_bytes(r, heads * (nope + value))
    read = terms(K=(r + rope) * share.formats.kv.element_bytes)
    key, val = heads * (nope + rope) * b, heads * value * b
    expand = Operator(
        "kv up",
        share.precision(weights.bits),
        flops=terms(K=2 * r * heads * (nope + value)),
        parameters=r * all_heads * (nope + value),
        weight_bytes=terms(one=stored),
        output_bytes=terms(K=key + val),
        kv_read_bytes=read,
        stored_bytes=stored,
        formula=f"FLOPs 2·K·{r}·{heads}·({nope} + {value}); "
        f"bytes {number_text(stored)} + {_text(read)} + {_text(terms(K=key + val))}; expanded",
        bucket="attention",
        mask=mask,
        variant="expanded",
    )
    return [
        expand,
        *_products(
            share,
            mask,
            heads=heads,
            key=nope + rope,
            value=value,
            key_read={},
            value_read={},
            key_input=terms(K=key),
            value_input=terms(K=val),
            variant="expanded",
        ),
    ]


def _indexer(share: Share, mla: LatentAttention) -> list[Operator]:
    """Sparse-attention indexer (DeepSeek-V3.2): scores every position, keeps the best; on every device."""
    h, b, f = share.model.hidden_size, share.activation, share.formats
    heads, d = mla.index_heads, mla.index_head_dim
    source = mla.q_lora_rank or h

    def projection(name: str, inner: int, outer: int) -> Operator:
        size = (inner, outer)
        return linear(share, name, "T", size=size, whole_size=size, weights=f.attention)

    read = terms(K=d * f.kv.element_bytes)
    queries = terms(T=heads * d * b)
    scores = Operator(
        "index scores",
        share.precision(share.quantization.kv_cache),
        # A product, a ReLU and a weighted sum over heads for each pair.
        flops=terms(Q=2 * heads * d + 3 * heads),
        input_bytes=queries,
        kv_read_bytes=read,
        formula=f"FLOPs (2·{heads}·{d} + 3·{heads})·Q; bytes {_text(queries, read)}",
        bucket="attention",
        mask="full",
    )
    key_norm = elementwise(
        share,
        "index k norm",
        "T",
        flops=7 * d,
        reads=d,
        writes=d,
        parameters=2 * d,
        formula=f"FLOPs 7·T·{d}; bytes 2·T·{d}·{number_text(b)} + {2 * d}",
    )
    return [
        projection("index q", source, heads * d),
        projection("index k", h, d),
        projection("index weights", h, heads),
        key_norm,
        _append(share, d),
        scores,
    ]


def _delta_rule(share: Share, linear_attention: LinearAttention) -> list[Operator]:
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
