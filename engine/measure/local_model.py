"""A model inside this process, ready to measure: weights, device, number type, and what was really used.

Live benchmarks and energy profiling both run models in-process; this is where they get them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.local_quantized import (
    choose_library,
    loading_options,
    quantize,
    stored_as,
    stored_bytes,
)
from engine.measure.local_spread import devices_for, free_bytes, spread, synchronize
from engine.spec.model import Model
from engine.spec.quantization import Quantization

if TYPE_CHECKING:
    import torch

__all__ = ["LocalModel", "LocalRequest", "build_local_model", "choose_device", "dtype_name_of"]

_DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class LocalRequest:
    """Which model to build, and how."""

    model: Model
    """Shape, for random weights and for checking real ones."""
    weights: str = "random"
    """`random`, a folder, or a hub name."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""
    dtype: str = "fp32"
    """`fp32`, `bf16` or `fp16`."""
    attention: str = "auto"
    """`auto`, `eager`, `sdpa` or `flash_attention_2`."""
    weight_bits: int = 16
    """8 and 4 quantize the linear layers; more is no quantization."""
    group_size: int | None = None
    """Weights of 4 bits that share a scale; 128 when None."""
    quantizer: str = "auto"
    """`torchao`, `bitsandbytes`, or `auto`: the first of them that is installed and can."""
    threads: int | None = None
    """CPU threads; as many as this process may use when None."""
    devices: int = 1
    """Devices of this machine that the layers are spread over, in contiguous groups."""
    search: tuple[Path, ...] = ()
    """Folders that a relative path of weights starts from."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A model in memory."""

    module: Any
    """The transformers model, in evaluation mode."""
    device: str
    """`cpu`, `cuda` or `mps`."""
    devices: tuple[str, ...]
    """The device, or each of those that hold a group of layers, in their order."""
    dtype: torch.dtype
    vocab_size: int
    """Token ids below this are valid."""
    weights_bytes: int
    """Bytes of parameters, tied tables once; on the fullest device where they lie on several."""
    load_s: float
    """Time to build or load, and to move to the device."""
    requested: Mapping[str, str]
    """Setting -> what was asked for."""
    observed: Mapping[str, str]
    """Setting -> what the model really has."""

    @property
    def config(self) -> Any:
        """Config of the language model."""
        return self.module.config.get_text_config(decoder=True)


def build_local_model(request: LocalRequest) -> LocalModel:
    """Build or load a model and check that it is what was asked for.

    Raises `MeasurementError` when it is not, `EnvironmentMissing` when a library, a device or an access
    token is absent.
    """
    torch = _torch()
    begin = time.perf_counter()
    device = choose_device(request.device)
    devices = devices_for(device, request.devices)
    threads = request.threads or usable_cores()
    if device == "cpu":
        torch.set_num_threads(threads)
    dtype = getattr(torch, _DTYPES[request.dtype])
    attention = None if request.attention == "auto" else request.attention
    library = None
    if request.weight_bits < 16:
        random = request.weights == "random"
        library = choose_library(request.quantizer, bits=request.weight_bits, random=random)
    if request.weights == "random":
        from engine.measure.local_weights import build_random

        module, placed = build_random(
            request.model, dtype=dtype, devices=devices, attention=attention, seed=request.seed
        )
        if library is not None:
            quantize(module, bits=request.weight_bits, group_size=request.group_size)
    else:
        module, placed = _load(request, dtype=dtype, devices=devices, attention=attention, library=library)
    synchronize(devices)
    local = LocalModel(
        module=module,
        device=device,
        devices=devices,
        dtype=dtype,
        vocab_size=int(module.config.get_text_config(decoder=True).vocab_size),
        weights_bytes=_bytes_of(module),
        load_s=time.perf_counter() - begin,
        requested=_requested(request, device=device, threads=threads, library=library),
        observed=_observed(module, device=device, quantized=library is not None)
        | ({"placement": placed} if placed else {}),
    )
    _refuse_mismatch(local)
    return local


def choose_device(wanted: str) -> str:
    """`cuda`, `mps` or `cpu`: `auto` takes the first that is there; raises `EnvironmentMissing`."""
    torch = _torch()
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there[wanted]:
        raise EnvironmentMissing(
            f"device `{wanted}` was asked for and torch {torch.__version__} sees none",
            hint="`device: auto` takes what is there; `engine doctor` shows it",
        )
    return wanted


def dtype_name_of(quantization: Quantization, *, wanted: str = "auto") -> str:
    """`fp32`, `bf16` or `fp16` for a number format; raises `MeasurementError` for what torch cannot hold."""
    if wanted != "auto":
        return wanted
    bits = quantization.activation
    if bits == 32:
        return "fp32"
    if bits == 16:
        return "fp16" if quantization.compute == "fp16" or quantization.name == "fp16" else "bf16"
    raise MeasurementError(
        f"a local model cannot run `{quantization.name}`: its activations have {bits:g} bits",
        hint="a local target runs fp32, bf16 and fp16; measure other formats through a server that has them",
    )


