"""Settings of the device probe: operator micro-benchmarks that a calibration is fitted on."""

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.quantity import Bytes, Seconds
from engine.spec.settings import Settings


class DeviceProbeSettings(Settings):
    """Time matrix products, attention, copies and launches on the device that is here, with torch."""

    kind: Literal["device_probe"]
    """Time the operators that models are made of."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Which device; `auto` takes an accelerator when there is one."""
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    """What the rows call the device: its catalogue name. What torch calls it when absent."""
    precisions: Annotated[list[Literal["fp32", "bf16", "fp16"]], Field(min_length=1, max_length=3)] = ["fp32"]
    """Number types to time."""
    budget: Seconds = 120.0
    """Time for all operators; shapes are measured in rounds until it is spent, the telling ones first."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads; as many as this process may use when absent."""
    largest: Annotated[int, Field(ge=256, le=65536)] | None = None
    """Largest matrix dimension; 2048 on a CPU and 16384 on an accelerator when absent."""
    cold_bytes: Bytes = 256e6
    """Weights rotate through this much memory, so that they come from memory and not from a cache."""
    host: bool = True
    """Time steps of small models too: what the framework does between kernels."""
    take_turns: bool = False
    """Pass on to other measurements that take turns after each round of an operator, so that a drift of the
    machine meets probe and models alike."""
    sheet: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """File for a device entry made from the best rates seen, relative to the spec; none when absent."""
