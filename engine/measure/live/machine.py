"""What else this machine does while it measures: others' load, stolen time, clocks, temperatures."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.measure.live.oom import visible_device
from engine.measure.live.records import Machine, Memory, Repeat

__all__ = ["GpuProbe", "host_rss_peak", "look", "memory_of", "noise", "peaks_of"]

_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_STEAL_SHARE: Final = 0.02
_CLOCK_DRIFT: Final = 0.05


class GpuProbe:
    """Clock, temperature and memory of the first so many visible NVIDIA devices; answers None where there is
    none, and where one of several does not answer."""

    def __init__(self, *, devices: int) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        if devices:
            with contextlib.suppress(ImportError):
                self._connect(devices)

    def _connect(self, devices: int) -> None:
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            self._handles = [visible_device(pynvml, number) for number in range(devices)]
            self._nvml = pynvml

    def _ask(self, question: str, *arguments: Any) -> list[Any] | None:
        if self._nvml is None:
            return None
        try:
            return [getattr(self._nvml, question)(handle, *arguments) for handle in self._handles]
        except self._nvml.NVMLError:
            return None

    def clock_hz(self) -> float | None:
        """Clock of the multiprocessors now; the slowest of several devices."""
        found = self._ask("nvmlDeviceGetClockInfo", 1)
        return None if found is None else min(found) * 1e6

    def temperature_c(self) -> float | None:
        """Die temperature now; the hottest of several devices."""
        found = self._ask("nvmlDeviceGetTemperature", 0)
        return None if found is None else float(max(found))

    def used_bytes(self) -> int | None:
        """Memory in use on the fullest device, whoever uses it."""
        found = self._ask("nvmlDeviceGetMemoryInfo")
        return None if found is None else max(int(one.used) for one in found)

    def process_bytes(self) -> int | None:
        """Memory the driver ascribes to this process where that is most; None where containers hide it."""
        told = [
            [entry.usedGpuMemory for entry in entries if entry.pid == os.getpid()]
            for entries in self._ask("nvmlDeviceGetComputeRunningProcesses") or ()
        ]
        if not told or not all(own and own[0] is not None for own in told):
            return None
        return max(int(own[0]) for own in told)


def look(gpu: GpuProbe) -> Machine:
    """The state of the machine now."""
    steal, total = _cpu_times()
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    return Machine(
        load_average=load,
        steal_s=steal,
        cpu_total_s=total,
        cpu_clock_hz=_cpu_clock(),
        gpu_clock_hz=gpu.clock_hz(),
        gpu_temperature_c=gpu.temperature_c(),
        switches=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
    )


def _cpu_times() -> tuple[float | None, float | None]:
    """(stolen, all) CPU seconds since boot."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None, None
    return fields[7] / _TICKS, sum(fields) / _TICKS


def _cpu_clock() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").read_text()) * 1e3
    return None


def host_rss_peak() -> int:
    """Largest resident set of this process so far, in bytes; it never goes down."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_of(devices: Sequence[str], gpu: GpuProbe, *, kv_cache: int | None) -> Memory:
    """Peaks since they were last reset; those of the fullest device are None without an accelerator."""
    if not devices[0].startswith("cuda"):
        return Memory(host_rss_peak=host_rss_peak(), kv_cache=kv_cache)
    allocated, reserved = peaks_of(devices)
    return Memory(
        host_rss_peak=host_rss_peak(),
        device_allocated_peak=allocated,
        device_reserved_peak=reserved,
        device_process=gpu.process_bytes(),
        device_used=gpu.used_bytes(),
        kv_cache=kv_cache,
    )


def peaks_of(devices: Sequence[str]) -> tuple[int, int]:
    """Bytes that tensors held at most, and that the allocator did, each on the fullest CUDA device."""
    import torch

    return (
        max(int(torch.cuda.max_memory_allocated(one)) for one in devices),
        max(int(torch.cuda.max_memory_reserved(one)) for one in devices),
    )


def noise(repeats: Sequence[Repeat], *, busy_threads: int) -> list[tuple[str, str]]:
    """What disturbed these repeats: (rule, sentence with the numbers)."""
    pairs = [(r.before, r.after) for r in repeats if r.before is not None and r.after is not None]
    if not pairs:
        return []
    found: list[tuple[str, str]] = []
    cores = os.cpu_count() or 1
    loads = [b.load_average for b, _ in pairs if b.load_average is not None]
    # Our own threads are part of the load; the machine is disturbed when others need cores too.
    if loads and max(loads) > cores + busy_threads:
        found.append(
            ("busy-machine", f"load average reached {max(loads):.1f} on {cores} cores; others ran here too")
        )
    stolen = [_steal_share(b, a) for b, a in pairs]
    worst = max((s for s in stolen if s is not None), default=0.0)
    if worst > _STEAL_SHARE:
        found.append(("stolen-time", f"the host of this virtual machine took {worst:.1%} of its CPU time"))
    for name, label in (("gpu_clock_hz", "GPU"), ("cpu_clock_hz", "CPU")):
        clocks = [c for b, a in pairs for c in (getattr(b, name), getattr(a, name)) if c]
        if clocks and (max(clocks) - min(clocks)) / max(clocks) > _CLOCK_DRIFT:
            low, high = min(clocks) / 1e6, max(clocks) / 1e6
            found.append(("clock-drift", f"the {label} clock moved between {low:.0f} and {high:.0f} MHz"))
    return found


def _steal_share(before: Machine, after: Machine) -> float | None:
    if before.steal_s is None or after.steal_s is None:
        return None
    if before.cpu_total_s is None or after.cpu_total_s is None:
        return None
    total = after.cpu_total_s - before.cpu_total_s
    return (after.steal_s - before.steal_s) / total if total > 0 else None
