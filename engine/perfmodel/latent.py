"""Multi-head latent attention (DeepSeek) as operator rows, in both its forms, with the sparse indexer."""

from __future__ import annotations

from dataclasses import replace

from engine.perfmodel.attention_parts import append, products, rope, terms_text
from engine.perfmodel.operators import Mask, Operator, Share, elementwise, linear, norm, number_text, terms
from engine.spec.model import LatentAttention


def latent_operators(share: Share, mla: LatentAttention, mask: Mask) -> list[Operator]:
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
        rope(share, "RoPE q", heads, mla.qk_rope_head_dim),
        rope(share, "RoPE k", 1, mla.qk_rope_head_dim),
        append(share, cached),
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
        *products(
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
    nope, rotary, value = mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim
    stored = weights.matrix_bytes(r, heads * (nope + value))
    read = terms(K=(r + rotary) * share.formats.kv.element_bytes)
    key, val = heads * (nope + rotary) * b, heads * value * b
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
        f"bytes {number_text(stored)} + {terms_text(read)} + {terms_text(terms(K=key + val))}; expanded",
        bucket="attention",
        mask=mask,
        variant="expanded",
    )
    return [
        expand,
        *products(
            share,
            mask,
            heads=heads,
            key=nope + rotary,
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
        formula=f"FLOPs (2·{heads}·{d} + 3·{heads})·Q; bytes {terms_text(queries, read)}",
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
        append(share, d),
        scores,
    ]
