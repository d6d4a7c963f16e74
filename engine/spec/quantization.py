"""How many bits each kind of tensor takes, and which arithmetic the device may use on it."""

from typing import Annotated, Final

from pydantic import Field

from engine.spec.hardware import Precision
from engine.spec.settings import Settings

Bits = Annotated[float, Field(gt=0, le=64)]

UNSCALED_BITS: Final = 16
"""Elements this wide are stored as they are; only narrower ones share scales."""


class Quantization(Settings):
    """Bits per component. Components left out follow the one they belong to."""

    name: Annotated[str, Field(min_length=1, max_length=80)] = "custom"
    """What reports call this format."""
    aliases: Annotated[list[str], Field(max_length=50)] = []
    """Further names under which the catalogue finds this format."""
    weight_attn: Bits = 16
    """Bits of attention weights."""
    weight_ffn: Bits = 16
    """Bits of feed-forward weights."""
    weight_experts: Bits | None = None
    """Bits of routed and shared experts; `weight_ffn` when absent."""
    weight_embedding: Bits = 16
    """Bits of the embedding table; most checkpoints leave it unquantised."""
    weight_lm_head: Bits | None = None
    """Bits of the output head; `weight_embedding` when absent."""
    weight_router: Bits = 16
    """Bits of the routers."""
    weight_norm: Bits = 16
    """Bits of norm weights."""
    activation: Bits = 16
    """Bits of activations in memory."""
    kv_cache: Bits = 16
    """Bits of cached keys and values."""
    rope: Bits = 32
    """Bits of the rotary sine and cosine table."""
    group_size: Annotated[int, Field(ge=1)] | None = None
    """Weights that share one scale; absent: scales are too few to count. A 128x128 block is 16384.
    Components kept at 16 bits or more carry no scales."""
    scale_bits: Annotated[float, Field(ge=0, le=64)] = 16
    """Bits of one group's scale."""
    zero_bits: Annotated[float, Field(ge=0, le=64)] = 0
    """Bits of one group's zero point; 0 for symmetric formats."""
    kv_group_size: Annotated[int, Field(ge=1)] | None = None
    """Cached elements that share one scale; absent: not counted."""
    kv_scale_bits: Annotated[float, Field(ge=0, le=64)] = 16
    """Bits of one cache group's scale."""
    integer: bool = True
    """8- and 4-bit operands are integers (int8, int4); false for fp8 and fp4."""
    compute: Precision | None = None
    """Precision of matrix arithmetic; when absent the wider of weight and activation decides, so
    weight-only formats compute at the activation's precision."""
    notes: str | None = None
    """Where the format comes from."""

    def weight_bytes(self, bits: float) -> float:
        """Bytes one weight of `bits` bits takes in memory with its share of scale and zero point."""
        if self.group_size is None or bits >= UNSCALED_BITS:
            return bits / 8
        return (bits + (self.scale_bits + self.zero_bits) / self.group_size) / 8

    def kv_bytes(self) -> float:
        """Bytes one cached element takes with its share of the scale."""
        if self.kv_group_size is None or self.kv_cache >= UNSCALED_BITS:
            return self.kv_cache / 8
        return (self.kv_cache + self.kv_scale_bits / self.kv_group_size) / 8
