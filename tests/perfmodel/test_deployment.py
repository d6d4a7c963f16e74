"""What a deployment cannot do, and what it assumes: exact messages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.errors import PlanError
from engine.perfmodel.deployment import Deployment, Issue, check_deployment
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.model import LinearAttention, Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Workload
from tests.perfmodel.shapes import A100, BF16, LATENT, LLAMA_8B, MIXTRAL, deploy, device


def issues(model: Model = LLAMA_8B, **options: object) -> list[tuple[str, str, str]]:
    return [(i.severity, i.field, i.message) for i in check_deployment(deploy(model, **options))]


def test_nothing_to_say_about_a_plain_deployment():
    assert check_deployment(Deployment(LLAMA_8B, A100, BF16)) == []


def test_precision_the_device_lacks():
    fp8 = Quantization(name="fp8", weight_attn=8, weight_ffn=8, activation=8, integer=False)
    message = (
        "`fp8` computes attention projections and feed-forward layers in fp8, "
        "which `a100` does not offer (it has bf16, int8)"
    )
    assert issues(quantization=fp8) == [("error", "quantization", message)]
    old = device(name="p100", peak={"fp32": "10 TFLOP/s"})
    (found,) = check_deployment(deploy(hardware=old))
    assert found.message == "`bf16` computes everything in bf16, which `p100` does not offer (it has fp32)"
    # Weights alone are narrow: arithmetic stays at 16 bits.
    assert issues(quantization=Quantization(name="w8a16", weight_attn=8, weight_ffn=8, integer=False)) == []


def test_sixteen_bits_at_the_rate_of_the_other_format_are_said_to_be():
    volta = device(name="v100", peak={"fp16": "125 TFLOP/s"})
    said = [("note", "quantization", "`v100` has no bf16: computed at its fp16 rate")]
    assert issues(hardware=volta) == said
    half = Quantization(name="fp16", weight_attn=16, weight_ffn=16, compute="fp16")
    assert issues(hardware=volta, quantization=half) == []


def test_an_impossible_deployment_is_refused():
    with pytest.raises(PlanError) as caught:
        summarise(deploy(parallelism=Parallelism(tensor=3)), WorkloadArrays.of(Workload()))
    assert caught.value.message == "32 attention heads of `llama-8b` do not divide over 3 devices"
    assert caught.value.data["issues"] == [
        Issue("error", "parallelism.tensor", "32 attention heads of `llama-8b` do not divide over 3 devices")
    ]


TENSOR, EXPERT, PIPELINE = "parallelism.tensor", "parallelism.expert", "parallelism.pipeline"
MANY_HEADS = LLAMA_8B.model_copy(
    update={"vocab_size": 1001, "num_key_value_heads": 32, "num_attention_heads": 64}
)


@pytest.mark.parametrize(
    "model, split, expected",
    [
        (
            LLAMA_8B,
            {"tensor": 16},
            [
                ("note", TENSOR, "16 devices share 8 key/value heads: the heads are replicated"),
                (
                    "note",
                    "parallelism.node_link",
                    "a group of 16 devices spans nodes of 8: infiniband-400g between",
                ),
            ],
        ),
        (
            LATENT,
            {"tensor": 2},
            [("note", TENSOR, "the latent cache is replicated on every device of the group")],
        ),
        (
            MANY_HEADS,
            {"tensor": 64, "devices_per_node": 64},
            [
                ("note", TENSOR, "64 devices share 32 key/value heads: the heads are replicated"),
                ("note", TENSOR, "the vocabulary 1001 is padded to 16 on each device"),
            ],
        ),
        (LLAMA_8B, {"expert": 2}, [("error", EXPERT, "`llama-8b` has no experts to spread over 2 devices")]),
        (MIXTRAL, {"expert": 3, "data": 3}, [("error", EXPERT, "8 experts do not divide over 3 devices")]),
        (
            MIXTRAL,
            {"expert": 4, "data": 2},
            [("error", EXPERT, "4 expert ranks do not divide the tensor x data group of 2")],
        ),
        (LLAMA_8B, {"pipeline": 5}, [("note", PIPELINE, "32 layers over 5 stages: the fullest has 7")]),
        (
            LLAMA_8B,
            {"pipeline": 33, "devices_per_node": 64},
            [("error", PIPELINE, "32 layers cannot fill 33 pipeline stages")],
        ),
    ],
)
def test_splits(model: Model, split: dict[str, int], expected: list[tuple[str, str, str]]):
    assert issues(model, parallelism=Parallelism(**split)) == expected


def test_uneven_heads_and_linear_attention_heads():
    odd = LLAMA_8B.model_copy(update={"num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 128})
    assert issues(odd, parallelism=Parallelism(tensor=2)) == [
        ("note", "parallelism.tensor", "3 key/value heads over 2 devices: the fullest holds 2")
    ]
    state = LinearAttention(num_key_heads=3, num_value_heads=6, key_head_dim=16, value_head_dim=16)
    linear = LLAMA_8B.model_copy(update={"linear_attention": state})
    assert issues(linear, parallelism=Parallelism(tensor=2)) == [
        (
            "error",
            "parallelism.tensor",
            "3 linear-attention key heads of `llama-8b` do not divide over 2 devices",
        )
    ]


def test_links():
    bare, slot = device(link=None), device(link=None, pcie="PCIe4 x16")
    two = Parallelism(tensor=2)
    assert issues(hardware=bare, parallelism=two) == [
        ("error", "hardware", "`a100` names no link between devices, so communication cannot be predicted")
    ]
    assert issues(hardware=slot, parallelism=two) == [
        ("note", "hardware", "devices talk over PCIe4 x16: 31.5 GB/s per direction")
    ]
    # Replicas do not talk.
    assert issues(hardware=bare, parallelism=Parallelism(data=4)) == []


def test_routing():
    field = "measurements.routing.probabilities"
    for routing, message in (
        ({"law": "given"}, "the routing law `given` needs `probabilities`"),
        ({"law": "given", "probabilities": [1.0, 1.0]}, "2 probabilities for 8 experts"),
        (
            {"law": "given", "probabilities": [0.5] * 8},
            "probabilities add up to 4, each token uses 2 experts",
        ),
    ):
        assert issues(MIXTRAL, routing=routing) == [("error", field, message)]
    assert issues(MIXTRAL, routing={"law": "given", "probabilities": [0.25] * 8}) == []


def test_memory_and_assumptions_are_noted():
    assert issues(hardware=device(memory=None)) == [
        ("note", "hardware", "the memory of `a100` is unknown: fit is not checked")
    ]
    assumed = LLAMA_8B.model_copy(update={"assumptions": ["the window is taken as 4096"]})
    assert issues(assumed) == [("note", "model", "the window is taken as 4096")]


def test_checking_needs_no_numpy():
    code = (
        "import sys, engine.perfmodel.deployment, engine.perfmodel.capacity, engine.perfmodel.point;"
        "assert 'numpy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
