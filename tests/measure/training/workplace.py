"""A folder as a training run leaves it, with numbers known beforehand."""

import json
from pathlib import Path

from tests.measure.training.hlo_bytes import known_module

MODULE = "neuron_cache/neuronxcc-2.18.121.0+9e31e41a/MODULE_42+a65e371e"
BROKEN = "neuron_cache/neuronxcc-2.18.121.0+9e31e41a/MODULE_43+a65e371e"
CONFIG = """\
name: sft
trainer: {devices: 32, num_nodes: 1, max_steps: 5000}
exp_manager:
  size: ${multiply:${trainer.devices}, ${trainer.num_nodes}}
data:
  global_batch_size: 64
  seq_length: 4096
model:
  encoder_seq_length: 8192
  optim: {lr: 1.5e-4, sched: {max_steps: "${trainer.max_steps}"}}
"""
# Llama-3-8B, whose FLOPs per sequence of 4096 tokens are known: 224042674028544.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
_BAR = "Epoch 0:  {percent}%|{bar}| {n}/500 [{clock}<4:13:10,  0.03it/s, v_num=1-02, {values}]"
LOG_LINES = [
    "[2026-03-04 10:15:00.120: I] start",
    _BAR.format(
        percent=2, bar="▏         ", n=10, clock="05:10",
        values="reduced_train_loss=3.410, lr=1.2e-5, global_step=9.00, throughput=2.05",
    ),
    _BAR.format(
        percent=4, bar="#         ", n=20, clock="10:10",
        values="reduced_train_loss=3.105, lr=2.73e-5, global_step=19.00, throughput=2.12",
    ),
    "[2026-03-04 10:25:20,480: I] step done",
    _BAR.format(
        percent=6, bar="█         ", n=30, clock="15:20",
        values="reduced_train_loss=2.870, lr=4.10e-5, global_step=29.00, throughput=2.13",
    ),
]  # fmt: skip
FULL = {
    "e2e_model": {
        "latency_ms_p50": 12143.92, "latency_ms_p90": 12169.44, "latency_ms_p95": 12182.64,
        "latency_ms_p99": 12189.53, "latency_ms_p100": 12191.26, "latency_ms_avg": 12131.49,
        "throughput": 52.76,
    },
    "context_encoding_model": {"latency_ms_avg": 43.01, "throughput": 4440.69},
    "token_generation_model": {"latency_ms_avg": 15.58, "throughput": 64.33},
}  # fmt: skip
MINIMAL = {"e2e_model": {"latency_ms_avg": 12131.49, "throughput": 52.76}}


def lay_out(folder: Path) -> Path:
    """Write everything under the names that `engine score` looks for; no inference report."""
    (folder / "hf_llama3_8B_SFT_config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
    (folder / "train.log").write_text("\n".join(LOG_LINES) + "\n", encoding="utf-8")
    for name in (MODULE, BROKEN):
        (folder / name).mkdir(parents=True)
    good = known_module()
    (folder / MODULE / "model.hlo_module.pb").write_bytes(good)
    (folder / MODULE / "model.neff").write_bytes(b"compiled")
    (folder / BROKEN / "model.hlo_module.pb").write_bytes(good[: len(good) * 2 // 3])
    (folder / BROKEN / "model.hlo_module.pb.lock").write_bytes(b"")
    return folder


def write_inference(folder: Path, report: object = None) -> Path:
    """The inference report under the name that is looked for."""
    path = folder / "benchmark_inference.json"
    path.write_text(json.dumps(FULL if report is None else report), encoding="utf-8")
    return path
