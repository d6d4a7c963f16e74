"""Weights below 16 bits inside this process: torchao or bitsandbytes, whichever is there and was asked for.

torchao quantizes weights of any origin, random ones too; bitsandbytes loads real ones. Neither is needed by
anything else, so neither is a dependency.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from engine.errors import EnvironmentMissing, MeasurementError

__all__ = ["LIBRARIES", "choose_library", "loading_options", "quantize", "stored_as", "stored_bytes"]

LIBRARIES: Final = ("torchao", "bitsandbytes")


def choose_library(wanted: str, *, bits: int, random: bool) -> str:
    """`torchao` or `bitsandbytes`; raises `EnvironmentMissing` when what was asked for is not installed."""
    if wanted == "bitsandbytes" and random:
        raise MeasurementError(
            "bitsandbytes quantizes weights while it loads them, and random ones are not loaded",
            hint="`quantizer: torchao` makes random weights of 8 and 4 bits; or name real weights",
        )
    usable = (
        LIBRARIES if wanted == "auto" and not random else LIBRARIES[:1] if wanted == "auto" else (wanted,)
    )
    for name in usable:
        if importlib.util.find_spec(name) is not None:
            return name
    raise EnvironmentMissing(
        f"weights of {bits} bits need "
        + " or ".join(f"`{name}`" for name in usable)
        + ", not installed here",
        hint=f"pip install {usable[0]}, or use `quantization: bf16`",
    )


def loading_options(library: str, *, bits: int, group_size: int | None, dtype: Any, device: str) -> Any:
    """Options for `from_pretrained` that load weights with these bits."""
    from transformers import BitsAndBytesConfig, TorchAoConfig

    config: Any
    if library == "torchao":
        config = TorchAoConfig(_torchao(bits, group_size))
    elif bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": device}


def quantize(module: Any, *, bits: int, group_size: int | None) -> None:
    """Quantize the linear layers of a model in memory, but not its output head, as loading does."""
    import torch
    from torchao.quantization import quantize_

    head = module.get_output_embeddings()
    try:
        quantize_(
            module,
            _torchao(bits, group_size),
            filter_fn=lambda layer, _name: isinstance(layer, torch.nn.Linear) and layer is not head,
        )
    except (ImportError, ValueError, RuntimeError) as err:  # per kernel and device
        first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise MeasurementError(
            f"torchao cannot make weights of {bits} bits here: {first[:200]}",
            hint="8 bits run everywhere; 4 bits need a GPU and the kernels torchao names",
        ) from err


def _torchao(bits: int, group_size: int | None) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    return Int8WeightOnlyConfig() if bits == 8 else Int4WeightOnlyConfig(group_size=group_size or 128)


def stored_as(module: Any) -> tuple[str, str]:
    """(library, bits) of the linear weights as they are in memory: what was asked for does not count."""
    if getattr(module, "is_loaded_in_4bit", False):
        return "bitsandbytes", "4"
    if getattr(module, "is_loaded_in_8bit", False):
        return "bitsandbytes", "8"
    for layer in module.modules():
        name = type(getattr(layer, "weight", None)).__name__
        if name.startswith(("Int8", "Int4")):
            return "torchao", name[3]
    return "none", "16"


def stored_bytes(parameter: Any) -> int:
    """Bytes of a parameter in memory: a quantized tensor calls itself wide, and holds its parts."""
    if hasattr(parameter, "__tensor_flatten__"):
        names, _ = parameter.__tensor_flatten__()
        return sum(stored_bytes(getattr(parameter, name)) for name in names)
    return int(parameter.numel()) * int(parameter.element_size())
