"""A device that does not exist, whose kernels take exactly what its parameters say, with known noise."""

from __future__ import annotations

import numpy as np

from engine.perfmodel.forms import Amount, kernel_time_s
from engine.perfmodel.kernel_table import amounts, filled_waves
from engine.perfmodel.operator_fit import FORMS
from engine.perfmodel.summary import ARRAYS
from engine.spec.calibration import LawParameters, OperatorKind
from engine.spec.hardware import Hardware

DEVICE = Hardware.model_validate(
    {
        "name": "synthetic",
        "vendor": "nobody",
        "architecture": "Imaginary",
        "peak": {"bf16": 400e12, "fp16": 400e12},
        "memory": 80e9,
        "memory_bandwidth": 2e12,
        "sm_count": 100,
        "power": 500.0,
        "link": {"name": "wire", "bandwidth": 300e9, "basis": "per direction per device"},
    },
    context={"trusted": True},
)
TRUE: dict[OperatorKind, LawParameters] = {
    "gemm": LawParameters.model_validate(
        {
            "launch": 4e-6,
            "compute_efficiency": 0.8,
            "memory_efficiency": 0.85,
            "root": 8e-7,
            "wave_share": 0.2,
            "depth_cost": 8e-10,
        },
        context={"trusted": True},
    ),
    "prefill_attention": LawParameters.model_validate(
        {"launch": 11e-6, "compute_efficiency": 0.6, "memory_efficiency": 0.4, "wave_cost": 2e-6},
        context={"trusted": True},
    ),
    "decode_attention": LawParameters.model_validate(
        {"launch": 9e-6, "memory_efficiency": 0.9, "root": 2e-6, "wave_cost": 3e-6, "alone_rate": 1.4},
        context={"trusted": True},
    ),
}


def columns(kind: OperatorKind) -> dict[str, np.ndarray]:
    """Shapes of a kind on a grid."""
    if kind == "gemm":
        grid = np.meshgrid(
            [1, 8, 64, 200, 512, 3000], [512, 1024, 4096, 14336], [512, 2048, 8192], indexing="ij"
        )
        return dict(zip(("m", "n", "k"), (g.ravel().astype(float) for g in grid), strict=True))
    lengths = [128, 300, 1024, 4096, 16384]
    grid = np.meshgrid([1, 4, 32, 150], lengths, [4, 8, 16, 24, 32], [1, 2, 4], indexing="ij")
    batch, length, heads, ratio = (g.ravel().astype(float) for g in grid)
    return {
        "batch": batch,
        "q_len": length if kind == "prefill_attention" else np.ones_like(length),
        "kv_len": length,
        "num_heads": heads,
        "num_kv_heads": heads / ratio,
        "head_dim": np.full_like(length, 128.0),
    }


def measured(kind: OperatorKind, *, noise: float, seed: int = 1) -> dict[str, np.ndarray]:
    """The shapes with times, off by a log-normal factor."""
    found = columns(kind)
    depth = found["k"] if kind == "gemm" else 0.0
    compute, memory, waves = amounts(kind, "bf16", found, DEVICE)
    alone = None
    if kind == "decode_attention":
        assert waves is not None
        ungrouped = found["num_heads"] == found["num_kv_heads"]
        alone = np.where(ungrouped, memory / np.minimum(waves, 1), 0.0)
    amount = Amount(compute, memory, waves, depth, alone, filled=filled_waves(kind, found, DEVICE))
    time = kernel_time_s(ARRAYS, FORMS[kind], TRUE[kind], amount)
    factor = np.exp(np.random.default_rng(seed).normal(0, noise, len(time)))
    return {**found, "measured_s": time * factor}
