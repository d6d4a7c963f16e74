"""What a user writes: one experiment."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from engine.spec.hardware import Hardware
from engine.spec.measurement import Measurement
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.report import Report
from engine.spec.scoring import Scoring
from engine.spec.settings import Settings
from engine.spec.sweep import Sweep
from engine.spec.workload import Parallelism, Workload

Name = Annotated[str, Field(min_length=1, max_length=500)]
Tag = Annotated[str, Field(min_length=1, max_length=40)]


FROM_LOGS: Final = "from the logs"
"""Stands for the model and the device where only logs are read: each run brings its own."""


class Experiment(Settings):
    """An experiment: what to run, on what, over which values, measured how, judged how."""

    version: Literal[1]
    """Version of this file format: 1."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Name of the experiment and of its run folder: letters, digits, `.`, `_`, `-`."""
    description: str | None = None
    """What one learns from it; shown in the report."""
    tags: Annotated[list[Tag], Field(max_length=20)] = []
    """Words to find the run by, such as `nightly` or a project; shown by `engine view`."""
    model: Model | Name
    """A name of the catalogue, the path of a `config.json`, or the shape itself. Not needed where only logs
    are read."""
    hardware: Hardware | Name
    """A name of the catalogue, or the device itself. Not needed where only logs are read."""
    quantization: Quantization | Name = "bf16"
    """A name of the catalogue, or bits per component."""
    workload: Workload = Workload()
    """Tokens in, tokens out, sequences at a time."""
    parallelism: Parallelism = Parallelism()
    """How the model is spread over devices."""
    sweep: Sweep = Sweep()
    """Values to vary."""
    measurements: Annotated[list[Measurement], Field(min_length=1)]
    """What to do with every point."""
    scoring: Scoring | None = None
    """How results are judged."""
    report: Report = Report()
    """What to show."""

    @model_validator(mode="before")
    @classmethod
    def _logs_bring_their_own(cls, values: Any) -> Any:
        listed = values.get("measurements") if isinstance(values, Mapping) else None
        if not isinstance(listed, list) or not listed:
            return values
        if any(not isinstance(one, Mapping) or one.get("kind") != "run_folder" for one in listed):
            return values
        return {"model": FROM_LOGS, "hardware": FROM_LOGS, **values}

    @property
    def has_points(self) -> bool:
        """Whether there is something to plan: logs alone bring their own points."""
        return any(m.kind != "run_folder" for m in self.measurements)
