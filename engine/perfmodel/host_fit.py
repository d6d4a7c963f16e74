"""What a framework spends besides its kernels, from steps of small stacks of layers.

Two kinds of rows tell it. `decode_step` is a whole step of a model so tiny that what its kernels do not
explain is time between them. `between_products` is a step of a stack whose products were timed where they ran
and taken out: time between kernels and the elementwise steps, which in a model write to fresh memory and find
their caches full of weights, so they have a bandwidth there that no kernel repeated by itself shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from engine.perfmodel.calibration import kernel_spent
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.fit import Column
from engine.perfmodel.load import load_of_workload
from engine.perfmodel.parameter_sets import Chosen
from engine.perfmodel.predict import phase_step
from engine.perfmodel.program import compiled
from engine.spec.calibration import HostFit
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload

ROWS: Final = ("decode_step", "between_products")
"""Operators of a table that tell about the framework."""
_FEWEST: Final = 2
_BITS: Final = {"fp32": 32, "bf16": 16, "fp16": 16}
_TENSORS: Final = (
    "weight_attn",
    "weight_ffn",
    "weight_embedding",
    "weight_norm",
    "activation",
    "kv_cache",
)


class StackRow(NamedTuple):
    """A measured step of a stack."""

    operator: str
    precision: str
    shape: Mapping[str, float]
    """Dimensions, and `time_s`."""


@dataclass(frozen=True)
class FrameworkFit:
    """Time between kernels, and how much longer elementwise steps take in a model than by themselves."""

    host: HostFit
    streaming: float
    """Factor on the streaming time of elementwise kernels, at least 1."""


class _Known(NamedTuple):
    """Seconds that fitted kernels explain."""

    kernels_s: float
    """All of it but the next."""
    streaming_s: float
    """Elementwise kernels without their launches; 0 where only whole steps are asked about."""


def fit_framework(rows: Sequence[StackRow], hardware: Hardware, chosen: Chosen | None) -> FrameworkFit | None:
    """The framework's own time behind some rows; None where there are too few, or no law for a kernel."""
    if len(rows) < _FEWEST or chosen is None:
        return None
    known = [found for row in rows if (found := _known(row, hardware, chosen)) is not None]
    if len(known) < len(rows):
        return None
    measured = np.array([row.shape["time_s"] for row in rows])
    kernels, streaming = np.array(known).T
    steady = [np.ones(len(rows)), np.array([row.shape["layers"] for row in rows])]
    factor = 1.0
    if streaming.any():
        # What runs by itself on warm memory is the least.
        factor = max(1.0, float(_solved([*steady, streaming], measured - kernels, measured)[-1]))
    step, layer = map(float, _solved(steady, measured - kernels - factor * streaming, measured))
    host = {"layer": max(layer, 0.0), "step": max(step, 0.0), "rows": len(rows)}
    return FrameworkFit(HostFit.model_validate(host, context={"trusted": True}), factor)


def _solved(terms: Sequence[Column], rest: Column, measured: Column) -> Column:
    """Least squares of relative errors: a step of a millisecond tells as much as one of a hundred."""
    found = np.linalg.lstsq(np.stack(terms, axis=1) / measured[:, None], rest / measured)[0]
    return np.asarray(found, dtype=np.float64)


def _known(row: StackRow, hardware: Hardware, chosen: Chosen) -> _Known | None:
    shape = row.shape
    bits = dict.fromkeys(_TENSORS, _BITS[row.precision])
    quantization = Quantization.model_validate({"name": row.precision, **bits})
    plan = compiled(Deployment(_stack(shape), hardware, quantization, calibration=chosen))
    if plan.timing is None:
        return None
    prefill = shape["m"] > 1
    tokens = int(shape["kv_len"])
    load = load_of_workload(Workload(prompt_tokens=tokens, output_tokens=2, batch_size=1))
    step, run = phase_step(plan, load, "prefill" if prefill else "decode")
    kernels = streaming = 0.0
    for timed in plan.timing.common:
        spent = kernel_spent(plan.timing, timed, step, run, decoding=not prefill)
        if spent is None:
            continue
        if row.operator == "decode_step":
            kernels += float(spent.time_s)
        elif timed.kernel.family == "elementwise":
            launches = float(spent.calls) * spent.law.parameters.launch
            kernels += launches
            streaming += float(spent.time_s) - launches
        elif timed.kernel.family != "gemm":
            kernels += float(spent.time_s)
    return _Known(kernels, streaming)


def _stack(shape: Mapping[str, float]) -> Model:
    count = {name: int(shape[name]) for name in ("k", "n", "layers", "num_heads", "num_kv_heads", "head_dim")}
    return Model.model_validate(
        {
            "name": "stack",
            "architecture": "llama",
            "hidden_size": count["k"],
            "num_hidden_layers": count["layers"],
            "num_attention_heads": count["num_heads"],
            "num_key_value_heads": count["num_kv_heads"],
            "head_dim": count["head_dim"],
            "intermediate_size": count["n"],
            "vocab_size": 256,
            "max_position_embeddings": 4096,
        }
    )
