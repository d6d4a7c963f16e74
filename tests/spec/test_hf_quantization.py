"""What checkpoints declare about their number format, method by method."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import SpecError
from engine.spec.hf_quantization import quantization_from_config
from engine.spec.quantization import Quantization


def found(**section: Any) -> Quantization:
    quantization = quantization_from_config({"quantization_config": section})
    assert quantization is not None
    return quantization


def compressed(
    weights: dict[str, Any], activations: dict[str, Any] | None = None, **more: Any
) -> Quantization:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return found(quant_method="compressed-tensors", config_groups={"group_0": group}, **more)


def test_a_checkpoint_without_the_section_is_not_quantised():
    assert quantization_from_config({"torch_dtype": "bfloat16"}) is None
    assert quantization_from_config({"quantization_config": None}) is None


def test_the_section_may_sit_in_the_language_model():
    inner = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    quantization = quantization_from_config({"text_config": inner})
    assert quantization is not None
    assert quantization.group_size == 32


def test_gptq_and_awq_carry_scales_and_zeros():
    # int4 in groups of 128 with an fp16 scale and a 4-bit zero: (4 + 20/128) / 8 bytes
    asymmetric = found(quant_method="awq", bits=4, group_size=128, zero_point=True)
    assert asymmetric.weight_bytes(asymmetric.weight_ffn) == 0.51953125
    symmetric = found(quant_method="gptq", bits=4, group_size=128, sym=True)
    assert symmetric.weight_bytes(symmetric.weight_attn) == 0.515625
    assert (symmetric.activation, symmetric.weight_embedding, symmetric.integer) == (16, 16, True)
    whole_rows = found(quant_method="gptq", bits=8, group_size=-1)
    assert whole_rows.group_size is None


def test_fp8_in_blocks():
    block = found(quant_method="fp8", weight_block_size=[128, 128], activation_scheme="dynamic")
    assert block.weight_bytes(8) == pytest.approx(1.00024414, abs=1e-8)
    assert (block.activation, block.integer, block.name) == (8, False, "fp8-block128x128")
    assert found(quant_method="fp8").group_size is None


def test_mxfp4_of_gpt_oss_converts_experts_only():
    mxfp4 = found(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "lm_head"])
    assert (mxfp4.weight_experts, mxfp4.weight_attn, mxfp4.weight_ffn) == (4, 16, 16)
    assert mxfp4.weight_bytes(4) == 0.53125
    assert mxfp4.notes == (
        "from the `quantization_config` of the checkpoint; "
        "modules left unquantised: `model.layers.*.self_attn`, `lm_head`"
    )


def test_bitsandbytes_in_8_and_4_bits():
    nf4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert (
        found(**nf4, bnb_4bit_use_double_quant=True).weight_bytes(4) == 0.515869140625
    )  # (4 + 8.125/64) / 8
    assert found(**nf4).weight_bytes(4) == 0.5625  # one fp32 scale for 64 weights
    int8 = found(load_in_8bit=True)
    assert (int8.weight_ffn, int8.activation, int8.integer) == (8, 8, True)


def test_bitnet_is_packed_four_to_a_byte():
    bitnet = found(quant_method="bitnet")
    assert (bitnet.weight_attn, bitnet.activation) == (2, 8)


def test_compressed_tensors_of_every_kind():
    int4 = compressed({"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True})
    assert (int4.name, int4.weight_bytes(4), int4.activation) == ("int4-w4a16-g32", 0.5625, 16)
    nvfp4 = compressed(
        {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"},
        {"num_bits": 4, "type": "float"},
        kv_cache_scheme={"num_bits": 8, "type": "float"},
    )
    assert (nvfp4.weight_bytes(4), nvfp4.activation, nvfp4.kv_cache) == (0.5625, 4, 8)
    w8a8 = compressed({"num_bits": 8, "type": "int", "strategy": "channel"}, {"num_bits": 8})
    assert (w8a8.group_size, w8a8.activation, w8a8.integer) == (None, 8, True)
    block = compressed({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]})
    assert block.group_size == 128 * 128


def test_modules_left_alone_keep_16_bits():
    kimi = compressed(
        {"num_bits": 4, "type": "int", "group_size": 32},
        ignore=["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|down)_proj.*"],
    )
    assert (kimi.weight_experts, kimi.weight_attn, kimi.weight_ffn) == (4, 16, 16)
    assert (kimi.weight_lm_head, kimi.weight_router) == (16, 16)
    assert kimi.notes is not None
    assert kimi.notes.endswith(
        "shared experts, left unquantised, are counted in the format of the routed ones"
    )
    head_too = compressed({"num_bits": 4, "type": "int"}, ignore=["model.layers.0.self_attn.q_proj"])
    assert (head_too.weight_lm_head, head_too.weight_attn) == (4, 4)  # one layer of many is not all


def test_hostile_patterns_are_never_run():
    pattern = "re:(a+)+$" + "a" * 5000
    quantization = compressed({"num_bits": 4, "type": "int"}, ignore=[pattern] * 3)
    assert quantization.weight_ffn == 4


GIVES = "`quantization_config` gives `weight_attn`: input should be"
CLASH = {"a": {"weights": {"num_bits": 4}}, "b": {"weights": {"num_bits": 8}}}


@pytest.mark.parametrize(
    "method, keys, message",
    [
        ("gptq", {}, "`bits` is missing"),
        ("gptq", {"bits": "4"}, "`bits` is '4', expected a whole number"),
        ("fp8", {"weight_block_size": 128}, "`weight_block_size` is 128, expected two whole numbers"),
        ("compressed-tensors", {}, "`config_groups` is missing"),
        ("compressed-tensors", {"config_groups": {"a": {}}}, "`weights` of a group is missing"),
        (
            "compressed-tensors",
            {"config_groups": CLASH},
            "groups of modules in different formats have no cost model",
        ),
        ("modelopt", {"quant_algo": "W3"}, "`quant_algo` `W3` is not known"),
    ],
)
def test_unclear_sections_are_refused(method: str, keys: dict[str, Any], message: str):
    assert refusal({"quant_method": method, **keys}) == f"`quantization_config`: {message}"


@pytest.mark.parametrize(
    "section, message",
    [
        ({"quant_method": "alchemy"}, "quantization method `alchemy` is not known"),
        ({}, "quantization method `None` is not known"),
        ({"quant_method": "gptq", "bits": 0}, f"{GIVES} greater than 0"),
        ({"quant_method": "gptq", "bits": 99}, f"{GIVES} less than or equal to 64"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_refused(section: dict[str, Any], message: str):
    assert refusal(section) == message


def refusal(section: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        quantization_from_config({"quantization_config": section}, origin="m/config.json")
    (problem,) = caught.value.problems
    assert problem.file == "m/config.json"
    return problem.message
