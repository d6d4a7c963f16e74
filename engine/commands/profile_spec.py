"""The experiment that `engine profile` stands for: what a user could have written, as YAML."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.commands.bench_spec import require_device
from engine.commands.loading import model_in_spec
from engine.errors import UsageError

_UNKNOWN_DEVICE: Final = (
    '{name: unknown device, peak: {fp32: "1 TFLOP/s", fp16: "1 TFLOP/s", bf16: "1 TFLOP/s"}, '
    'memory_bandwidth: "100 GB/s", confidence: "C", '
    'source: "placeholder: the device is not in the catalogue, so what is predicted for it means nothing"}'
)


@dataclass(frozen=True)
class ProfileRequest:
    """What the command line asks for."""

    model: str
    granularity: str
    method: str
    source: str
    trace: Path | None
    time_only: bool
    weights: str
    dtype: str
    device: str
    hardware: str | None
    prompt_toks: int
    gen_toks: int
    batch: int
    trials: int
    repeats: int
    heads: bool
    ablation: bool
    on_missing: str
    name: str | None
    devices: int = 1

    @property
    def folder_name(self) -> str:
        """Name of the run and of its folder."""
        base = Path(self.model).parent.name if self.model.endswith("config.json") else self.model
        text = re.sub(r"[^a-z0-9.]+", "-", base.rsplit("/", 1)[-1].lower()).strip("-.") or "model"
        return (self.name or f"profile-{text}")[:100]


def profile_yaml(request: ProfileRequest, *, detected: str | None) -> str:
    """The spec as text; `detected` is the catalogue's name of this machine's device, None when unknown."""
    source = "replay" if request.trace is not None else request.source
    if source == "replay" and request.trace is None:
        raise UsageError("`--source replay` needs `--trace FILE`")
    hardware = request.hardware or detected
    require_device(hardware, request.devices)
    lines = [
        "# Written by `engine profile`; edit it and use `engine run`.",
        "version: 1",
        f"name: {_scalar(request.folder_name)}",
        f"model: {_scalar(model_in_spec(request.model))}",
        f"hardware: {_scalar(hardware) if hardware else _UNKNOWN_DEVICE}",
        f"quantization: {request.dtype}",
        "workload:",
        f"  prompt_tokens: {request.prompt_toks}",
        f"  output_tokens: {request.gen_toks}",
        f"  batch_size: {request.batch}",
        *([f"parallelism: {{pipeline: {request.devices}}}"] if request.devices > 1 else []),
        "measurements:",
        *(["  - kind: analytical"] if hardware else []),
        "  - kind: energy",
        f"    source: {source}",
    ]
    if request.trace is not None:
        lines.append(f"    trace: {_scalar(str(request.trace.resolve()))}")
    if request.time_only:
        lines.append("    metrics: [time]")
    lines += [
        f"    granularity: {request.granularity}",
        f"    method: {request.method}",
        f"    trials: {request.trials}",
        f"    repeats: {request.repeats}",
    ]
    lines += [f"    {name}: true" for name in ("heads", "ablation") if getattr(request, name)]
    weights = _real_weights(request.model) if request.weights == "real" else request.weights
    lines.append(f"    target: {{kind: local, weights: {_scalar(weights)}, device: {request.device}}}")
    lines.append(f"    on_missing: {request.on_missing}")
    return "\n".join([*lines, "report:", "  formats: [html]", ""])


def _real_weights(model: str) -> str:
    """Where the weights of a model are: its hub name, or the folder of its config."""
    folder = Path(model).parent if model.endswith(".json") else Path(model)
    if not (model.endswith(".json") or folder.is_dir()):
        return model
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"there are no weights (`*.safetensors`) in `{folder}`",
            hint="name a hub model, or a folder that holds them with `--weights`",
        )
    return str(folder.resolve())


def _scalar(value: Any) -> str:
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) else json.dumps(text)
