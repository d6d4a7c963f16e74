"""Our counts against real classes: each config is built without memory and its parameters are counted.

The config goes out as the dictionary that `config.json` holds, and comes back through `model_from_config`.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from engine.errors import SpecError
from engine.perfmodel.parameters import count_parameters
from engine.spec.hf_config import model_from_config
from engine.spec.model import Model

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 160,
    "max_position_embeddings": 256,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
LATENT = {
    **SMALL,
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "q_lora_rank": 40,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "head_dim": 24,
}
FALCON = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 160}
GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "vocab_size": 160}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("LlamaConfig", GROUPED),
    ("LlamaConfig", {**SMALL, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("LlamaConfig", {**GROUPED, "head_dim": 24}),
    ("MistralConfig", {**GROUPED, "sliding_window": 32}),
    ("MixtralConfig", {**GROUPED, "num_local_experts": 4}),
    ("Qwen2Config", GROUPED),
    ("Qwen2MoeConfig", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 48}),
    ("Qwen2MoeConfig", {**GROUPED, **EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    ("Qwen3Config", GROUPED),
    ("Qwen3MoeConfig", {**GROUPED, **EXPERTS}),
    ("Qwen3NextConfig", {**GROUPED, **EXPERTS, **LINEAR, "shared_expert_intermediate_size": 48}),
    ("Qwen3_5TextConfig", {**GROUPED, **LINEAR}),
    ("Qwen3_5MoeTextConfig", {**GROUPED, **EXPERTS, **LINEAR, "shared_expert_intermediate_size": 48}),
    ("Phi3Config", {**GROUPED, "pad_token_id": 0}),
    ("PhiConfig", SMALL),
    ("PhimoeConfig", {**GROUPED, "num_local_experts": 4}),
    ("GemmaConfig", {**GROUPED, "head_dim": 24}),
    ("Gemma2Config", {**GROUPED, "head_dim": 24}),
    ("Gemma3TextConfig", {**GROUPED, "head_dim": 24, "sliding_window": 32}),
    ("FalconConfig", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("FalconConfig", FALCON),
    ("FalconConfig", {**FALCON, "parallel_attn": False, "multi_query": False, "bias": True, "alibi": True}),
    ("OPTConfig", {**SMALL, "ffn_dim": 96, "word_embed_proj_dim": 64}),
    ("OPTConfig", {**SMALL, "ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("GPT2Config", GPT),
    ("GPTBigCodeConfig", GPT),
    ("GPTJConfig", {**GPT, "rotary_dim": 8}),
    ("GPTNeoXConfig", SMALL),
    ("BloomConfig", {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 160}),
    ("MptConfig", {"d_model": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 160, "max_seq_len": 128}),
    ("Starcoder2Config", GROUPED),
    ("StableLmConfig", {**GROUPED, "use_qkv_bias": True}),
    ("StableLmConfig", {**GROUPED, "use_parallel_residual": True}),
    ("Olmo2Config", GROUPED),
    ("Olmo3Config", {**GROUPED, "sliding_window": 32}),
    ("OlmoeConfig", {**GROUPED, "num_experts": 6, "num_experts_per_tok": 2}),
    ("GraniteConfig", GROUPED),
    ("GraniteMoeConfig", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ("GraniteMoeSharedConfig", {**GROUPED, "num_local_experts": 4, "shared_intermediate_size": 48}),
    ("CohereConfig", {**GROUPED, "use_qk_norm": True}),
    ("Cohere2Config", {**GROUPED, "sliding_window": 32, "head_dim": 16}),
    ("DeepseekV2Config", {**LATENT, "first_k_dense_replace": 1}),
    ("DeepseekV2Config", {**LATENT, "q_lora_rank": None, "first_k_dense_replace": 1}),
    ("DeepseekV3Config", {**LATENT, "first_k_dense_replace": 2}),
    ("DeepseekV32Config", {**LATENT, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8}),
    ("GlmMoeDsaConfig", {**LATENT, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8}),
    ("GptOssConfig", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 24}),
    ("Llama4TextConfig", {**GROUPED, "num_local_experts": 4, "intermediate_size_mlp": 128, "head_dim": 24}),
    ("Llama4TextConfig", {**GROUPED, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 128}),
    ("GlmConfig", {**GROUPED, "head_dim": 16, "pad_token_id": 0}),
    ("Glm4Config", {**GROUPED, "head_dim": 16, "pad_token_id": 0}),
    ("Glm4MoeConfig", {**GROUPED, "n_routed_experts": 8, "moe_intermediate_size": 40, "use_qk_norm": True}),
    ("Dots1Config", {**GROUPED, "n_routed_experts": 8, "n_shared_experts": 2, "moe_intermediate_size": 40,
                     "num_experts_per_tok": 2, "first_k_dense_replace": 1}),
    ("MiniMaxM2Config", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}),
    ("BitNetConfig", {**GROUPED, "tie_word_embeddings": True}),
    ("SmolLM3Config", {**GROUPED, "pad_token_id": 0}),
    ("Exaone4Config", {**GROUPED, "sliding_window": 32}),
    ("NemotronConfig", {**GROUPED, "head_dim": 16}),
    ("ArceeConfig", {**GROUPED, "head_dim": 16}),
    ("SeedOssConfig", {**GROUPED, "head_dim": 16}),
    ("Ernie4_5Config", {**GROUPED, "head_dim": 16}),
    ("Ernie4_5_MoeConfig", {**GROUPED, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 40}),
    ("HunYuanDenseV1Config", {**GROUPED, "head_dim": 16}),
    ("MinistralConfig", {**GROUPED, "sliding_window": 32, "head_dim": 16}),
]  # fmt: skip


def read_or_refused(config: dict[str, Any]) -> Model | list[str]:
    try:
        return model_from_config(config, name="sparse")
    except SpecError as err:
        return [problem.message for problem in err.problems]


def counted(config: Any) -> int:
    """Parameters and saved buffers (the balance terms of routers) of the class a config names."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    transient = {id(module._buffers[name]) for module in model.modules()
                 for name in module._non_persistent_buffers_set}  # fmt: skip
    saved = {id(buffer): buffer.numel() for buffer in model.buffers() if id(buffer) not in transient}
    return sum(p.numel() for p in model.parameters()) + sum(saved.values())


