"""Which layer does what: the many ways a `config.json` says it, turned into runs of equal layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal

from engine.spec.hf_keys import Keys
from engine.spec.model import LayerRun, SlidingWindow

__all__ = ["AttentionLayout", "attention_layers", "feed_forward_layers", "layer_runs", "window_of"]

Attention = Literal["full", "window", "linear"]
FeedForward = Literal["dense", "moe"]

# How a family lays its attention out where `layer_types` does not say it.
AttentionLayout = Literal["uniform", "late_window", "pattern", "linear", "chunked"]

_LONGEST_PERIOD: Final = 12  # patterns seen so far repeat after 2 to 6 layers

_LAYER_TYPES: Final[dict[str, Attention]] = {
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "indexed_attention": "full",  # every position is cached; the indexer picks which ones are read
    "sliding_attention": "window",
    "local": "window",
    "chunked_attention": "window",
    "linear_attention": "linear",
}


def window_of(keys: Keys, *, layout: AttentionLayout) -> SlidingWindow | None:
    """The local attention of the config, or None when no layer can use it."""
    chunk = keys.optional_integer("attention_chunk_size") if layout == "chunked" else None
    if chunk:
        return SlidingWindow(tokens=chunk, kind="chunked")
    tokens = keys.optional_integer("sliding_window")
    # Qwen configs carry a window that `use_sliding_window` switches off; 0 means none in Qwen2-MoE.
    if not tokens or not keys.flag("use_sliding_window", default=layout != "late_window"):
        return None
    longest = keys.optional_integer("max_position_embeddings")
    if longest is not None and tokens >= longest:
        keys.assume(
            f"`sliding_window` {tokens} is not shorter than the context {longest}; read as full attention"
        )
        return None
    return SlidingWindow(tokens=tokens)


def attention_layers(
    keys: Keys, *, layout: AttentionLayout, window: SlidingWindow | None, period: int
) -> list[Attention]:
    """The kind of attention of every layer, in order."""
    layers = keys.integer("num_hidden_layers")
    written = keys.items("layer_types")
    if written is not None:
        kinds = [_attention_kind(keys, entry) for entry in _one_per_layer(keys, "layer_types", written)]
    elif layout == "late_window":
        first = keys.integer_or("max_window_layers", 0) if window else layers
        kinds = ["full" if layer < first else "window" for layer in range(layers)]
    elif layout == "uniform":
        kinds = ["window"] * layers
    elif layout == "chunked":
        kinds = ["window" if rotates else "full" for rotates in rotating_layers(keys, period=period)]
    else:
        local: Attention = "linear" if layout == "linear" else "window"
        kinds = ["full" if (layer + 1) % period == 0 else local for layer in range(layers)]
    return ["full" if kind == "window" and window is None else kind for kind in kinds]


def rotating_layers(keys: Keys, *, period: int) -> list[bool]:
    """For every layer whether it applies rotary positions; every `period`-th does not (Llama 4)."""
    layers = keys.integer("num_hidden_layers")
    # Despite its name the list holds 1 where positions are applied; an empty one means the default.
    written = keys.items("no_rope_layers")
    if written:
        return [bool(entry) for entry in _one_per_layer(keys, "no_rope_layers", written)]
    period = keys.optional_integer("no_rope_layer_interval") or period
    return [(layer + 1) % period != 0 for layer in range(layers)]


def feed_forward_layers(keys: Keys) -> list[FeedForward]:
    """For every layer of a mixture-of-experts model whether it is dense or has experts, in order."""
    layers = keys.integer("num_hidden_layers")
    written = keys.items("mlp_layer_types")
    if written is not None:
        return [_feed_forward_kind(keys, entry) for entry in _one_per_layer(keys, "mlp_layer_types", written)]
    frequency = keys.anything("moe_layer_freq")
    if isinstance(frequency, list):
        return ["moe" if entry else "dense" for entry in _one_per_layer(keys, "moe_layer_freq", frequency)]
    if frequency is not None and type(frequency) is not int:
        raise keys.wrong("moe_layer_freq", "`moe_layer_freq` must be a whole number or a list")
    listed = keys.items("moe_layers")
    if listed is not None:
        return ["moe" if layer in listed else "dense" for layer in range(layers)]
    dense = keys.items("mlp_only_layers") or ()
    return [
        "moe" if layer not in dense and _has_experts(keys, layer, frequency) else "dense"
        for layer in range(layers)
    ]


def _has_experts(keys: Keys, layer: int, frequency: object) -> bool:
    if layer < (keys.optional_integer("first_k_dense_replace") or 0):
        return False
    if layer < (keys.optional_integer("moe_layer_start_index") or 0):
        return False
    # DeepSeek counts from the first layer, Qwen, Llama 4 and Ernie from the end of each group.
    if isinstance(frequency, int) and frequency > 0 and layer % frequency != 0:
        return False
    steps = ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")
    return all((layer + 1) % (keys.optional_integer(step) or 1) == 0 for step in steps)


def layer_runs(
    attention: Sequence[Attention], feed_forward: Sequence[FeedForward], rotates: Sequence[bool]
) -> tuple[list[LayerRun], bool]:
    """Consecutive equal layers gathered into runs, and whether they are one period that repeats."""
    layers = list(zip(attention, feed_forward, rotates, strict=True))
    if len(set(layers)) > 1:
        for period in range(2, min(_LONGEST_PERIOD, len(layers) // 2) + 1):
            if all(layer == layers[index % period] for index, layer in enumerate(layers)):
                return _gathered(layers[:period]), True
    return _gathered(layers), False


def _gathered(layers: Sequence[tuple[Attention, FeedForward, bool]]) -> list[LayerRun]:
    return [
        LayerRun(count=len(list(run)), attention=kind[0], feed_forward=kind[1], rope=kind[2])
        for kind, run in groupby(layers)
    ]


def _one_per_layer(keys: Keys, key: str, entries: Sequence[object]) -> Sequence[object]:
    layers = keys.integer("num_hidden_layers")
    if len(entries) != layers:
        raise keys.wrong(key, f"`{key}` has {len(entries)} entries, `num_hidden_layers` is {layers}")
    return entries


def _attention_kind(keys: Keys, entry: object) -> Attention:
    kind = _LAYER_TYPES.get(entry) if isinstance(entry, str) else None
    if kind is None:
        raise keys.wrong(
            "layer_types",
            f"`layer_types` names {entry!r}, a kind of layer without a cost model",
            hint=f"known kinds: {', '.join(f'`{name}`' for name in _LAYER_TYPES)}",
        )
    return kind


def _feed_forward_kind(keys: Keys, entry: object) -> FeedForward:
    if entry == "dense":
        return "dense"
    if entry in ("sparse", "moe"):
        return "moe"
    raise keys.wrong(
        "mlp_layer_types", f"`mlp_layer_types` names {entry!r}; known kinds: `dense`, `sparse`, `moe`"
    )
