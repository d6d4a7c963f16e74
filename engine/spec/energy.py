"""Settings of energy profiling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.quantity import Seconds
from engine.spec.settings import Settings


class EnergySettings(Settings):
    """Meter where the joules go: load, prefill, decode, layers, components."""

    kind: Literal["energy"]
    """Meter energy."""
    source: Literal["auto", "nvml", "nvidia-smi", "replay"] = "auto"
    """Where power readings come from."""
    trace: str | None = None
    """Recorded trace for `replay`, relative to the spec."""
    granularity: Literal["phase", "layer", "component"] = "phase"
    """How far down energy is attributed."""
    sample_interval: Seconds = 0.02
    """Time between power readings, 10 to 100 ms."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 10
    """Trials of each component; intervals come from them."""
    on_missing: Literal["error", "skip"] = "error"
    """What to do where no power can be read: stop, or record why and go on."""
