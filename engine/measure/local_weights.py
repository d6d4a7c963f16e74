"""A transformers model without a download: built on the meta device, given memory, filled at random.

Random numbers take the time and the memory of trained ones as long as what is computed does not depend on
the values: dense models and full-length answers do not, the choice of experts and early stopping do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.errors import MeasurementError
from engine.measure.local_config import transformers_config
from engine.measure.local_spread import free_bytes, spread
from engine.perfmodel.parameters import count_parameters
from engine.spec.model import Model

__all__ = ["build_random", "fill", "stored_parameters"]

_SPREAD: Final = 0.02


def build_random(
    model: Model, *, dtype: Any, devices: Sequence[str], attention: str | None, seed: int
) -> tuple[Any, str | None]:
    """The exact architecture of `model`, filled with random numbers, ready to run; and which layers lie where
    when that is on several devices.

    Raises `MeasurementError` when the class of transformers is not the shape that was asked for.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = transformers_config(model)
    options = {} if attention is None else {"attn_implementation": attention}
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
    built.tie_weights()
    _check_size(built, model)
    placed = None
    if len(devices) > 1:
        placed = spread(built, devices, rooms=free_bytes(devices), empty=True)
    else:
        built.to_empty(device=devices[0])
    built.tie_weights()
    fill(built, seed=seed)
    built.generation_config.eos_token_id = None
    return built.eval(), placed


def stored_parameters(built: Any) -> int:
    """Numbers a checkpoint of this model holds; tied tables count once."""
    balance = sum(b.numel() for name, b in built.named_buffers() if name.endswith("correction_bias"))
    return sum(int(p.numel()) for p in built.parameters()) + int(balance)


def _check_size(built: Any, model: Model) -> None:
    found, wanted = stored_parameters(built), count_parameters(model).total
    if found != wanted:
        raise MeasurementError(
            f"the class `{type(built).__name__}` has {found:,} parameters for `{model.name}`, "
            f"the shape has {wanted:,}",
            hint="check `architecture` of the model; a class that differs would measure another model",
        )


def fill(built: Any, *, seed: int) -> None:
    """Give every parameter a random value and every buffer the one its module makes.

    Memory that was only allocated holds anything, rotary angles included: a wrong angle costs the same time,
    but not-a-number would spread and skew power and early ends.
    """
    import torch

    generators: dict[str, Any] = {}
    with torch.no_grad():
        for module in built.modules():
            if any(True for _ in module.buffers(recurse=False)):
                built._init_weights(module)
        for name, parameter in built.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            place = str(parameter.device)
            if place not in generators:
                generators[place] = torch.Generator(device=parameter.device).manual_seed(
                    # Devices would else repeat each other's layers.
                    (seed + (parameter.device.index or 0)) % 2**63
                )
            parameter.uniform_(-_SPREAD, _SPREAD, generator=generators[place])
    _check_buffers(built)


def _check_buffers(built: Any) -> None:
    import torch

    for name, buffer in built.named_buffers():
        if buffer.is_floating_point() and not bool(torch.isfinite(buffer).all()):
            raise MeasurementError(
                f"buffer `{name}` of `{type(built).__name__}` cannot be rebuilt for random weights",
                hint="use real weights (`weights:` a folder or a hub name) for this architecture",
            )
