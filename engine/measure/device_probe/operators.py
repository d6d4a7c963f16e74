"""The operators as calls: what transformers runs for them, on weights and caches too large for a cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from engine.measure.device_probe.shapes import Shape

Call = Callable[[int], Any]
_MOST_WINDOWS: Final = 4096


@dataclass(frozen=True)
class Bench:
    """Where operators run."""

    device: str
    dtype: Any
    """A torch type."""
    pool: Any
    """Random numbers that do not fit in a cache; weights and caches are windows of it."""

    @classmethod
    def on(cls, device: str, dtype: Any, cold_bytes: float) -> Bench:
        """A bench with a pool of this size."""
        import torch

        pool = torch.empty(int(cold_bytes) // dtype.itemsize, device=device, dtype=dtype)
        return cls(device, dtype, pool.uniform_(-0.1, 0.1))

    def fill(self, *size: int) -> Any:
        """Random numbers of a size."""
        import torch

        return torch.randn(*size, device=self.device, dtype=self.dtype)

    def windows(self, *size: int) -> list[Any]:
        """Tensors of a size all over the pool, so that the next one is never in a cache."""
        amount = math.prod(size)
        count = max(1, min(len(self.pool) // max(amount, 1), _MOST_WINDOWS))
        if amount > len(self.pool):
            return [self.fill(*size)]
        return [self.pool[i * amount : (i + 1) * amount].view(*size) for i in range(count)]


def gemm(bench: Bench, shape: Shape) -> Call:
    """A projection: warm activations, cold weights."""
    import torch

    x = bench.fill(shape["m"], shape["k"])
    weights = bench.windows(shape["n"], shape["k"])
    return lambda i: torch.nn.functional.linear(x, weights[i % len(weights)])


def attention(bench: Bench, shape: Shape) -> Call:
    """Scaled dot-product attention; a decode step first joins the new token to the cache, as
    transformers' growing cache does."""
    import torch

    b, heads, kv, width = (shape[name] for name in ("batch", "num_heads", "num_kv_heads", "head_dim"))
    query = bench.fill(b, heads, shape["q_len"], width)
    past = shape["kv_len"] - shape["q_len"]
    new = bench.fill(b, kv, shape["q_len"], width)
    caches = bench.windows(b, kv, past, width) if past else [bench.fill(b, kv, 0, width)]
    grouped = heads != kv

    def call(i: int) -> Any:
        keys, values = caches[i % len(caches)], caches[(i + 1) % len(caches)]
        key, value = (torch.cat([keys, new], dim=2), torch.cat([values, new], dim=2)) if past else (new, new)
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=past == 0, enable_gqa=grouped
        )

    return call


def elementwise(bench: Bench, shape: Shape) -> Call:
    """Everything a Llama layer does between its products, as transformers writes it out: two norms, rotation
    of queries and keys, growth of the cache aside, the gated activation and two residual sums."""
    import torch

    rows, width, inner = shape["m"], shape["k"], shape["n"]
    x, weight = bench.fill(1, rows, width), bench.fill(width)
    gate, up = bench.fill(1, rows, inner), bench.fill(1, rows, inner)
    query = x.view(1, rows, -1, HEAD).transpose(1, 2)
    key = query[:, : max(1, width // HEAD // 4)]
    cos, sin = bench.fill(1, 1, rows, HEAD), bench.fill(1, 1, rows, HEAD)
    half = HEAD // 2

    def norm() -> Any:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return weight * wide.to(x.dtype)

    def rotated(part: Any) -> Any:
        turned = torch.cat((-part[..., half:], part[..., :half]), dim=-1)
        return (part * cos) + (turned * sin)

    def call(_: int) -> Any:
        first, second = norm(), norm()
        rotated(query), rotated(key)
        return torch.nn.functional.silu(gate) * up, x + first, x + second

    return call


HEAD: Final = 64


def copy(bench: Bench, shape: Shape) -> Call:
    """Reading and writing memory, nothing else."""
    source = bench.windows(shape["bytes"] // 2 // bench.dtype.itemsize)
    return lambda i: source[i % len(source)].clone()


def launch(bench: Bench) -> Call:
    """An operator with next to nothing to do."""
    x = bench.fill(1)
    return lambda _: x.add_(1)
