"""Measured kernels by kind, from a table of timings: what can be fitted, and why each other row cannot.

The bound of a row uses the device's data sheet. A row faster than that by more than a few percent did not
measure what it claims (data that stayed in a cache, counts of elements taken for bytes), and would teach a
fit that devices beat physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError
from engine.perfmodel.deployment import device_link
from engine.perfmodel.fit import Column, KernelRows
from engine.perfmodel.forms import TILE, alone_s
from engine.perfmodel.quantized import peak_flops_per_s
from engine.perfmodel.summary import ARRAYS
from engine.spec.calibration import OperatorKind
from engine.spec.hardware import Hardware, Precision

GATE: Final = 0.97
"""Measured over bound below which a row is impossible; 3 % for clocks above the published one."""
_LONGEST_S: Final = 3600.0
_MOST: Final = 1e15
"""No dimension is as large, and products of three stay numbers."""
DIMENSIONS: Final[dict[OperatorKind, tuple[str, ...]]] = {
    "gemm": ("m", "n", "k"),
    "prefill_attention": ("batch", "q_len", "kv_len", "num_heads", "num_kv_heads", "head_dim"),
    "decode_attention": ("batch", "kv_len", "num_heads", "num_kv_heads", "head_dim"),
    "experts": ("m", "n", "k", "num_experts", "topk", "tp", "num_gpus"),
    "elementwise": ("bytes",),
    "all_reduce": ("message_bytes", "num_gpus"),
}
_SITE: Final = ("n", "k", "num_heads", "num_kv_heads")
_SITE_MORE: Final[dict[OperatorKind, tuple[str, ...]]] = {
    "experts": ("num_experts", "topk", "tp"),
    "elementwise": ("bytes",),
    "all_reduce": ("message_bytes",),
}
"""Dimensions that are held out together: a neighbour in the others would give the answer away."""
BYTES: Final[Mapping[str, float]] = {
    "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "fp4": 0.5, "int4": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Gated:
    """Rows of one kind that can be used, and what became of the others."""

    rows: KernelRows
    kept: NDArray[np.int64]
    """Positions of the rows in the table they came from."""
    dropped: dict[str, int]
    """Reason -> rows."""


def gated_rows(
    kind: OperatorKind,
    precision: Precision,
    columns: Mapping[str, NDArray[Any]],
    hardware: Hardware,
) -> Gated:
    """The usable rows of one kind and precision; `columns` hold its dimensions and `measured_s`."""
    names = DIMENSIONS[kind]
    missing = [name for name in (*names, "measured_s") if name not in columns]
    if missing:
        raise UsageError(f"rows of `{kind}` need {', '.join(f'`{name}`' for name in missing)}")
    measured = np.asarray(columns["measured_s"], dtype=np.float64)
    values = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    dropped: dict[str, int] = {}
    alive = np.ones(len(measured), dtype=np.bool_)

    def drop(bad: NDArray[np.bool_], reason: str) -> None:
        count = int((alive & bad).sum())
        if count:
            dropped[reason] = dropped.get(reason, 0) + count
        alive[bad] = False

    drop(~np.isfinite(measured), "no time, or not a number")
    drop(~(measured > 0), "time is not above zero")
    drop(measured > _LONGEST_S, "longer than an hour: wrong unit?")
    for name, value in values.items():
        whole = (value >= 1) & (value < _MOST) & (value == np.floor(value))
        drop(~whole, f"`{name}` is missing or not a whole number above zero")
    kept = np.flatnonzero(alive)
    here = {name: value[kept] for name, value in values.items()}
    compute, memory, waves = amounts(kind, precision, here, hardware)
    measured = measured[kept]
    site = _sites(kind, here, len(kept))
    possible = measured >= GATE * np.maximum(compute, memory)
    if kind == "experts":
        # Routing that is not balanced touches fewer: no row is impossible for reading less than all of them.
        fewest = np.minimum(1, here["topk"] / _experts_read(here))
        possible = measured >= GATE * np.maximum(compute, memory * fewest)
    if kind == "all_reduce":
        possible = np.ones(len(kept), dtype=np.bool_)  # switches that add up on the way beat a ring
    cached = ~possible & _in_cache(compute, memory, measured, hardware)
    for reason, rows_of in ((_CACHED, cached), (_TOO_FAST, ~possible & ~cached)):
        if rows_of.any():
            dropped[reason] = int(rows_of.sum())
    usual = _usual(kind, here, len(kept))
    single = here["m"] == 1 if kind == "gemm" else np.zeros(len(kept), dtype=np.bool_)
    depth = here["k"] if kind == "gemm" else np.zeros(len(kept))
    alone = None
    if kind == "decode_attention" and waves is not None:
        ungrouped = here["num_heads"] == here["num_kv_heads"]
        alone = np.where(ungrouped, alone_s(ARRAYS, memory, waves), 0.0)
    filled = filled_waves(kind, here, hardware)
    rows = KernelRows(compute, memory, waves, measured, site, usual, single, depth, alone, filled)
    rows = rows.take(np.flatnonzero(possible))
    return Gated(rows, kept[possible], dropped)


_TOO_FAST: Final = "faster than the data sheet allows"
_CACHED: Final = "its data stayed in the last-level cache, as that of a model does not"


def _in_cache(compute: Column, memory: Column, measured: Column, hardware: Hardware) -> NDArray[np.bool_]:
    """Rows that beat the memory, not the arithmetic, with data that the cache holds and can deliver."""
    moved = memory * hardware.memory_bandwidth
    busy = measured >= GATE * compute
    # What a cache in front of the memory delivers is on no sheet.
    fits = moved <= (hardware.memory_side_cache or 0.0)
    in_l2 = moved <= (hardware.l2 or 0.0)
    if hardware.l2_bandwidth is not None:
        in_l2 &= measured >= GATE * moved / hardware.l2_bandwidth
    return (fits | in_l2) & busy


def _usual(kind: OperatorKind, d: Mapping[str, Column], size: int) -> NDArray[np.bool_]:
    """Decode attention with many queries a key head, huge batches or next to no cache falls back to kernels
    that are up to a hundred times slower than the roof; nobody serves there."""
    if kind != "decode_attention":
        return np.ones(size, dtype=np.bool_)
    found: NDArray[np.bool_] = (
        (d["batch"] <= 512) & (d["kv_len"] >= 128) & (d["num_heads"] <= 8 * d["num_kv_heads"])
    )
    return found


def _sites(kind: OperatorKind, columns: Mapping[str, Column], size: int) -> NDArray[Any]:
    """Name of each row's site; dimensions a kind does not have are -1."""
    names = (*_SITE, *_SITE_MORE.get(kind, ()))
    absent = np.full(size, -1.0)
    values = [columns.get(name, absent) for name in names]
    return np.array(["|".join([kind, *(str(int(value[i])) for value in values)]) for i in range(size)])