@functools.cache
def built(name: str, keys: str) -> tuple[Any, int]:
    config = getattr(transformers, name)(**json.loads(keys))
    return config, counted(config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, keys", CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_parameter_of_the_class_is_counted(name: str, keys: dict[str, Any]) -> None:
    config, parameters = built(name, json.dumps(keys))
    model = model_from_config(config.to_dict(), name=name)
    assert count_parameters(model).total == parameters


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, keys", CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_keys_left_out_are_refused_or_stand_for_the_class_default(name: str, keys: dict[str, Any]) -> None:
    config, parameters = built(name, json.dumps(keys))
    found = read_or_refused({"model_type": config.model_type, **keys})
    if isinstance(found, Model):
        assert count_parameters(found).total == parameters
    else:
        assert found
        assert all(message.endswith("is missing") for message in found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, published",
    [
        ("DeepseekV3Config", 671_026_419_200),
        ("GptOssConfig", 116_829_156_672),
        ("FalconConfig", 6_921_720_704),
        ("BitNetConfig", None),
        ("Llama4TextConfig", None),
        ("MiniMaxM2Config", None),
        ("GlmMoeDsaConfig", None),
        ("Qwen3NextConfig", None),
    ],
)
def test_full_size_defaults_of_the_class_are_counted(name: str, published: int | None) -> None:
    config, parameters = built(name, "{}")
    total = count_parameters(model_from_config(config.to_dict(), name=name)).total
    assert total == parameters
    if published is not None:
        assert total == published
