"""What an energy log may hold: somebody else may have written it, so it is read as data and checked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from engine.errors import MeasurementError
from engine.measure.energy.trace import EventKind


def _writable(text: str) -> str:
    """Half of a pair of surrogates is no text: JSON can spell it, no file can hold it."""
    return text.encode("utf-8", errors="replace").decode()


Text = Annotated[str, AfterValidator(_writable)]
Moment = Annotated[FiniteFloat, Field(ge=-1e12, le=1e12)]
"""Seconds, of whatever clock."""
Count = Annotated[int, Field(ge=0, le=10**9)]
Mask = Annotated[float, Field(ge=0, lt=2**53)]
Watts = Annotated[FiniteFloat, Field(ge=0, le=1e7)]
Joules = Annotated[FiniteFloat, Field(ge=-1e15, le=1e15)]


class Reading(BaseModel):
    """A row of `measurements`; readings that no device can have are left out later, not here."""

    timestamp: Moment
    power_mw: float | None = None
    power_w: float | None = None
    gpu_util: float | None = None
    mem_util: float | None = None
    temp: float | None = None
    component: Text | None = None
    event: Text | None = None
    device: Text | int = "0"
    average_power_w: float | None = None
    energy_counter_j: float | None = None
    memory_used_bytes: float | None = None
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttle: Mask | None = None


class Window(BaseModel):
    """An entry of `events`."""

    model_config = ConfigDict(extra="forbid")

    kind: EventKind
    phase: Text
    begin_s: Moment
    end_s: Moment
    component: Text | None = None
    layer: Count | None = None
    repeat: Count = 0
    warmup: bool = False
    iterations: Annotated[int, Field(ge=1, le=10**12)] = 1
    tokens: Annotated[int, Field(ge=1, le=10**12)] | None = None
    token_index: Count | None = None
    intensity: Annotated[FiniteFloat, Field(ge=0, le=1e12)] | None = None
    variant: Text = ""
    energy_j: Joules | None = None

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end_s <= self.begin_s:
            raise ValueError(f"a window of `{self.phase}` lasts from {self.begin_s:g} to {self.end_s:g}")
        return self


class Loop(BaseModel):
    """An entry of `loops`: one trial, read after each chunk."""

    component: Text
    phase: Text
    trial: Count
    layer: Count | None = None
    parent: Text | None = None
    count: Annotated[int, Field(ge=1, le=10**9)] = 1
    foreign: bool = False
    order: Count = 0
    averaged: bool = False
    share: dict[Count, Annotated[FiniteFloat, Field(ge=0, le=1)]] = {}
    times_s: Annotated[list[Moment], Field(min_length=2)]
    iterations: list[Annotated[FiniteFloat, Field(ge=0, le=1e15)]]
    energy_j: list[Joules | None] | None = None
    power_w: list[Watts | None] | None = None
    clock_hz: list[Annotated[FiniteFloat, Field(gt=0, le=1e12)] | None] | None = None
    temperature_c: list[Annotated[FiniteFloat, Field(ge=-300, le=1000)] | None] | None = None
    throttle: list[Mask | None] | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        columns = (
            self.iterations,
            self.energy_j,
            self.power_w,
            self.clock_hz,
            self.temperature_c,
            self.throttle,
        )
        if any(column is not None and len(column) != len(self.times_s) for column in columns):
            raise ValueError(f"the reads of a loop of `{self.component}` are not of one length")
        for column in (self.times_s, self.iterations):
            if any(later <= earlier for earlier, later in itertools.pairwise(column)):
                raise ValueError(f"a loop of `{self.component}` goes backwards")
        return self


class Log(BaseModel):
    """The whole document; what else it holds is nobody's business here."""

    device: Text | None = None
    source: Text | None = None
    baseline_power_watts: Watts | None = None
    sampling_rate_ms: Annotated[FiniteFloat, Field(gt=0, le=1e9)] | None = None
    sensor_period_s: Annotated[FiniteFloat, Field(gt=0, le=1e3)] | None = None
    notes: list[Text] = []
    facts: dict[Text, Text | float | bool | None] = {}
    measurements: list[Reading]
    events: list[Window] = []
    loops: list[Loop] = []


def checked_log(document: Mapping[str, Any], *, file: str) -> dict[str, Any]:
    """The document with every value of its kind; raises `MeasurementError` for the first that is not."""
    try:
        return Log.model_validate(document).model_dump()
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise MeasurementError(f"`{file}` is no energy log: `{place}`: {told[:1].lower()}{told[1:]}") from err
