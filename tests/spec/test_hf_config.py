"""`config.json` files in all their variety: what they mean, what is assumed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, SpecError
from engine.perfmodel.parameters import count_parameters
from engine.spec.hf_config import model_from_config
from engine.spec.hf_families import FAMILIES, NOT_EXPRESSIBLE
from engine.spec.hf_file import read_config
from engine.spec.model import Model

WHOLE = "expected a whole number from 0 to 1000000000"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
LATENT = {
    **LLAMA,
    "model_type": "deepseek_v3",
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
}
QWEN_MOE = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}


def read(base: dict[str, Any] = LLAMA, /, **changes: Any) -> Model:
    return model_from_config({**base, **changes}, name="mine")


def kinds(model: Model) -> str:
    """One letter a layer: full, window, linear; upper case where it has experts."""
    letters = []
    for run in model.layer_runs:
        letter = run.attention[0]
        letters.append((letter.upper() if run.feed_forward == "moe" else letter) * run.count)
    return "".join(letters)


def without(base: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in base.items() if key not in keys}


def refusal(config: Any, **changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        model_from_config({**config, **changes}, name="mine", origin="m/config.json")
    assert all(problem.file == "m/config.json" for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


# --- what is read ---------------------------------------------------------------------------------


def test_a_plain_config_needs_no_assumption():
    model = read()
    assert model.assumptions == []
    assert (model.name, model.architecture) == ("mine", "llama")
    assert (model.kv_heads, model.head_size, kinds(model)) == (2, 16, "ffffffff")


def test_head_width_of_the_config_wins_over_hidden_size_by_heads():
    assert read(head_dim=24).head_size == 24


@pytest.mark.parametrize("key", ["num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"])
def test_the_number_of_experts_has_several_names(key: str):
    model = read({**without(QWEN_MOE, "num_experts"), key: 6})
    assert model.moe is not None
    assert model.moe.num_experts == 6


def test_a_window_that_is_switched_off_is_no_window():
    qwen = {**LLAMA, "model_type": "qwen2", "sliding_window": 1024, "max_window_layers": 5}
    assert kinds(read(qwen, use_sliding_window=False)) == "ffffffff"
    assert kinds(read(qwen, use_sliding_window=True)) == "fffffwww"
    assert kinds(read(qwen)) == "ffffffff"  # the class default is off


def test_mistral_uses_its_window_in_every_layer():
    model = read(model_type="mistral", sliding_window=1024)
    assert kinds(model) == "wwwwwwww"
    assert model.layers is None
    assert kinds(read(model_type="mistral", sliding_window=None)) == "ffffffff"


def test_a_window_longer_than_the_context_is_full_attention():
    model = read(model_type="phi3", sliding_window=4096)
    assert kinds(model) == "ffffffff"
    assert model.assumptions == [
        "`sliding_window` 4096 is not shorter than the context 4096; read as full attention"
    ]


def test_layer_types_win_over_every_pattern():
    types = ["sliding_attention", "full_attention"] * 4
    model = read(model_type="gemma3_text", head_dim=16, sliding_window=64, layer_types=types)
    assert kinds(model) == "wfwfwfwf"
    assert model.repeat_layers
    assert len(model.layers or ()) == 2


@pytest.mark.parametrize(
    "kind, changes, layout",
    [
        ("gemma2", {"head_dim": 16, "sliding_window": 64}, "wfwfwfwf"),
        ("gemma3_text", {"head_dim": 16, "sliding_window": 64}, "wwwwwfww"),
        ("gemma3_text", {"head_dim": 16, "sliding_window": 64, "sliding_window_pattern": 3}, "wwfwwfww"),
        ("exaone4", {"sliding_window": 64, "sliding_window_pattern": "LLLG"}, "wwwfwwwf"),
        ("cohere2", {"head_dim": 16, "sliding_window": 64}, "wwwfwwwf"),
        ("olmo3", {"sliding_window": 64}, "wwwfwwwf"),
    ],
)
def test_patterns_of_families(kind: str, changes: dict[str, Any], layout: str):
    assert kinds(read(model_type=kind, **changes)) == layout


@pytest.mark.parametrize(
    "changes, layout",
    [
        ({}, "FFFFFFFF"),
        ({"decoder_sparse_step": 2}, "fFfFfFfF"),
        ({"mlp_only_layers": [0, 7]}, "fFFFFFFf"),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1]}, "fffFfFfF"),
        ({"first_k_dense_replace": 2}, "ffFFFFFF"),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, "ffFfFfFf"),
        ({"moe_layer_freq": [0, 0, 1, 1, 1, 1, 1, 0]}, "ffFFFFFf"),
        ({"moe_layers": [2, 3]}, "ffFFffff"),
        ({"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 5}, "fffFFFFF"),
        ({"interleave_moe_layer_step": 4}, "fffFfffF"),
    ],
)
def test_which_layers_have_experts(changes: dict[str, Any], layout: str):
    assert kinds(read(QWEN_MOE, **changes)) == layout


def test_deepseek_latent_attention_shared_expert_and_dense_layers():
    model = read(LATENT, num_nextn_predict_layers=1)
    assert kinds(model) == "fffFFFFF"
    assert model.mla is not None
    assert (model.mla.kv_lora_rank, model.mla.q_lora_rank, model.head_size) == (16, 24, 12)
    assert model.moe is not None
    assert (model.moe.num_shared_experts, model.moe.router_bias) == (1, True)
    assert model.assumptions == ["1 multi-token-prediction layer(s) are left out"]


def test_null_means_left_out_on_purpose_and_absent_means_the_class_default():
    direct = read(LATENT, q_lora_rank=None, n_shared_experts=None)
    assert direct.mla is not None
    assert direct.mla.q_lora_rank is None
    assert direct.moe is not None
    assert direct.moe.num_shared_experts == 0
    assert direct.assumptions == []
    sparse = read(without(LATENT, "n_shared_experts", "first_k_dense_replace", "q_lora_rank"))
    assert sparse.assumptions == [
        "`q_lora_rank` is not given; queries are read as projected directly",
        "`first_k_dense_replace` is not given; the class default 3 is used",
        "`n_shared_experts` is not given; the class default 1 is used",
    ]


@pytest.mark.parametrize("kind, tied", [("llama", False), ("gemma", True), ("qwen2", False), ("opt", True)])
def test_tied_embeddings_default_by_class_and_say_so(kind: str, tied: bool):
    model = read(without(LLAMA, "tie_word_embeddings"), model_type=kind, head_dim=16)
    assert model.tie_word_embeddings is tied
    told = f"`tie_word_embeddings` is not given; the class default {str(tied).lower()} is used"
    assert told in model.assumptions


def test_key_value_heads_left_out_follow_the_class():
    sparse = without(LLAMA, "num_key_value_heads")
    assert read(sparse).kv_heads == 4
    assert read(sparse).assumptions == []  # Llama without the key is multi-head by definition
    mixtral = {**sparse, "model_type": "mistral", "num_attention_heads": 8}
    assert read(mixtral).kv_heads == 8
    assert read(mixtral).assumptions == ["`num_key_value_heads` is not given; the class default 8 is used"]
    assert read({**mixtral, "num_key_value_heads": None}).kv_heads == 8


def test_llama_4_interleaves_chunks_and_experts():
    model = read(
        {
            **without(LLAMA, "intermediate_size"),
            "model_type": "llama4_text",
            "head_dim": 16,
            "intermediate_size": 32,
            "intermediate_size_mlp": 64,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "n_shared_experts": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 512,
        }
    )
    assert kinds(model) == "wWwFwWwF"
    assert [run.rope for run in model.layer_runs] == [True, True, True, False] * 2
    assert model.sliding_window is not None
    assert (model.sliding_window.kind, model.sliding_window.tokens) == ("chunked", 512)
    assert model.intermediate_size == 64
    assert model.moe is not None
    assert (model.moe.intermediate_size, model.moe.num_shared_experts) == (32, 1)


def test_qwen3_next_mixes_linear_and_full_attention():
    linear = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
    }
    model = read(QWEN_MOE, model_type="qwen3_next", shared_expert_intermediate_size=48, **linear)
    assert kinds(model) == "LLLFLLLF"
    assert (model.attention_gate, model.qk_norm) == (True, "head")
    assert model.moe is not None
    assert (model.moe.num_shared_experts, model.moe.shared_intermediate_size) == (1, 48)
    assert model.moe.shared_expert_gate
    assert model.assumptions == []


@pytest.mark.parametrize(
    "changes, parallel, norms, kv_heads",
    [
        ({"multi_query": True}, True, 1, 1),
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, True, 2, 2),
        ({"parallel_attn": False, "multi_query": False}, False, 2, 4),
    ],
)
def test_falcon_comes_in_three_shapes(changes: dict[str, Any], parallel: bool, norms: int, kv_heads: int):
    falcon = {**without(LLAMA, "num_key_value_heads", "intermediate_size"), "model_type": "falcon"}
    model = read(falcon, **changes)
    assert (model.parallel_block, model.norms_per_layer, model.kv_heads) == (parallel, norms, kv_heads)
    assert (model.intermediate_size, model.gated_ffn, model.norm) == (4 * 64, False, "layer")


def test_opt_positions_start_two_rows_late():
    opt = {**without(LLAMA, "num_key_value_heads", "intermediate_size"), "model_type": "opt", "ffn_dim": 96}
    model = read(opt, word_embed_proj_dim=32, do_layer_norm_before=False)
    assert (model.position_embedding, model.learned_positions) == ("learned", 4098)
    assert (model.embedding_size, model.final_norm) == (32, False)
    assert (model.attention_bias, model.mlp_bias, model.hidden_act) == ("all", True, "relu")


@pytest.mark.parametrize("section", ["text_config", "llm_config", "language_config"])
def test_the_language_model_of_a_multimodal_config(section: str):
    inner = without(LLAMA, "tie_word_embeddings")
    model = model_from_config(
        {"model_type": "seer", "vision_config": {"depth": 3}, "tie_word_embeddings": True, section: inner},
        name="mine",
    )
    assert model.hidden_size == 64
    assert model.tie_word_embeddings
    assert model.assumptions == [
        f"only the language model in `{section}` is read; `vision_config` is left out"
    ]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"rope_theta": 5e5}, (5e5, "none", 1.0, None)),
        ({"rope_scaling": {"type": "yarn", "factor": 40}}, (1e4, "yarn", 40.0, None)),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512}},
            (1e4, "llama3", 8.0, 512),
        ),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, (1e6, "none", 1.0, None)),
        (
            {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4},
                                 "full_attention": {"rope_theta": 1e6, "type": "linear", "factor": 8.0}}},
            (1e6, "linear", 8.0, None),
        ),
        ({"rope_scaling": {"type": "su", "factor": 4.0}}, (1e4, "longrope", 4.0, None)),
    ],
    ids=str,
)  # fmt: skip
def test_rope_under_its_old_and_new_names(changes: dict[str, Any], expected: tuple[object, ...]):
    rope = read(**changes).rope
    assert (rope.theta, rope.scaling, rope.factor, rope.original_max_position_embeddings) == expected


@pytest.mark.parametrize(
    "changes, fraction",
    [
        ({"model_type": "phi3", "partial_rotary_factor": 0.75}, 0.75),
        ({"model_type": "gpt_neox", "rotary_pct": 0.25}, 0.25),
        ({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4}}, 0.5),
        ({"model_type": "glm4", "head_dim": 16}, 0.5),
    ],
    ids=str,
)  # fmt: skip
def test_share_of_a_head_that_is_rotated(changes: dict[str, Any], fraction: float):
    assert read(**changes).rope.rotary_fraction == fraction


@pytest.mark.parametrize(
    "kind, changes, biases",
    [
        ("llama", {}, ("none", False)),
        ("llama", {"attention_bias": True, "mlp_bias": True}, ("all", True)),
        ("qwen2", {}, ("qkv", False)),
        ("glm4", {"head_dim": 16}, ("qkv", False)),
        ("seed_oss", {"head_dim": 16, "attention_bias": True, "attention_out_bias": True}, ("all", False)),
        ("starcoder2", {}, ("all", True)),
        ("starcoder2", {"use_bias": False}, ("none", False)),
        ("gpt_neox", {}, ("all", True)),
    ],
)
def test_biases_that_only_the_class_knows(kind: str, changes: dict[str, Any], biases: tuple[str, bool]):
    model = read(model_type=kind, **changes)
    assert (model.attention_bias, model.mlp_bias) == biases


def test_list_valued_tokens_and_unknown_keys_are_no_trouble():
    assert read(eos_token_id=[1, 2, 3], auto_map={"AutoModel": "evil.py"}, torch_dtype="bfloat16") == read()


def test_an_unknown_activation_is_on_record():
    model = read(hidden_act="situ")
    assert model.hidden_act == "gelu"
    assert model.assumptions == ["activation `situ` is counted as `gelu`"]


def test_a_nested_section_is_a_difference_to_its_class():
    gemma_3_4b = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": {"hidden_size": 1152},
    }
    model = model_from_config(gemma_3_4b, name="mine")
    assert count_parameters(model).total == 3_880_263_168  # the published total is of 64 rows fewer
    assert model.assumptions == [
        "only the language model in `text_config` is read; `vision_config` is left out",
        "`num_attention_heads` is not given; the class default 8 is used",
        "`vocab_size` is not given; the class default 262208 is used",
        "`max_position_embeddings` is not given; the class default 131072 is used",
        "`num_key_value_heads` is not given; the class default 4 is used",
        "`head_dim` is not given; the class default 256 is used",
        "`tie_word_embeddings` is not given; the class default true is used",
    ]


def test_the_first_qwen_states_gate_and_up_together():
    model = read(model_type="qwen")
    assert (model.intermediate_size, model.attention_bias) == (64, "qkv")


# --- unknown architectures ------------------------------------------------------------------------


def test_an_unknown_architecture_with_the_usual_keys_is_read_as_llama():
    model = read(model_type="foo")
    assert model.architecture == "foo"
    assert model.assumptions == ["architecture `foo` is not known; read as a Llama-style decoder"]
    assert read().model_copy(update={"architecture": "foo", "assumptions": model.assumptions}) == model


def test_unknown_architectures_with_experts_are_read_so():
    mixtral = read(without(QWEN_MOE, "model_type"))
    assert mixtral.assumptions == ["the config names no architecture; read as a Mixtral-style decoder"]
    assert kinds(mixtral) == "FFFFFFFF"
    assert read(LATENT, model_type="bar").assumptions == [
        "architecture `bar` is not known; read as a DeepSeek-V3-style decoder"
    ]


def test_an_unknown_architecture_without_the_usual_keys_names_what_is_missing():
    assert refusal({"model_type": "foo", "hidden_size": 64, "num_hidden_layers": 2}) == [
        "`num_attention_heads` is missing",
        "`vocab_size` is missing",
    ]
    assert refusal(without(LLAMA, "intermediate_size"), model_type="foo") == [
        "`intermediate_size` is missing"
    ]


def test_an_unknown_architecture_with_foreign_parts_is_refused():
    assert refusal(LLAMA, model_type="foo", mamba_d_state=16) == [
        "architecture `foo` is not known and has `mamba_d_state`: no cost model"
    ]


@pytest.mark.parametrize("kind", sorted(NOT_EXPRESSIBLE))
def test_what_has_no_cost_model_is_refused_with_the_reason(kind: str):
    assert refusal(LLAMA, model_type=kind) == [
        f"architecture `{kind}` has no cost model: {NOT_EXPRESSIBLE[kind]}"
    ]


def test_no_family_is_both_known_and_refused():
    assert not set(FAMILIES) & set(NOT_EXPRESSIBLE)


def test_an_encoder_decoder_is_refused():
    assert refusal(LLAMA, model_type="mine", is_encoder_decoder=True) == [
        "encoder-decoder models have no cost model; only decoders do"
    ]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, messages",
    [
        ({"hidden_size": "64"}, [f"`hidden_size` is '64', {WHOLE}"]),
        ({"hidden_size": -64}, [f"`hidden_size` is -64, {WHOLE}"]),
        ({"hidden_size": 64.0}, [f"`hidden_size` is 64.0, {WHOLE}"]),
        ({"vocab_size": True}, [f"`vocab_size` is true, {WHOLE}"]),
        ({"vocab_size": 10**12}, [f"`vocab_size` is 1000000000000, {WHOLE}"]),
        ({"rope_theta": float("nan")}, ["`rope_theta` is nan, expected a number above 0"]),
        ({"rope_theta": float("inf")}, ["`rope_theta` is inf, expected a number above 0"]),
        ({"tie_word_embeddings": "no"}, ["`tie_word_embeddings` is 'no', expected true or false"]),
        ({"layer_types": "full"}, ["`layer_types` is 'full', expected a list of at most 1000 entries"]),
        ({"model_type": 5}, ["`model_type` is 5, expected text"]),
        ({"rope_scaling": [1]}, ["`rope_scaling` is [1], expected a mapping"]),
        ({"hidden_size": "x", "vocab_size": -1},
         [f"`hidden_size` is 'x', {WHOLE}",
          f"`vocab_size` is -1, {WHOLE}"]),
        ({"n_embd": 65}, ["`n_embd` is 65, but `hidden_size` is 64"]),
        ({"num_attention_heads": 0},
         ["`hidden_size` 64 does not divide by `num_attention_heads` 0; give `head_dim`"]),
        ({"num_attention_heads": 6},
         ["`hidden_size` 64 does not divide by `num_attention_heads` 6; give `head_dim`"]),
        ({"num_key_value_heads": 3}, ["`num_attention_heads` 4 does not divide by `num_key_value_heads` 3"]),
        ({"num_hidden_layers": 10**6},
         ["`num_hidden_layers` is 1000000, expected a whole number from 1 to 1000"]),
        ({"layer_types": ["full_attention"]}, ["`layer_types` has 1 entries, `num_hidden_layers` is 8"]),
        ({"layer_types": ["mamba"] * 8},
         ["`layer_types` names 'mamba', a kind of layer without a cost model"]),
        ({"head_dim": 0}, ["`head_dim`: input should be greater than or equal to 1"]),
        ({"rope_scaling": {"type": "yarn", "factor": -2}}, ["`factor`: input should be greater than 0"]),
        ({"qk_layernorm": True}, ["`qk_layernorm` of architecture `llama` has no cost model"]),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)  # fmt: skip
def test_wrong_values_name_the_file_and_the_key(changes: dict[str, Any], messages: list[str]):
    assert refusal(LLAMA, **changes) == messages


@pytest.mark.parametrize(
    "base, changes, messages",
    [
        (LATENT, {"kv_lora_rank": 16, "v_head_dim": None}, ["`v_head_dim` is missing"]),
        (LATENT, {"attention_bias": True}, ["`attention_bias` with latent attention has no cost model"]),
        (QWEN_MOE, {"num_experts_per_tok": 9}, ["`num_experts_per_tok` is 9, more than the 8 experts"]),
        (QWEN_MOE, {"num_experts": None}, ["`num_experts` is missing"]),
        (QWEN_MOE, {"moe_layer_freq": "all"}, ["`moe_layer_freq` must be a whole number or a list"]),
        (QWEN_MOE, {"mlp_layer_types": ["thick"] * 8},
         ["`mlp_layer_types` names 'thick'; known kinds: `dense`, `sparse`, `moe`"]),
        (QWEN_MOE, {"model_type": "qwen2_moe"}, ["`shared_expert_intermediate_size` is missing"]),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_values_of_richer_configs(base: dict[str, Any], changes: dict[str, Any], messages: list[str]):
    assert refusal(base, **changes) == messages


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 200), st.just(10**30), st.floats(), st.text(max_size=3),
    st.lists(st.sampled_from(["full_attention", "sliding_attention", 0, 1, None, [], {}]), max_size=9),
    st.dictionaries(st.sampled_from(["rope_type", "type", "factor", "rope_theta", "full_attention"]),
                    st.sampled_from([None, 1, -1, "yarn", [], {}, float("inf")]), max_size=3),
)  # fmt: skip
INTERESTING = sorted(
    {*LLAMA, *LATENT, *QWEN_MOE}
    | {"head_dim", "sliding_window", "layer_types", "rope_scaling", "rope_parameters", "moe_layer_freq"}
    | {"mlp_layer_types", "moe_layers", "no_rope_layers", "mlp_only_layers", "attn_config", "text_config"}
    | {"sliding_window_pattern", "hidden_act", "indexer_types", "n_shared_experts", "ffn_dim", "rotary_dim"}
)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from([*sorted(FAMILIES), "foo"]),
    base=st.sampled_from([LLAMA, LATENT, QWEN_MOE]),
    changes=st.dictionaries(st.sampled_from(INTERESTING), VALUES, max_size=4),
)
def test_whatever_is_in_a_config_it_becomes_a_model_or_a_plain_error(
    kind: str, base: dict[str, Any], changes: dict[str, Any]
):
    try:
        model = model_from_config({**base, "model_type": kind, **changes}, name="mine")
    except EngineError as err:
        said = str(err)
    else:
        said = "ok" if sum(run.count for run in model.layer_runs) == model.num_hidden_layers else ""
    assert said


# --- files ----------------------------------------------------------------------------------------


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def file_refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_config(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    return problem.message


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "a": 2}', "key `a` is given twice"),
        ('{"b": {"a": 1, "a": 2}}', "key `a` is given twice"),
        ('{"a": NaN}', "`NaN` is not a number of JSON"),
        ('{"a": -Infinity}', "`-Infinity` is not a number of JSON"),
        ("[1, 2]", "`config.json` must hold a mapping"),
        ("", "not valid JSON: expecting value"),
        ('{"a": 1,', "not valid JSON: expecting property name enclosed in double quotes"),
        (b'{"a": "\xff"}', "`config.json` is not UTF-8 text"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "`config.json` is nested too deeply"),
        ('{"a": ' + "[" * 80 + "]" * 80 + "}", "`config.json` is nested too deeply"),
        ('{"a": ' + "9" * 6000 + "}", "`config.json` holds a number that is too long"),
        (b" " * (1024 * 1024 + 1), "`config.json` is larger than 1 MiB, which no model config is"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_files_are_refused(tmp_path: Path, text: str | bytes, message: str):
    assert file_refusal(write(tmp_path, text)) == message


def test_broken_json_has_its_place(tmp_path: Path):
    path = write(tmp_path, '{\n  "a": 1\n  "b": 2\n}')
    with pytest.raises(SpecError) as caught:
        read_config(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (3, 3)


def test_a_missing_file_and_a_folder_are_plain_errors(tmp_path: Path):
    assert file_refusal(tmp_path / "none.json") == "`none.json` cannot be read: no such file or directory"
    (tmp_path / "x.json").mkdir()
    assert file_refusal(tmp_path / "x.json") == "`x.json` cannot be read: is a directory"


def test_reading_a_config_loads_nothing_heavy_and_runs_nothing(tmp_path: Path):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    write(tmp_path, json.dumps({**LLAMA, "auto_map": {"AutoConfig": "evil.Config"}}))
    code = (
        "import sys; from pathlib import Path; from engine.spec.model_file import read_model_file;"
        f"print(read_model_file(Path({str(tmp_path)!r})).hidden_size);"
        "print(sorted({'torch', 'transformers', 'numpy', 'pandas', 'evil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["64", "[]"]
