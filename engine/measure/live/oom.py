"""Will it fit? Answered from formulas before anything is loaded, in bytes, with every part named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from engine.spec.hardware import Hardware, Peaks
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.workload import Parallelism, Workload

__all__ = ["Available", "OomCheck", "available_memory", "bounded", "check_memory", "document_rule"]

Verdict = Literal["fits", "tight", "does_not_fit"]

# What a process with torch and transformers holds before a model: resident memory of the imports on x86
# Linux (torch 2.13, measured 2026) and a CUDA context with cuBLAS (typical; depends on driver and device).
_RUNTIME_BYTES: Final = {"cpu": 0.7e9, "cuda": 0.6e9, "mps": 0.7e9}
_LARGEST: Final = 65_536

# The concurrency profiler's own rule: sizes in GB by name, cache = 0.001 x size x tokens x requests.
_DOCUMENT_SIZES_GB: Final = {"8b": 16.0, "70b": 140.0, "405b": 810.0}
_DOCUMENT_UNKNOWN_GB: Final = 5.0
_DOCUMENT_HIGH, _DOCUMENT_MEDIUM = 0.9, 0.7


@dataclass(frozen=True)
class Available:
    """Memory that a new process may take now."""

    free_bytes: float
    device: str
    """`cpu` or `cuda`."""
    source: str
    """Where the number comes from."""
    devices: int = 1
    """Devices that were looked at: `free_bytes` is that of the one with the least."""


@dataclass(frozen=True)
class OomCheck:
    """Need against what is there, in bytes."""

    verdict: Verdict
    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    runtime_bytes: float
    """Libraries and device context: an assumption, see the module."""
    reserve_bytes: float
    """Share of free memory to leave: what needs it is `tight`."""
    free_bytes: float
    largest_concurrency: int
    """Most requests of this length at once; 0 when not even one fits."""
    limit: str
    """What binds the largest concurrency."""
    devices: int = 1
    """Devices that the layers are spread over; every number is then that of the fullest one."""

    @property
    def needed_bytes(self) -> float:
        """Everything but the reserve."""
        return self.weights_bytes + self.kv_cache_bytes + self.activations_bytes + self.runtime_bytes

    @property
    def sentence(self) -> str:
        """Verdict and numbers for people, GB = 1e9 bytes."""
        needed, free = self.needed_bytes / 1e9, self.free_bytes / 1e9
        parts = (
            f"weights {self.weights_bytes / 1e9:.2f} GB, cache {self.kv_cache_bytes / 1e9:.2f} GB, "
            f"activations {self.activations_bytes / 1e9:.2f} GB, runtime {self.runtime_bytes / 1e9:.2f} GB"
        )
        text = f"needs {needed:.2f} GB ({parts}), free {free:.2f} GB"
        if self.devices > 1:
            text = f"over {self.devices} devices the fullest {text}"
        if self.verdict == "does_not_fit":
            return f"{text}; the largest concurrency that fits is {self.largest_concurrency}"
        return text


def check_memory(
    model: Model,
    quantization: Quantization,
    workload: Workload,
    *,
    sequences: int,
    available: Available,
    reserve: float = 0.1,
    devices: int = 1,
) -> OomCheck:
    """Whether `sequences` requests of the workload fit at once, and how many would.

    With layers spread over several devices the fullest of them decides, with what is free on the one that has
    least.
    """
    runtime = _RUNTIME_BYTES.get(available.device, 0.0)

    def parts(count: int) -> tuple[float, float, float]:
        return _parts(model, quantization, workload, count, devices)

    def total(count: int) -> float:
        return sum(parts(count)) + runtime

    weights, cache, activations = parts(sequences)
    kept_free = reserve * available.free_bytes
    needed = weights + cache + activations + runtime
    if needed > available.free_bytes:
        verdict: Verdict = "does_not_fit"
    else:
        verdict = "tight" if needed > available.free_bytes - kept_free else "fits"
    largest = _largest(total, available.free_bytes)
    limit = "weights alone are too large" if weights + runtime > available.free_bytes else "memory"
    if largest >= _LARGEST:
        limit = "none below 65,536 requests"
    return OomCheck(
        verdict,
        weights,
        cache,
        activations,
        runtime,
        kept_free,
        available.free_bytes,
        largest,
        limit,
        devices,
    )


def _parts(
    model: Model, quantization: Quantization, workload: Workload, sequences: int, devices: int
) -> tuple[float, float, float]:
    """Weights, cache and activations of the performance model, on the fullest of devices without limits."""
    from engine.perfmodel.deployment import Deployment
    from engine.perfmodel.point import predict_point

    # Memory does not depend on speed: any device with room shows what the workload asks for.
    anything = Hardware.model_validate(
        {
            "name": "any",
            "peak": dict.fromkeys(Peaks.model_fields, 1e15),
            "memory_bandwidth": 1e15,
            "pcie": "PCIe5 x16",
        },
        context={"trusted": True},
    )
    shown = predict_point(
        Deployment(model, anything, quantization, Parallelism(pipeline=devices)),
        workload.model_copy(update={"batch_size": sequences}),
    ).phases["request"]
    return shown["weights_bytes"], shown["kv_cache_bytes"], shown["activations_bytes"]


def _largest(total: object, free: float) -> int:
    """Largest whole number of sequences whose total stays within `free`; totals grow with the number."""
    if not callable(total) or total(1) > free:
        return 0
    low, high = 1, 2
    while high < _LARGEST and total(high) <= free:
        low, high = high, high * 2
    high = min(high, _LARGEST)
    if total(high) <= free:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= free else (low, middle)
    return low


def available_memory(device: str = "auto", *, devices: int = 1) -> Available:
    """What is free now: of the first visible GPU or the fullest of several, else of this host within its
    control group."""
    if device in ("auto", "cuda"):
        free = _gpu_free(devices)
        if free is not None:
            which = "the device" if devices == 1 else f"the fullest of {devices} devices"
            return Available(free, "cuda", f"free memory of {which} now", devices)
    free, source = _host_free()
    return Available(free, "cpu", source)


@contextlib.contextmanager
def bounded(available: Available) -> Iterator[None]:
    """Inside, this process gets what is free now and no more: what would make the kernel end the process, and
    everything it measured with it, fails as an allocation that a load can be blamed for. Host memory on
    Linux; elsewhere nothing changes."""
    held = _data_bytes() if available.device == "cpu" else None
    if held is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + int(available.free_bytes)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Private memory this process has mapped, as RLIMIT_DATA counts it; None where it cannot be read."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("VmData:")), None)
    return None if found is None else int(found) * 1024


def visible_device(nvml: Any, number: int = 0) -> Any:
    """NVML's handle of the device torch calls `cuda:<number>`; raises NVML's error when there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number)] if visible is None else visible.split(",")[number : number + 1]
    name = names[0].strip() if names else ""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)


