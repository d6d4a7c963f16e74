"""The experiment that `engine bench` stands for: what a user could have written, as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.commands.loading import model_in_spec
from engine.errors import CatalogError, UsageError

__all__ = ["BenchRequest", "bench_yaml", "known_device", "require_device"]

_FILES: Final = (".json", ".yaml", ".yml")
_UNKNOWN: Final = {
    "name": "unknown device",
    "peak": {"fp32": "1 TFLOP/s", "fp16": "1 TFLOP/s", "bf16": "1 TFLOP/s"},
    "memory_bandwidth": "100 GB/s",
    "confidence": "C",
    "source": "placeholder: the device is not in the catalogue, so nothing is predicted for it",
}


@dataclass(frozen=True)
class BenchRequest:
    """What the command line asks for."""

    model: str
    concurrency: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: int
    dtype: str
    device: str
    weights: str
    base_url: str | None
    served_model: str | None
    api_key_env: str | None
    endpoint: str
    repeats: int
    check_oom: bool
    hardware: str | None
    name: str | None
    batching: str = "static"
    generate: bool = False
    attention: str = "auto"
    mixed: bool = False
    """Short and long prompts in one load, instead of one load each."""
    time_limit_s: float = 3600.0
    devices: int = 1
    """Devices of this machine that the layers are spread over."""


def require_device(hardware: str | None, devices: int) -> None:
    """Raise `UsageError` where layers go over several devices and nobody knows what joins them."""
    if devices > 1 and hardware is None:
        raise UsageError(
            f"`--devices {devices}` needs to know what joins them, and this machine's device is not known",
            hint="name it with `--hardware`, such as `--hardware h100-sxm-80gb`",
        )


def bench_yaml(request: BenchRequest, *, detected: str | None) -> str:
    """The spec as text; `detected` is the catalogue's name of this machine's device, None when unknown."""
    hardware = request.hardware or detected
    require_device(hardware, request.devices)
    measured = _measurement(request, known=hardware is not None)
    spec: dict[str, Any] = {
        "version": 1,
        "name": request.name or _slug(request),
        "model": model_in_spec(request.model),
        "hardware": hardware or _UNKNOWN,
        "quantization": request.dtype,
        "workload": {
            "prompt_tokens": max(request.prompt_tokens) if request.mixed else request.prompt_tokens[0],
            "output_tokens": request.output_tokens,
        },
    }
    if request.devices > 1:
        spec["parallelism"] = {"pipeline": request.devices}
    if len(request.prompt_tokens) > 1 and not request.mixed:
        spec["sweep"] = {"axes": {"workload.prompt_tokens": list(request.prompt_tokens)}}
    spec["measurements"] = [*([{"kind": "analytical"}] if hardware else []), measured]
    return _yaml(spec)


def _measurement(request: BenchRequest, *, known: bool) -> dict[str, Any]:
    target: dict[str, Any]
    if request.base_url is not None:
        target = {"kind": "openai", "base_url": request.base_url, "endpoint": request.endpoint,
                  "model": request.served_model or request.model}  # fmt: skip
        if request.api_key_env:
            target["api_key_env"] = request.api_key_env
    else:
        target = {"kind": "local", "weights": request.weights, "device": request.device}
        if request.batching != "static":
            target["batching"] = request.batching
        if request.generate:
            target["generate"] = True
        if request.attention != "auto":
            target["attention"] = request.attention
    load: dict[str, Any] = {"concurrency": list(request.concurrency)}
    if request.mixed:
        load["prompt_lengths"] = list(request.prompt_tokens)
    found: dict[str, Any] = {
        "kind": "live",
        "target": target,
        "load": load,
        "repeats": request.repeats,
        "check_oom": request.check_oom,
        "time_limit": f"{request.time_limit_s:g} s",
    }
    if not known:
        found["predict"] = False
    return found


def _slug(request: BenchRequest) -> str:
    path = Path(request.model)
    base = path.parent.name if path.name == "config.json" else path.name
    base = path.stem if path.suffix in _FILES and path.name != "config.json" else base
    text = re.sub(r"[^a-z0-9.]+", "-", base.rsplit("/", 1)[-1].lower()).strip("-.") or "model"
    return f"bench-{text}"[:100]


def known_device(wanted: str) -> str | None:
    """The catalogue's name of the device a local model would run on; None when it has none."""
    from engine.results.environment import gpus

    if wanted not in ("auto", "cuda"):
        return None
    found = gpus()[:1]
    return device_named(str(found[0]["name"] or ""), found[0].get("memory_bytes")) if found else None


def device_named(name: str, memory_bytes: int | None) -> str | None:
    """The catalogue's name for what a driver calls `name`; None when no entry fits."""
    from engine.spec.catalog import load_hardware

    for spelling in _spellings(name, memory_bytes):
        try:
            load_hardware(spelling)
        except CatalogError:
            continue
        return spelling
    return None


def _spellings(name: str, memory_bytes: int | None) -> Sequence[str]:
    """Names that a driver's name may stand for, such as `NVIDIA H200` for h200-sxm."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    words = [w for w in words if w not in ("nvidia", "geforce", "tesla", "hbm2", "hbm2e", "hbm3", "hbm3e")]
    words = [re.sub(r"^sxm\d$", "sxm", w) for w in words]
    size = _marketed(memory_bytes)
    chip = [w for w in words if not re.fullmatch(r"\d+gb", w)]
    found = ["-".join(words), "-".join(chip)]
    # A data-centre chip without a form factor in its name is the module.
    for form in ([], ["sxm"]) if "pcie" not in chip and "sxm" not in chip else ([],):
        found += ["-".join([*chip, *form, f"{size}gb"])] if size else []
        found += ["-".join([*chip, *form])]
    return list(dict.fromkeys(found))


def _marketed(memory_bytes: int | None) -> int | None:
    """Memory as it stands on the box, GB: the driver reports a little less."""
    gigabytes = (memory_bytes or 0) / 1024**3
    near = [s for s in (16, 24, 32, 40, 48, 80, 94, 96, 141, 192) if 0 <= s - gigabytes <= 0.06 * s + 0.5]
    return near[0] if near else None


def _yaml(value: Any) -> str:
    """Plain YAML: block mappings at the top, flow style further down, JSON scalars."""
    lines = ["# Written by `engine bench`; edit it and use `engine run`."]
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines.append(f"{key}:")
            lines += [f"  {name}: {_flow(item)}" for name, item in inner.items()]
        elif isinstance(inner, list):
            lines.append(f"{key}:")
            for item in inner:
                parts = [f"{name}: {_flow(part)}" for name, part in item.items()]
                lines += [f"  - {parts[0]}", *(f"    {part}" for part in parts[1:])]
        else:
            lines.append(f"{key}: {_flow(inner)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", value) and value not in _WORDS:
        return value
    return json.dumps(value)


_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
