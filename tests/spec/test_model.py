"""What a model file may say, and every way in which it contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.errors import SpecError
from engine.spec.catalog import catalog_files, load_model
from engine.spec.model import LatentAttention, Model
from engine.spec.model_file import checkpoint_quantization, read_model_file

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32}
LINEAR = {"num_key_heads": 2, "num_value_heads": 4, "key_head_dim": 8, "value_head_dim": 8}
LEARNED_ALONE = (
    "`learned_positions` gives the rows of a learned position table; it belongs to "
    "`position_embedding: learned` and to nothing else"
)


def model(**changes: object) -> Model:
    return Model.model_validate({**SHAPE, **changes})


def test_defaults_are_those_of_a_plain_decoder():
    plain = model()
    assert plain.kv_heads == 4
    assert plain.head_size == 16
    (run,) = plain.layer_runs
    assert (run.count, run.attention, run.feed_forward, run.rope) == (6, "full", "dense", True)


def test_sections_apply_to_every_layer_unless_layers_say_otherwise():
    (run,) = model(sliding_window={"tokens": 8}, moe=MOE).layer_runs
    assert (run.attention, run.feed_forward) == ("window", "moe")


def test_a_period_repeats_and_is_cut_off_at_the_end():
    period = [{"count": 3, "attention": "window"}, {"count": 1}]
    repeated = model(sliding_window={"tokens": 8}, layers=period, repeat_layers=True)
    assert [(run.count, run.attention) for run in repeated.layer_runs] == [
        (3, "window"),
        (1, "full"),
        (2, "window"),
    ]


def test_the_head_of_latent_attention_is_its_two_parts():
    latent = LatentAttention(kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=4, v_head_dim=10)
    assert model(mla=latent).head_size == 16


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"hidden_size": 66},
            "`hidden_size` 66 does not divide by `num_attention_heads` 4; give `head_dim`",
        ),
        (
            {"num_key_value_heads": 3},
            "`num_attention_heads` 4 does not divide by `num_key_value_heads` 3",
        ),
        (
            {"layers": [{"count": 5}]},
            "`layers` adds up to 5, `num_hidden_layers` is 6",
        ),
        (
            {"layers": [{"count": 7}], "repeat_layers": True},
            "`layers` adds up to 7, `num_hidden_layers` is 6",
        ),
        (
            {"layers": [{"count": 6, "attention": "window"}]},
            "`sliding_window` is missing, but some layers use it",
        ),
        (
            {"layers": [{"count": 6, "attention": "linear"}]},
            "`linear_attention` is missing, but some layers use it",
        ),
        (
            {"layers": [{"count": 6, "feed_forward": "moe"}]},
            "`moe` is missing, but some layers use it",
        ),
        (
            {"intermediate_size": None},
            "`intermediate_size` is missing, but some layers use it",
        ),
        (
            {"linear_attention": LINEAR},
            "`linear_attention` is given, but `layers` never uses it",
        ),
        (
            {"moe": MOE, "layers": [{"count": 6}]},
            "`moe` is given, but `layers` never uses it",
        ),
        (
            {"position_embedding": "learned"},
            LEARNED_ALONE,
        ),
        (
            {"moe": {**MOE, "num_experts_per_tok": 5}},
            "`num_experts_per_tok` is 5, more than the 4 experts",
        ),
        (
            {"linear_attention": {**LINEAR, "num_key_heads": 3}, "layers": [{"count": 6}]},
            "`num_value_heads` 4 does not divide by `num_key_heads` 3",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictions_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValidationError) as caught:
        model(**changes)
    assert message in [error["msg"].removeprefix("Value error, ") for error in caught.value.errors()]


@pytest.mark.parametrize("value", [0, -1, 2.5, "64", True, 10**10, float("nan")], ids=str)
def test_sizes_are_positive_whole_numbers(value: object):
    with pytest.raises(ValidationError):
        model(hidden_size=value)


def test_hub_names_find_catalogue_models():
    wanted = {
        "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
        "meta-llama/Meta-Llama-3.1-8B": "llama-3.1-8b",
        "facebook/opt-1.3b": "opt-1.3b",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
        "mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b",
        "deepseek-ai/DeepSeek-V3": "deepseek-v3",
        "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b",
    }
    assert {hub: load_model(hub).name for hub in wanted} == wanted


def test_no_two_models_share_a_name():
    owners: dict[str, str] = {}
    for name in catalog_files("model"):
        entry = load_model(name)
        for other in {name, *entry.aliases, entry.hub_id or name}:
            assert owners.setdefault(other.lower(), name) == name


@pytest.mark.parametrize("name", sorted(catalog_files("model")))
def test_every_entry_says_where_it_comes_from(name: str):
    entry = load_model(name)
    assert entry.source
    assert entry.hub_id
    assert "/" in entry.hub_id
    assert entry.architecture
    assert entry.assumptions == []
    first_line = catalog_files("model")[name].read_text(encoding="utf-8").splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=../../schemas/model.v1.json"


def write_config(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    keys = {**SHAPE, "model_type": "llama", "tie_word_embeddings": False, **changes}
    path.write_text(json.dumps(keys), encoding="utf-8")
    return path


def test_a_config_a_folder_and_our_own_file_are_models(tmp_path: Path):
    config = write_config(tmp_path / "my-checkpoint")
    own = tmp_path / "own.yaml"
    own.write_text("".join(f"{key}: {value}\n" for key, value in SHAPE.items()), encoding="utf-8")
    from_config, from_folder = read_model_file(config), read_model_file(config.parent)
    assert from_config == from_folder
    assert from_config.name == "my-checkpoint"
    assert from_config.architecture == "llama"
    assert read_model_file(own).hidden_size == 64
    assert load_model(str(config.parent)) == from_config
    assert load_model("my-checkpoint/config.json", search=[tmp_path]) == from_config
    assert load_model("./own.yaml", search=[tmp_path]).vocab_size == 100


def test_a_checkpoint_says_its_number_format(tmp_path: Path):
    plain = write_config(tmp_path / "plain")
    packed = write_config(
        tmp_path / "packed", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128}
    )
    assert checkpoint_quantization(plain) is None
    found = checkpoint_quantization(packed.parent)
    assert found is not None
    assert (found.weight_ffn, found.group_size, found.zero_bits) == (4, 128, 4)
    assert read_model_file(packed).assumptions == [
        "the number format of the checkpoint is not applied; the experiment names its own"
    ]


def test_a_folder_without_a_config_and_a_foreign_file_are_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"^there is no `config.json` in "):
        read_model_file(tmp_path)
    foreign = tmp_path / "weights.bin"
    foreign.write_bytes(b"\0")
    with pytest.raises(SpecError) as caught:
        read_model_file(foreign)
    assert str(caught.value) == "`weights.bin` is not a model file; expected `.json`, `.yaml`, `.yml`"


def test_a_mistake_in_our_own_file_has_its_place(tmp_path: Path):
    own = tmp_path / "own.yaml"
    own.write_text("hidden_size: 64\nnum_hiden_layers: 2\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_model_file(own)
    places = {problem.message: problem.line for problem in caught.value.problems}
    assert places["unknown key `num_hiden_layers`"] == 2