def _torch() -> Any:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as err:
        raise EnvironmentMissing(
            f"a local model needs `{err.name}`, which is not installed",
            hint='pip install "llm-experiment-engine[live]"',
        ) from err
    # Reading the model classes takes seconds and is no part of loading a model.

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load(
    request: LocalRequest,
    *,
    dtype: Any,
    devices: Sequence[str],
    attention: str | None,
    library: str | None,
) -> tuple[Any, str | None]:
    """Real weights from a folder or the hub, and where they lie when that is several devices; the access
    token is read by the hub library, never by us."""
    from transformers import AutoModelForCausalLM

    if library is not None and len(devices) > 1:
        raise MeasurementError(
            f"`{library}` loads weights onto one device, the point asks for {len(devices)}",
            hint="`quantization: bf16` can be spread, and random weights of 8 bits can",
        )
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if attention is not None:
        options["attn_implementation"] = attention
    if library is not None:
        options |= loading_options(
            library, bits=request.weight_bits, group_size=request.group_size, dtype=dtype, device=devices[0]
        )
    source = _folder(request) or request.weights
    try:
        module = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False, **options)
    # The hub, the class of the model and each library of kernels have their own.
    except (OSError, ValueError, ImportError) as err:
        raise _cannot_load(request, err) from err
    placed = None
    if len(devices) > 1:
        placed = spread(module, devices, rooms=free_bytes(devices))
    elif library is None:
        module.to(devices[0])
    module.generation_config.eos_token_id = None
    return module.eval(), placed


def _folder(request: LocalRequest) -> str | None:
    for base in (*request.search, Path()):
        path = (base / request.weights).expanduser()
        if path.is_dir():
            return str(path.resolve())
    return None


def _cannot_load(request: LocalRequest, err: Exception) -> MeasurementError | EnvironmentMissing:
    text = str(err)
    gated = any(word in text.lower() for word in ("gated", "401", "403", "access", "authenticated"))
    if gated and not any(os.environ.get(name) for name in _TOKEN_VARIABLES):
        return EnvironmentMissing(
            f"the weights `{request.weights}` need an access token and `HF_TOKEN` is not set",
            hint="set HF_TOKEN or log in with `hf auth login`; `weights: random` needs neither",
        )
    from engine.results.environment import without_secrets

    first = without_secrets(text.strip().splitlines()[0] if text.strip() else type(err).__name__)
    return MeasurementError(
        f"the weights `{request.weights}` cannot be loaded: {first[:300]}",
        hint="name a folder, a hub name this machine can reach (HF_TOKEN for gated ones), or `random`",
    )


def _bytes_of(module: Any) -> int:
    held: Counter[Any] = Counter()
    for parameter in module.parameters():
        held[parameter.device] += stored_bytes(parameter)
    return max(held.values())


def _requested(request: LocalRequest, *, device: str, threads: int, library: str | None) -> dict[str, str]:
    found = {"device": request.device, "dtype": request.dtype, "attention": request.attention}
    found["weights"] = request.weights
    if library is not None:
        found |= {"weight bits": str(request.weight_bits), "quantizer": library}
    if request.devices > 1:
        found["placement"] = f"layers over {request.devices} devices"
    if device == "cpu":
        found["threads"] = str(threads)
    return found


def _observed(module: Any, *, device: str, quantized: bool) -> dict[str, str]:
    import torch
    import transformers

    parameter = next(p for p in module.parameters() if p.is_floating_point())
    names = {getattr(torch, long): short for short, long in _DTYPES.items()}
    found = {
        "device": parameter.device.type,
        "dtype": names.get(parameter.dtype, str(parameter.dtype).removeprefix("torch.")),
        "attention": str(getattr(module.config, "_attn_implementation", None) or "unknown"),
        "architecture": type(module).__name__,
        "parameters": str(sum(p.numel() for p in module.parameters())),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if quantized:
        found["quantizer"], found["weight bits"] = stored_as(module)
    if device == "cpu":
        found["threads"] = str(torch.get_num_threads())
        found["cpu capability"] = torch.backends.cpu.get_cpu_capability()
    if device == "cuda":
        places = {p.device for p in module.parameters()}
        found["device name"] = ", ".join(sorted({torch.cuda.get_device_name(place) for place in places}))
        found["cuda"] = str(torch.version.cuda)
    return found


def _refuse_mismatch(local: LocalModel) -> None:
    """What was asked for and what runs must agree: a silent fallback measures something else."""
    for name in ("device", "dtype", "attention", "weight bits", "quantizer", "threads"):
        wanted, found = local.requested.get(name), local.observed.get(name)
        if wanted in (None, "auto") or found is None or wanted == found:
            continue
        raise MeasurementError(
            f"`{name}: {wanted}` was asked for, and the model runs with `{found}`",
            hint="nothing was measured; change the setting or install what it needs",
        )
