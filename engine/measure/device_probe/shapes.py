"""Which shapes are timed: sites spread over sizes, in an order that tells most first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

Shape = Mapping[str, int]

_MIDDLES: Final = (0.375, 0.75)
"""Widths between powers of two, as feed-forward layers have them."""
_ROWS: Final = (1, 4, 16, 64, 256, 1024, 2, 8, 32, 128, 512)


def gemm_shapes(largest: int) -> list[Shape]:
    """Matrix products [m, k] x [k, n]: every row count at one site, then the next site."""
    sides = list(_powers(256, largest))
    sites = [(n, k) for n in sides for k in sides if 1 / 4 <= n / k <= 4]
    sites += [(int(largest * share), largest // 2) for share in _MIDDLES]
    rows = [m for m in _ROWS if m <= largest]
    return _interleaved([[{"m": m, "n": n, "k": k} for m in rows] for n, k in sites])


def prefill_shapes(largest: int) -> list[Shape]:
    """Attention of whole prompts without a past."""
    lengths = [length for length in (64, 256, 1024, 128, 512, 2048) if length <= largest]
    groups = []
    for heads, kv_heads, width in _HEADS:
        groups.append(
            [
                _attention(batch, length, length, heads, kv_heads, width)
                for length in lengths
                for batch in (1, 4)
                if batch * length <= largest
            ]
        )
    return _interleaved(groups)


def decode_shapes(largest: int) -> list[Shape]:
    """Attention of one new token a sequence over a cache."""
    lengths = [length for length in (128, 1024, 4096, 256, 2048) if length <= 2 * largest]
    groups = []
    for heads, kv_heads, width in _HEADS:
        groups.append(
            [
                _attention(batch, 1, length, heads, kv_heads, width)
                for length in lengths
                for batch in (1, 4, 16)
                if batch * length * kv_heads * width <= largest * largest * 4
            ]
        )
    return _interleaved(groups)


_HEADS: Final = ((8, 8, 64), (16, 4, 64), (32, 8, 128), (12, 2, 64), (16, 16, 128), (9, 3, 64))


def _attention(batch: int, q_len: int, kv_len: int, heads: int, kv_heads: int, width: int) -> Shape:
    return {
        "batch": batch, "q_len": q_len, "kv_len": kv_len,
        "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": width,
    }  # fmt: skip


def elementwise_shapes(largest: int) -> list[Shape]:
    """Rows, width and inner width of a layer's activations, from what a first-level cache holds upwards."""
    widths = [width for width in _powers(256, largest) if width <= _WIDEST]
    rows = [m for m in (1, 64, 256, 4, 16, 1024) if m <= largest]
    return _interleaved([[{"m": m, "k": k, "n": 8 * k // 3} for m in rows] for k in widths])


_WIDEST: Final = 4096


def _powers(low: int, high: int) -> Iterator[int]:
    while low <= high:
        yield low
        low *= 2


def _interleaved(groups: list[list[Shape]]) -> list[Shape]:
    """The first of each group, then the second of each: whatever the budget cuts off, all sites are there."""
    most = max(map(len, groups), default=0)
    return [group[i] for i in range(most) for group in groups if i < len(group)]