def amounts(
    kind: OperatorKind, precision: Precision, d: Mapping[str, Column], hardware: Hardware
) -> tuple[Column, Column, Column | None]:
    """Compute seconds, memory seconds and waves of rows, at data-sheet rates."""
    if kind == "all_reduce":
        link = device_link(hardware)
        if link is None:
            raise UsageError(f"`{hardware.name}` names no link between devices")
        n = d["num_gpus"]
        seconds = 2 * (n - 1) / n * d["message_bytes"] / link.bandwidth_bytes_per_s
        return np.zeros(len(seconds)), seconds, None
    peak = peak_flops_per_s(hardware, precision)
    if peak is None:
        raise UsageError(f"`{hardware.name}` does not offer {precision}")
    flops, moved, items = _work(kind, BYTES[precision], d)
    units = hardware.sm_count
    waves = None if units is None or items is None else items / units
    return flops / peak, moved / hardware.memory_bandwidth, waves


def filled_waves(kind: OperatorKind, d: Mapping[str, Column], hardware: Hardware) -> Column | None:
    """Waves of rows if tiles that the edge cuts off counted in part; None where items have no edge. A kernel
    with a single row or column of tiles takes narrower ones."""
    if hardware.sm_count is None:
        return None
    if kind == "gemm":
        return np.maximum(d["m"] / TILE, 1) * np.maximum(d["n"] / TILE, 1) / hardware.sm_count
    if kind == "prefill_attention":
        return d["batch"] * d["num_heads"] * np.maximum(d["q_len"] / TILE, 1) / hardware.sm_count
    return None


def _work(kind: OperatorKind, b: float, d: Mapping[str, Column]) -> tuple[Column, Column, Column | None]:
    """FLOPs, bytes and work items; outputs of 8-bit products leave in 16 bits, as does attention."""
    out = max(b, 2.0)
    if kind == "gemm":
        m, n, k = d["m"], d["n"], d["k"]
        return 2 * m * n * k, b * k * (m + n) + out * m * n, np.ceil(m / TILE) * np.ceil(n / TILE)
    if kind == "experts":
        return (*_experts_work(b, out, d), None)
    if kind == "elementwise":
        return np.zeros(len(d["bytes"])), d["bytes"], None
    heads, kv, size = d["num_heads"], d["num_kv_heads"], d["head_dim"]
    if kind == "decode_attention":
        flops = 4 * d["batch"] * heads * size * d["kv_len"]
        moved = out * d["batch"] * size * (2 * heads + 2 * kv * d["kv_len"])
        return flops, moved, d["batch"] * kv
    past = d["kv_len"] - d["q_len"]
    pairs = d["q_len"] * past + d["q_len"] * (d["q_len"] + 1) / 2
    moved = out * d["batch"] * size * (2 * heads * d["q_len"] + 2 * kv * d["kv_len"])
    return 4 * d["batch"] * heads * size * pairs, moved, d["batch"] * heads * np.ceil(d["q_len"] / TILE)


def _experts_work(b: float, out: float, d: Mapping[str, Column]) -> tuple[Column, Column]:
    """Routed experts from their input to the sum over each token's experts, as engines run and tables time
    them: two grouped products, the activation between them and the sum, each through memory, and for all rows
    of the group, wherever their experts are. Tables are made with balanced routing: experts repeat only when
    all were used."""
    width, routed = d["n"] / d["tp"], d["m"] * d["topk"]
    rows = routed * d["tp"] / d["num_gpus"]
    matrix = 3 * d["k"] * width
    # In and out of the products 2 k, the activation 6 widths, the sum k for each row and k for each token.
    passed = routed * (3 * d["k"] + 6 * width) + d["m"] * d["k"]
    return 2 * rows * matrix, _experts_read(d) * matrix * b + passed * out


def _experts_read(d: Mapping[str, Column]) -> Column:
    """Different experts that the tokens of a step use on one rank when routing is balanced."""
    ranks = d["num_gpus"] / d["tp"]
    return np.minimum(d["num_experts"] / ranks, np.maximum(d["m"] * d["topk"] / ranks, 1))
