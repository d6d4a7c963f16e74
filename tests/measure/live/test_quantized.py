"""Weights of 8 and 4 bits in this process: which library, what is said without one, and what it made."""

from __future__ import annotations

import importlib.util

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure import local_quantized
from engine.measure.local_quantized import choose_library, stored_as, stored_bytes
from engine.spec.model import Model
from tests.measure.live.conftest import TINY

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def installed(monkeypatch, *names):
    monkeypatch.setattr(local_quantized.importlib.util, "find_spec", lambda name: name in names or None)


@pytest.mark.parametrize(("wanted", "there", "random", "chosen"), [
    ("auto", ("torchao", "bitsandbytes"), False, "torchao"),
    ("auto", ("bitsandbytes",), False, "bitsandbytes"),
    ("auto", ("torchao", "bitsandbytes"), True, "torchao"),
    ("bitsandbytes", ("torchao", "bitsandbytes"), False, "bitsandbytes"),
])  # fmt: skip
def test_the_library_that_is_there_and_can(monkeypatch, wanted, there, random, chosen):
    installed(monkeypatch, *there)
    assert choose_library(wanted, bits=8, random=random) == chosen


@pytest.mark.parametrize(("wanted", "there", "random", "message", "hint"), [
    ("auto", (), False, "weights of 4 bits need `torchao` or `bitsandbytes`, not installed here",
     "pip install torchao, or use `quantization: bf16`"),
    ("auto", ("bitsandbytes",), True, "weights of 4 bits need `torchao`, not installed here",
     "pip install torchao, or use `quantization: bf16`"),
    ("bitsandbytes", ("torchao",), False, "weights of 4 bits need `bitsandbytes`, not installed here",
     "pip install bitsandbytes, or use `quantization: bf16`"),
])  # fmt: skip
def test_what_is_missing_is_named(monkeypatch, wanted, there, random, message, hint):
    installed(monkeypatch, *there)
    with pytest.raises(EnvironmentMissing) as caught:
        choose_library(wanted, bits=4, random=random)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_bitsandbytes_cannot_quantize_what_is_not_loaded():
    with pytest.raises(MeasurementError) as caught:
        choose_library("bitsandbytes", bits=8, random=True)
    assert caught.value.message == (
        "bitsandbytes quantizes weights while it loads them, and random ones are not loaded"
    )


def test_what_stands_in_memory_is_looked_at():
    class Int8Tensor(torch.Tensor):
        """Named like the library's."""

        def __tensor_flatten__(self):
            return ["qdata", "scale"], None

    layer = torch.nn.Linear(8, 4, bias=False)
    assert stored_as(layer) == ("none", "16")
    assert stored_bytes(layer.weight) == 8 * 4 * 4
    weight = torch.empty(4, 8).as_subclass(Int8Tensor)
    weight.qdata, weight.scale = torch.zeros(4, 8, dtype=torch.int8), torch.zeros(4, dtype=torch.bfloat16)
    # 32 weights of one byte and 4 scales of two.
    assert stored_bytes(weight) == 40
    del layer.weight
    layer.weight = weight
    assert stored_as(layer) == ("torchao", "8")


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_random_weights_of_eight_bits():
    from engine.measure.local_loop import Loop, random_prompts
    from engine.measure.local_model import LocalRequest, build_local_model

    local = build_local_model(
        LocalRequest(Model.model_validate(TINY), device="cpu", dtype="bf16", threads=1, weight_bits=8)
    )
    assert (local.observed["quantizer"], local.observed["weight bits"]) == ("torchao", "8")
    wide = build_local_model(LocalRequest(Model.model_validate(TINY), device="cpu", dtype="bf16", threads=1))
    assert local.weights_bytes < wide.weights_bytes
    assert local.observed["parameters"] == wide.observed["parameters"]
    prompts = random_prompts(local, sequences=2, length=8, seed=1)
    assert Loop(local).run(prompts, 3).output_tokens == 3
