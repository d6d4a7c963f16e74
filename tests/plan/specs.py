"""Small experiments that rest on no catalogue entry, so that no edit of a data sheet moves a fingerprint."""

from typing import Any

from engine.spec.experiment import Experiment

MODEL: dict[str, Any] = {
    "name": "tiny",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}
DEVICE: dict[str, Any] = {
    "name": "board",
    "peak": {"bf16": "100 TFLOP/s", "int8": "200 TFLOP/s"},
    "memory": "80 GB",
    "memory_bandwidth": "1 TB/s",
}
FORMAT: dict[str, Any] = {"name": "plain", "weight_attn": 16}


def experiment(**changes: Any) -> Experiment:
    """One point of a tiny model on an invented device, with sections replaced."""
    return Experiment.model_validate(
        {
            "version": 1,
            "name": "small",
            "model": MODEL,
            "hardware": DEVICE,
            "quantization": FORMAT,
            "measurements": [{"kind": "analytical"}],
            **changes,
        }
    )


def device(**changes: Any) -> dict[str, Any]:
    """The invented device with fields replaced."""
    return {**DEVICE, **changes}


def swept(**sweep: Any) -> Experiment:
    """The same over a sweep."""
    return experiment(sweep=sweep)
