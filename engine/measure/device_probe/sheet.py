"""A device entry from what was seen: the best rates stand in for a data sheet that nobody has."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.units import format_quantity


def device_name(device: str) -> str:
    """What the device calls itself."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def sheet_text(name: str, device: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """YAML of a device whose peaks are the best rates of the rows, rounded up by a hundredth."""
    peaks: dict[str, float] = {}
    bandwidth = 0.0
    for row in rows:
        if row["operator"] == "gemm":
            rate = 2.0 * row["m"] * row["n"] * row["k"] / row["time_s"]
            peaks[row["precision"]] = max(peaks.get(row["precision"], 0.0), rate)
        if row["operator"] in ("copy", "elementwise"):
            bandwidth = max(bandwidth, row["bytes"] / row["time_s"])
        if row["operator"] == "gemm" and row["m"] == 1:
            size = {"fp32": 4, "bf16": 2, "fp16": 2}[row["precision"]]
            bandwidth = max(bandwidth, size * row["n"] * row["k"] / row["time_s"])
    shown = "".join(f"  {p}: {format_quantity(1.01 * r, 'flops_per_s')}\n" for p, r in sorted(peaks.items()))
    memory = _memory_bytes(device)
    return (
        "# yaml-language-server: $schema=../schemas/hardware.v1.json\n"
        f"name: {_quoted(name)}\n"
        f"peak:\n{shown}"
        f"memory_bandwidth: {format_quantity(1.01 * bandwidth, 'bytes_per_s')}\n"
        + (f"memory: {format_quantity(memory, 'bytes')}\n" if memory else "")
        + "confidence: C\n"
        f"source: best rates of a device probe, {datetime.now(UTC).date().isoformat()}\n"
        "notes: Peaks are what was reached, not what a vendor publishes.\n"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _memory_bytes(device: str) -> float | None:
    if device == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return float(psutil.virtual_memory().total)
