"""The framework's own time: what went into the steps of stacks is found again."""

from typing import Any

import pytest

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.host_fit import StackRow, fit_framework
from engine.perfmodel.parameter_sets import Chosen, choose
from engine.perfmodel.rows import operator_rows
from engine.spec.calibration import Calibration
from engine.spec.hardware import Hardware
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Workload

CPU = Hardware.model_validate(
    {"name": "cpu", "vendor": "custom", "peak": {"fp32": 1e12}, "memory": 8e9, "memory_bandwidth": 1e11},
    context={"trusted": True},
)
ERRORS = {
    "median": 0.1, "p90": 0.2, "ratio": 1, "within_10": 0.5, "within_25": 1, "coverage": 0.9, "split": "none",
}  # fmt: skip
FORMS = {
    "gemm": ("added", {"launch": 1e-6, "compute_efficiency": 0.1, "memory_efficiency": 0.1}),
    "prefill_attention": ("added", {"launch": 2e-5, "compute_efficiency": 0.05, "memory_efficiency": 0.1}),
    "decode_attention": ("waves", {"launch": 2e-5, "memory_efficiency": 0.1}),
    "elementwise": ("overlapped", {"launch": 2e-5, "memory_efficiency": 0.05, "root": 1e-6}),
}
PRODUCTS = {"q", "k", "v", "o", "gate", "up", "down", "LM head"}


def parameters(**more: Any) -> Calibration:
    """A set of the four kinds; `slower` and `host` are what a framework adds."""
    slower, host = more.get("slower"), more.get("host")
    operators = [
        {
            "operator": kind,
            "precision": "fp32",
            "form": form,
            "parameters": law,
            "slower_in_model": slower if kind == "elementwise" else None,
            "rows": 20,
            "sites": 5,
            "held_out": ERRORS,
            "bands": [{"low": 0.9, "high": 1.1, "rows": 20}],
            "time_range": {"low": 1e-5, "high": 1e-1},
        }
        for kind, (form, law) in FORMS.items()
    ]
    return Calibration.model_validate(
        {
            "name": "cpu", "device": "cpu", "device_name": "cpu", "engine": "transformers", "fused": False,
            "source": "a test", "fitted": "2026-11-20", "operators": operators, "host": host,
        },
        context={"trusted": True},
    )  # fmt: skip


def chosen(found: Calibration) -> Chosen:
    made = choose("cpu", CPU, {"cpu": found})
    assert made is not None
    return made


def stack(layers: int, hidden: int) -> Model:
    return Model.model_validate(
        {
            "name": "stack", "architecture": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": hidden // 64, "num_key_value_heads": 2, "head_dim": 64,
            "intermediate_size": 3 * hidden, "vocab_size": 256, "max_position_embeddings": 4096,
        }
    )  # fmt: skip


def measured(truth: Calibration) -> list[StackRow]:
    """Steps of stacks without their products, as the operator table adds them up under the truth."""
    fp32 = Quantization.model_validate(
        {
            "name": "fp32", "weight_attn": 32, "weight_ffn": 32, "weight_embedding": 32, "weight_norm": 32,
            "activation": 32, "kv_cache": 32,
        }
    )  # fmt: skip
    found = []
    for layers, hidden, tokens in ((2, 256, 64), (6, 256, 64), (2, 512, 256), (6, 512, 256)):
        deployment = Deployment(stack(layers, hidden), CPU, fp32, calibration=chosen(truth))
        workload = Workload(prompt_tokens=tokens, output_tokens=2, batch_size=1)
        for phase, rows in (("prefill", tokens), ("decode", 1)):
            table = operator_rows(deployment, workload, phases=(phase,))  # type: ignore[arg-type]
            assert {row.operator for row in table} >= PRODUCTS
            time_s = sum((r.estimate_s or 0.0) * r.count for r in table if r.operator not in PRODUCTS)
            shape = {
                "m": rows, "n": 3 * hidden, "k": hidden, "kv_len": tokens, "num_heads": hidden // 64,
                "num_kv_heads": 2, "head_dim": 64, "layers": layers, "time_s": time_s,
            }  # fmt: skip
            found.append(StackRow("between_products", "fp32", shape))
    return found


def test_time_between_kernels_and_slower_elementwise_steps_are_told_apart() -> None:
    truth = parameters(slower=1.5, host={"step": "2 ms", "layer": "500 us", "rows": 8})
    found = fit_framework(measured(truth), CPU, chosen(parameters()))
    assert found is not None
    assert found.streaming == pytest.approx(1.5, rel=1e-6)
    assert found.host.step == pytest.approx(2e-3, rel=1e-6)
    assert found.host.layer == pytest.approx(5e-4, rel=1e-6)
    assert found.host.rows == 8


def test_elementwise_steps_are_never_quicker_in_a_model() -> None:
    rows = measured(parameters(host={"step": "2 ms", "layer": "500 us", "rows": 8}))
    slow = parameters(slower=2.0)
    found = fit_framework(rows, CPU, chosen(slow))
    assert found is not None
    assert found.streaming == 1.0


def test_one_step_tells_nothing() -> None:
    rows = measured(parameters())
    assert fit_framework(rows[:1], CPU, chosen(parameters())) is None
    assert fit_framework(rows, CPU, None) is None
