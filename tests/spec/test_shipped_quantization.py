"""The shipped number formats: bytes of an element worked out by hand from each layout."""

import pytest

from engine.spec.catalog import catalog_files, load_quantization

FORMATS = {name: load_quantization(name) for name in catalog_files("quantization")}


@pytest.mark.parametrize(
    ("name", "weight_bytes"),
    [
        ("fp32", 4.0),
        ("bf16", 2.0),
        ("fp8", 1.0),
        ("fp8-block128", 1 + 4 / 128**2),  # one fp32 scale for a 128 x 128 block: 1.00024414
        ("int8-w8a8", 1.0),
        ("w8a16-g128", 1 + 2 / 128),  # 1.015625
        ("w4a16-g128", 0.5 + 2.5 / 128),  # fp16 scale and 4-bit zero point: 0.51953125
        ("w4a16-g128-sym", 0.5 + 2 / 128),  # 0.515625
        ("w4a16-g32", 0.5 + 2.5 / 32),  # 0.578125
        ("nvfp4", 0.5 + 1 / 16),  # 0.5625
        ("mxfp4", 0.5 + 1 / 32),  # 0.53125
        ("mxfp8", 1 + 1 / 32),
        ("nf4", 0.5 + (1 + 4 / 256) / 64),  # 8-bit scale of 64, their fp32 scale of 256: 0.51586914
        ("gguf-q4-0", 18 / 32),
        ("gguf-q8-0", 34 / 32),
        ("gguf-q4-k", 144 / 256),
        ("gguf-q5-k", 176 / 256),
        ("gguf-q6-k", 210 / 256),  # 0.8203125
        ("bitnet-1.58", 1.58 / 8),
    ],
)
def test_bytes_of_a_weight(name: str, weight_bytes: float) -> None:
    number_format = FORMATS[name]
    assert number_format.weight_bytes(number_format.weight_ffn) == pytest.approx(weight_bytes, rel=1e-12)


def test_experts_alone_are_narrow_where_only_they_are_quantised() -> None:
    number_format = FORMATS["mxfp4-experts"]
    assert number_format.weight_experts == 4
    assert number_format.weight_bytes(4) == 0.53125
    assert number_format.weight_bytes(number_format.weight_attn) == 2.0


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("bf16", 2.0),
        ("kv-fp8", 1.0),
        ("fp8-kv-fp8", 1.0),
        ("kv-int8", 1 + 2 / 128),
        ("kv-int4", 0.5 + 4 / 64),
    ],
)
def test_bytes_of_a_cached_element(name: str, kv_bytes: float) -> None:
    assert FORMATS[name].kv_bytes() == kv_bytes


@pytest.mark.parametrize(
    ("asked", "found"),
    [("w8a8", "int8-w8a8"), ("W4A16_G128", "w4a16-g128"), ("q4_0", "gguf-q4-0"), ("bfloat16", "bf16")],
)
def test_other_names(asked: str, found: str) -> None:
    assert load_quantization(asked) == FORMATS[found]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_called_as_its_file_and_says_what_it_is(name: str) -> None:
    assert FORMATS[name].name == name
    assert FORMATS[name].notes


def test_embedding_and_head_stay_wide_unless_the_format_says_so() -> None:
    narrow = {name for name, one in FORMATS.items() if one.weight_embedding < 16}
    assert narrow == {name for name in FORMATS if name.startswith("gguf-")}