def _gpu_free(devices: int) -> float | None:
    if not Path("/dev/nvidiactl").exists():
        return None
    with contextlib.suppress(ImportError):
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                handles = [visible_device(pynvml, number) for number in range(devices)]
                return min(float(pynvml.nvmlDeviceGetMemoryInfo(handle).free) for handle in handles)
            finally:
                pynvml.nvmlShutdown()
    return None


def _host_free() -> tuple[float, str]:
    """The least of what the kernel calls available and what the control group leaves."""
    import psutil

    free, source = float(psutil.virtual_memory().available), "available memory of this host now"
    for limit_file, used_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limit, used = (Path(name).read_text(encoding="ascii").strip() for name in (limit_file, used_file))
        except OSError:
            continue
        if limit.isdigit() and used.isdigit() and int(limit) - int(used) < free:
            free, source = float(int(limit) - int(used)), "what the control group of this process leaves"
    return free, source


@dataclass(frozen=True)
class DocumentRule:
    """What the concurrency profiler's own rule says, for comparison only."""

    weights_gb: float
    cache_gb: float
    risk: str
    """low, medium or high; always low without a GPU, as in the document."""

    @property
    def total_gb(self) -> float:
        """Its total in its own "GB"."""
        return self.weights_gb + self.cache_gb


def document_rule(
    model_name: str, *, prompt_tokens: int, output_tokens: int, concurrency: int, gpu_gib: float | None
) -> DocumentRule:
    """The document's rule: a table of sizes, and GB compared with GiB. Never used for a verdict."""
    name = model_name.lower()
    size = next(
        (gb for key, gb in reversed(_DOCUMENT_SIZES_GB.items()) if _has_size(name, key)),
        _DOCUMENT_UNKNOWN_GB,
    )
    cache = 0.001 * size * (prompt_tokens + output_tokens) * concurrency
    risk = "low"
    if gpu_gib is not None:
        share = (size + cache) / gpu_gib
        risk = "high" if share > _DOCUMENT_HIGH else "medium" if share > _DOCUMENT_MEDIUM else "low"
    return DocumentRule(size, cache, risk)


def _has_size(name: str, size: str) -> bool:
    position = name.find(size)
    return position >= 0 and not (position > 0 and name[position - 1].isdigit())
