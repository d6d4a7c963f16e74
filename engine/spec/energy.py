"""Settings of energy profiling."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.spec.live import LocalTarget
from engine.spec.quantity import Celsius, Seconds
from engine.spec.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class LoopSettings(Settings):
    """How one component is repeated until a slow sensor can see it."""

    window: Seconds | None = None
    """Shortest measured loop; 5 s where energy is metered, 0.1 s where only time is."""
    limit: Seconds = 30.0
    """Longest measured loop."""
    min_edges: Annotated[int, Field(ge=2, le=10_000)] = 30
    """Updates of the energy counter that a loop must span."""
    precision: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """A loop goes on until the interval of its own steps is this narrow, relative to the mean."""
    chunk: Seconds = 0.02
    """Work between two readings of the counter; at most a fifth of its update period."""
    warmup: Seconds | None = None
    """Work before the first reading; 2 s where energy is metered, 0.02 s where only time is."""
    cooldown: Seconds | None = None
    """Rest before each loop; 5 s where energy is metered, none where only time is."""


class IdleSettings(Settings):
    """How idle power is measured, before and after."""

    window: Seconds = 10.0
    """Length of each idle measurement."""
    settle: Seconds = 10.0
    """Rest before it."""


class ProbeSettings(Settings):
    """How the update periods of the sensors are found."""

    duration: Seconds = 2.0
    """How long to look."""
    interval: Seconds = 0.002
    """Time between two looks."""


class EnergyLimits(Settings):
    """What makes a trial invalid or raises a flag."""

    clock_spread: Share = 0.02
    """Spread of the multiprocessor clock within a loop, relative to its mean."""
    temperature_rise: Celsius = 5.0
    """Rise of the die temperature within a loop."""
    disagreement: Share = 0.05
    """Difference between energy counter and integrated power."""
    idle_drift: Share = 0.03
    """Difference between idle power before and after."""
    closure: Share = 0.03
    """Difference between the sum of the parts and the whole."""


class EnergySettings(Settings):
    """Meter where the joules go: load, prefill, decode, layers, components."""

    kind: Literal["energy"]
    """Meter energy."""
    source: Literal["auto", "nvml", "nvidia-smi", "replay"] = "auto"
    """Where power readings come from; `auto` is NVML, else nvidia-smi."""
    trace: str | None = None
    """Recorded trace for `replay`, relative to the spec: a trace of this engine, nvidia-smi CSV or dmon, or
    energies by phase."""
    metrics: Annotated[list[Literal["time", "energy"]], Field(min_length=1, max_length=2)] = [
        "time",
        "energy",
    ]
    """What to measure; `[time]` needs no power sensor and works on any machine."""
    granularity: Literal["phase", "layer", "component"] = "phase"
    """How far down energy is attributed."""
    method: Literal["loop", "time_weighted"] = "loop"
    """How layers and components are metered. `loop` repeats each until the sensor sees it, with intervals,
    and takes minutes. `time_weighted` shares the energy of a phase by time in one run: a quick look, labelled
    so, wrong by as much as a component's power differs from the mean."""
    target: LocalTarget = LocalTarget(kind="local")
    """The model to run: weights, device, number type."""
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    """Measured requests; intervals of phases come from them."""
    sample_interval: Seconds = 0.02
    """Time between power readings, 10 to 100 ms."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 10
    """Trials of each component, in shuffled order; intervals come from them."""
    loop: LoopSettings = LoopSettings()
    """How one component is repeated."""
    heads: bool = False
    """Time the attention of heads apart too: each query head with `attention: eager`, else each group that
    shares a key head."""
    ablation: bool = False
    """Check each part of a layer a second time by leaving it out of the step."""
    idle: IdleSettings = IdleSettings()
    """How idle power is measured."""
    probe: ProbeSettings = ProbeSettings()
    """How the sensors are examined."""
    limits: EnergyLimits = EnergyLimits()
    """What makes a trial invalid."""
    on_missing: Literal["error", "skip"] = "error"
    """What to do where no power can be read: stop, or record why and go on."""

    @field_validator("sample_interval")
    @classmethod
    def _within_sensor_range(cls, value: float) -> float:
        if not 0.01 <= value <= 0.1:
            raise ValueError("`sample_interval` must be between 10 ms and 100 ms")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.source == "replay") != (self.trace is not None):
            raise ValueError("`trace` belongs to `source: replay`, and that needs it")
        if self.source == "replay" and "energy" not in self.metrics:
            raise ValueError("`source: replay` reads recorded power; `metrics: [time]` measures here")
        unused = [name for name in ("compile", "generate") if getattr(self.target, name)]
        if unused or self.target.batching != "static":
            raise ValueError(f"energy runs plain batches step by step: no `{(*unused, 'batching')[0]}` here")
        looped = self.granularity != "phase" and self.method == "loop"
        if self.heads and not (looped and self.granularity == "component"):
            raise ValueError("`heads` needs `granularity: component` and `method: loop`")
        if self.ablation and not looped:
            raise ValueError("`ablation` needs `granularity: layer` or `component`, and `method: loop`")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("`metrics` names one thing twice")
        return self

    def expected_s(self, layers: int, *, heads: int = 0) -> float:
        """Seconds that one point takes at least, for a plan: idle, requests, and loops of a usual model.

        `heads` is how many parts attention is cut into where that is asked for.
        """
        if self.source == "replay":
            return 1.0
        # A gated dense model has 17 components; one layer is one component of its own.
        parts = {"phase": 0, "layer": layers + 5, "component": 17}[self.granularity]
        parts = 0 if self.method == "time_weighted" else parts + 2 * self.ablation + heads * self.heads
        loop = self.loop
        usual = (5.0, 2.0, 5.0) if self.metered else (0.1, 0.02, 0.0)
        given = (loop.window, loop.warmup, loop.cooldown)
        trial = sum(own if own is not None else value for own, value in zip(given, usual, strict=True))
        idle = 3 * (self.idle.settle + self.idle.window) + self.probe.duration if self.metered else 0.0
        # Five windows of at least 1.2 s each, and a rest between them.
        requests = (self.repeats + 1) * (7.5 if self.metered else 1.0)
        return idle + requests + 2 * parts * self.trials * trial

    @property
    def metered(self) -> bool:
        """Whether energy is asked for; else only time."""
        return "energy" in self.metrics
