"""A small random model in GGUF, made in a second: real server, real streaming, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, INNER = 2048, 128, 2, 4, 2, 256


def write_gguf(path: Path, tokenizer_folder: Path) -> None:
    """A Llama of two layers with the vocabulary of our trained tokenizer."""
    import json

    import gguf

    from engine.measure.local_tokenizer import save_tokenizer

    save_tokenizer(VOCAB, tokenizer_folder)
    found = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {**found["model"]["vocab"], **{t["content"]: t["id"] for t in found["added_tokens"]}}
    special = {t["id"] for t in found["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [" ".join(m) if isinstance(m, list) else m for m in found["model"]["merges"]]

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if i in special else normal for i in range(len(tokens))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}<|assistant|>"
    )
    chance = np.random.default_rng(1)

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, chance.normal(0, 0.02, (rows, columns)).astype(np.float16))

    matrix("token_embd.weight", VOCAB, WIDTH)
    matrix("output.weight", VOCAB, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    kv = WIDTH // HEADS * KV_HEADS
    for i in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH), ("attn_k", kv, WIDTH), ("attn_v", kv, WIDTH),
            ("attn_output", WIDTH, WIDTH), ("ffn_gate", INNER, WIDTH), ("ffn_up", INNER, WIDTH),
            ("ffn_down", WIDTH, INNER),
        ):  # fmt: skip
            matrix(f"blk.{i}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
