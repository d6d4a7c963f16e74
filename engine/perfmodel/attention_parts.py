"""What every kind of attention is made of: rotation, cache append, and the products over pairs."""

from __future__ import annotations

from engine.perfmodel.operators import Mask, Operator, Share, Terms, Variant, add_terms, number_text, terms


def rotary_width(head_size: int, fraction: float) -> int:
    """Rotated dimensions of a head: whole pairs."""
    return 2 * int(head_size * fraction / 2)


def rope(share: Share, name: str, heads: int, rotated: int) -> Operator:
    """Rotation of the first `rotated` dimensions of each head: six operations a pair."""
    width, b = heads * rotated, share.activation
    # The table of sines and cosines stays on chip by default, as the golden totals have it.
    table = rotated * share.formats.rope_bytes if share.settings.rope_table else 0
    extra = f" + T·{rotated}·{number_text(share.formats.rope_bytes)}" if table else ""
    position = share.model.rope
    # Scaling turns by other angles: the admissible context changes, neither FLOPs nor bytes do.
    scaling = "" if position.scaling == "none" else f"; {position.scaling} scaling by {position.factor:g}"
    return Operator(
        name,
        share.precision(),
        flops=terms(T=3 * width),
        input_bytes=terms(T=width * b + table),
        output_bytes=terms(T=width * b),
        formula=f"FLOPs 3·T·{width}; bytes 2·T·{width}·{number_text(b)}{extra}{scaling}",
    )


def append(share: Share, elements: int) -> Operator:
    """Writing what a token adds to the cache of a layer, in the cache's format."""
    b, kv = share.activation, share.formats.kv.element_bytes
    return Operator(
        "KV append",
        share.precision(),
        input_bytes=terms(T=elements * b),
        kv_write_bytes=terms(T=elements * kv),
        formula=f"FLOPs 0; bytes T·{elements}·{number_text(b)} + T·{elements}·{number_text(kv)}",
    )


def products(
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
        formula=f"FLOPs 2·{heads}·{key}·Q; bytes {terms_text(queries, key_read, terms(Q=score))}{tail}",
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
        formula=f"FLOPs {soft}·{heads}·Q; bytes {terms_text(terms(Q=2 * score))}{tail}",
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
        formula=f"FLOPs 2·{heads}·{value}·Q; bytes {terms_text(read, value_read, written)}{tail}",
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
    traffic = terms_text(*(row.total_bytes for row in rows))
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
        formula=f"FLOPs {terms_text(flops)}; bytes {traffic}",
        bucket="attention",
        mask=scores.mask,
        variant=scores.variant,
    )


def terms_text(*parts: Terms) -> str:
    """Terms as a formula."""
    total = add_terms(*parts)
    pieces = [
        number_text(amount) if symbol == "1" else f"{number_text(amount)}·{symbol}"
        for symbol, amount in total.items()
    ]
    return " + ".join(pieces) or "0"
