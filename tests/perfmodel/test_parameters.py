"""Exact parameter counts: worked by hand, against published totals, and over the whole catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.perfmodel.parameters import ACTIVE_CONVENTION, count_parameters
from engine.spec.catalog import catalog_files, load_model
from engine.spec.model import LayerRun, LinearAttention, MixtureOfExperts, Model

MODELS = sorted(catalog_files("model"))

# Published totals of checkpoints; the first three are confirmed against public sources.
GOLDEN = {
    "llama-3-8b": 8_030_261_248,
    "mixtral-8x7b": 46_702_792_704,
    "deepseek-v3": 671_026_419_200,
    "llama-2-7b": 6_738_415_616,
    "qwen3-235b-a22b": 235_093_634_560,
    "gpt-oss-20b": 20_914_757_184,
    "falcon-7b": 6_921_720_704,
    "opt-1.3b": 1_315_758_080,
}


def test_llama_3_8b_by_hand():
    count = count_parameters(load_model("llama-3-8b"))
    # query 4096x4096, key and value 4096x1024 each, output 4096x4096
    attention = 4096 * 4096 + 2 * 4096 * 1024 + 4096 * 4096
    assert attention == 41_943_040
    feed_forward = 3 * 4096 * 14336
    assert feed_forward == 176_160_768
    (layer,) = count.layers
    assert (layer.layers, layer.attention, layer.feed_forward, layer.norm) == (
        32,
        attention,
        feed_forward,
        2 * 4096,
    )
    assert layer.total == 218_112_000
    assert count.embedding == count.lm_head == 128_256 * 4096 == 525_336_576
    # 32 layers, two tables of 525 336 576, one last norm
    assert count.total == 32 * 218_112_000 + 2 * 525_336_576 + 4096 == 8_030_261_248
    assert count.active == 8_030_261_248 - 525_336_576
    assert count.active_with_embedding == count.total


def test_mixtral_8x7b_by_hand():
    count = count_parameters(load_model("mixtral-8x7b"))
    (layer,) = count.layers
    assert layer.expert == 3 * 4096 * 14336 == 176_160_768
    assert layer.router == 4096 * 8 == 32_768
    # attention 41 943 040, eight experts, the router, two norms
    assert layer.total == 41_943_040 + 8 * 176_160_768 + 32_768 + 8_192 == 1_451_270_144
    table = 32_000 * 4096
    assert count.total == 32 * 1_451_270_144 + 2 * table + 4096 == 46_702_792_704
    # two of eight experts; the input embedding is left out by convention
    assert count.active == 46_702_792_704 - 32 * 6 * 176_160_768 - table
    assert count.active_with_embedding == 12_879_925_248


def test_deepseek_v3_by_hand():
    count = count_parameters(load_model("deepseek-v3"))
    dense, moe = count.layers
    query = 7168 * 1536 + 1536 * 128 * (128 + 64)
    latent = 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    output = 128 * 128 * 7168
    latent_norms = 1536 + 512
    assert query + latent + output + latent_norms == 187_107_328
    assert moe.attention == dense.attention == 187_107_328 - 2048
    assert moe.norm == 2048 + 2 * 7168
    assert (dense.layers, moe.layers) == (3, 58)
    assert dense.feed_forward == 3 * 7168 * 18432
    assert moe.expert == moe.shared_experts == 3 * 7168 * 2048
    assert moe.router == 7168 * 256 + 256  # one balance term for each expert
    assert count.total == 671_026_419_200
    assert count.active == 36_625_618_432
    assert count.active_with_embedding == 37_552_297_472


def test_opt_1_3b_by_hand():
    count = count_parameters(load_model("opt-1.3b"))
    (layer,) = count.layers
    assert layer.attention == 4 * (2048 * 2048 + 2048)
    assert layer.feed_forward == 2 * 2048 * 8192 + 8192 + 2048
    assert layer.norm == 2 * 2 * 2048  # weight and bias
    assert count.positions == (2048 + 2) * 2048
    assert count.lm_head == 0
    total = 24 * layer.total + 50_272 * 2048 + count.positions + 2 * 2048
    assert count.total == total == 1_315_758_080


@pytest.mark.parametrize("name, published", GOLDEN.items(), ids=list(GOLDEN))
def test_golden_totals(name: str, published: int):
    model = load_model(name)
    assert model.parameters == published
    assert count_parameters(model).total == published


@pytest.mark.parametrize("name", MODELS)
def test_the_shape_gives_the_published_total(name: str):
    model = load_model(name)
    total = count_parameters(model).total
    if model.parameters is None:
        assert "no published total" in (model.notes or "")
    elif model.parameters_tolerance == 0:
        assert total == model.parameters
    else:
        assert abs(total - model.parameters) <= model.parameters_tolerance * model.parameters
        assert total != model.parameters, "exact after all: drop the tolerance"


def test_most_of_the_catalogue_is_exact():
    models = [load_model(name) for name in MODELS]
    assert len(models) >= 81
    exact = [model for model in models if model.parameters and model.parameters_tolerance == 0]
    assert len(exact) == 61
    for model in models:
        # An exact total is one of a checkpoint; a rounded one has its tolerance.
        assert (model.parameters_basis or "").startswith("exact") == (model in exact)


@pytest.mark.parametrize("name", MODELS)
def test_the_size_in_a_name_is_the_size_of_the_model(name: str):
    found = re.search(r"-(\d+(?:\.\d+)?)(b|m)(?:-|$)", name)
    if not found or "x" in name:
        return
    claimed = float(found[1]) * (1e9 if found[2] == "b" else 1e6)
    # Names round freely: Llama 3.2 1B has 1.24 billion, Gemma 2 2B has 2.61
    assert count_parameters(load_model(name)).total == pytest.approx(claimed, rel=0.35)


@pytest.mark.parametrize("name", [name for name in MODELS if load_model(name).active_parameters])
def test_published_active_parameters_are_near_ours(name: str):
    model = load_model(name)
    count = count_parameters(model)
    assert model.active_parameters is not None
    nearest = min(
        abs(shape - model.active_parameters) / model.active_parameters
        for shape in (count.active, count.active_with_embedding)
    )
    assert nearest <= 0.2  # publishers round to one or two digits and count differently


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up(name: str):
    model = load_model(name)
    count = count_parameters(model)
    inside = sum(layer.layers * layer.total for layer in count.layers)
    outside = count.embedding + count.positions + count.embedding_projection + count.lm_head
    assert count.total == inside + outside + count.final_norm
    assert sum(layer.layers for layer in count.layers) == model.num_hidden_layers
    assert 0 < count.active <= count.total
    for layer in count.layers:
        assert layer.active <= layer.total
        assert (layer.expert > 0) == (layer.feed_forward_kind == "moe")


def tiny(**changes: object) -> Model:
    return Model.model_validate(
        {
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 10,
            "vocab_size": 20,
            **changes,
        }
    )


# Of a tiny model with hidden size 8, two heads of 4, two layers: what one trait adds to it.
@pytest.mark.parametrize(
    "changes, difference",
    [
        ({"tie_word_embeddings": True}, -20 * 8),
        ({"num_key_value_heads": 1}, -2 * 2 * 8 * 4),
        ({"attention_bias": "qkv"}, 2 * (8 + 8 + 8)),
        ({"attention_bias": "all"}, 2 * (8 + 8 + 8 + 8)),
        ({"mlp_bias": True}, 2 * (10 + 10 + 8)),
        ({"gated_ffn": False}, -2 * 8 * 10),
        ({"gated_ffn": False, "mlp_bias": True}, -2 * 8 * 10 + 2 * (10 + 8)),
        ({"norm": "layer"}, (2 * 2 + 1) * 8),
        ({"norm": "layer", "norm_bias": False}, 0),
        ({"norms_per_layer": 4}, 2 * 2 * 8),
        ({"final_norm": False}, -8),
        ({"embedding_norm": True}, 8),
        ({"qk_norm": "head"}, 2 * 2 * 4),
        ({"qk_norm": "full", "num_key_value_heads": 1}, 2 * (8 + 4) - 2 * 2 * 8 * 4),
        ({"qk_norm": "unit"}, 0),
        ({"attention_sinks": True}, 2 * 2),
        ({"attention_gate": True}, 2 * 8 * 8),
        ({"attention_sub_norm": True}, 2 * (8 + 10)),
        ({"lm_head_bias": True}, 20),
        ({"position_embedding": "learned", "learned_positions": 12}, 12 * 8),
        ({"embedding_size": 4}, -2 * 20 * 4 + 2 * 8 * 4),
        ({"sliding_window": {"tokens": 4}}, 0),
        ({"parallel_block": True}, 0),
    ],
    ids=str,
)
def test_each_trait_adds_what_it_should(changes: dict[str, object], difference: int):
    base = count_parameters(tiny()).total
    # two layers: 4 x 8x8 attention, 3 x 8x10 feed-forward, two norms; two tables; the last norm
    assert base == 2 * (4 * 64 + 3 * 80 + 16) + 2 * 160 + 8 == 1352
    assert count_parameters(tiny(**changes)).total == base + difference


def test_experts_and_shared_expert_by_hand():
    moe = MixtureOfExperts(
        num_experts=4, num_experts_per_tok=1, intermediate_size=6, num_shared_experts=1,
        shared_intermediate_size=5, shared_expert_gate=True, router_bias=True, expert_bias=True,
    )  # fmt: skip
    (layer,) = count_parameters(tiny(moe=moe)).layers
    assert layer.expert == 3 * 8 * 6 + 6 + 6 + 8
    assert layer.shared_experts == 3 * 8 * 5 + 8  # the gate is one more row
    assert layer.router == 4 * 8 + 4
    assert layer.feed_forward == 0
    assert layer.total - layer.active == 3 * layer.expert


def test_linear_attention_by_hand():
    linear = LinearAttention(num_key_heads=1, num_value_heads=2, key_head_dim=3, value_head_dim=5)
    runs = [LayerRun(count=1, attention="linear"), LayerRun(count=1)]
    first, second = count_parameters(tiny(linear_attention=linear, layers=runs)).layers
    keys, values = 1 * 3, 2 * 5
    projections = 8 * (2 * keys + values) + 8 * values + 8 * 2 * 2 + values * 8
    assert first.attention == projections + (2 * keys + values) * 4 + 2 * 2
    assert first.norm == 5 + 2 * 8
    assert (first.attention_kind, second.attention_kind) == ("linear", "full")


def test_layers_of_one_kind_are_one_entry():
    count = count_parameters(load_model("gemma-3-27b"))
    assert [(layer.attention_kind, layer.layers) for layer in count.layers] == [("window", 52), ("full", 10)]


def test_the_convention_is_stated():
    assert ACTIVE_CONVENTION == "active parameters: without the input embedding, with the output head"


def test_every_file_is_named_after_its_model():
    for name, path in catalog_files("model").items():
        assert load_model(name).name == Path(path).stem == name
