"""Models and devices of the performance-model tests."""

from __future__ import annotations

from typing import Any

from engine.perfmodel.deployment import Deployment
from engine.spec.analytical import AnalyticalSettings
from engine.spec.hardware import Hardware
from engine.spec.model import (
    LatentAttention,
    LayerRun,
    MixtureOfExperts,
    Model,
    SlidingWindow,
)
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism

LLAMA_8B = Model(
    name="llama-8b",
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    vocab_size=128256,
)
MIXTRAL = Model(
    name="mixtral",
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=32000,
    moe=MixtureOfExperts(num_experts=8, num_experts_per_tok=2, intermediate_size=14336),
)
# Small enough to work out by hand.
TINY = Model(
    name="tiny",
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=16,
    vocab_size=10,
)
WINDOWED = Model(
    name="windowed",
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=100,
    sliding_window=SlidingWindow(tokens=32),
    layers=[LayerRun(count=3, attention="window"), LayerRun(count=1, attention="full")],
)
CHUNKED_LOCAL = WINDOWED.model_copy(
    update={"name": "chunked-local", "sliding_window": SlidingWindow(tokens=32, kind="chunked")}
)
LATENT = Model(
    name="latent",
    hidden_size=256,
    num_hidden_layers=3,
    num_attention_heads=8,
    intermediate_size=512,
    vocab_size=1000,
    mla=LatentAttention(
        kv_lora_rank=64, q_lora_rank=96, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32
    ),
    moe=MixtureOfExperts(
        num_experts=16, num_experts_per_tok=2, intermediate_size=64, num_shared_experts=1, router_bias=True
    ),
    layers=[LayerRun(count=1), LayerRun(count=2, feed_forward="moe")],
)
MODELS = (LLAMA_8B, MIXTRAL, TINY, WINDOWED, CHUNKED_LOCAL, LATENT)


def device(**changes: Any) -> Hardware:
    """An A100 with endless memory unless told otherwise."""
    sheet: dict[str, Any] = {
        "name": "a100",
        "peak": {"bf16": "312 TFLOP/s", "int8": "624 TFLOP/s"},
        "memory_bandwidth": "2.039 TB/s",
        "memory": "100 TB",
        "link": {"name": "NVLink3", "bandwidth": "600 GB/s", "basis": "bidirectional total per device"},
    }
    return Hardware.model_validate(sheet | changes)


A100 = device()
H100 = device(name="h100", peak={"bf16": "989 TFLOP/s", "fp8": "1979 TFLOP/s"}, memory_bandwidth="3.35 TB/s")
BF16 = Quantization(name="bf16")


def deploy(
    model: Model = LLAMA_8B,
    hardware: Hardware = A100,
    quantization: Quantization = BF16,
    *,
    parallelism: Parallelism | None = None,
    **settings: Any,
) -> Deployment:
    """A deployment with the given analytical settings; numbers are base units."""
    chosen = AnalyticalSettings.model_validate({"kind": "analytical", **settings}, context={"trusted": True})
    return Deployment(model, hardware, quantization, parallelism or Parallelism(), chosen)
