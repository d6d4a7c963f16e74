"""Settings of run-folder reading: a tree of logs as it lies on a share."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from engine.spec.quantity import Bytes, BytesPerSecond, Celsius, Seconds
from engine.spec.settings import Settings

Level = Literal[
    "model", "model_size", "hardware", "quantization", "prompt_tokens", "output_tokens", "batch_size",
    "concurrency", "tensor", "repeat", "label",
]  # fmt: skip
Quantity = Literal[
    "time", "date", "clock", "device", "power", "temperature", "memory", "utilization", "throttle",
    "cache_hit_rate",
]  # fmt: skip


class FolderModel(Settings):
    """What a folder name stands for."""

    name: str | None = None
    """Catalogue name of the model; predictions stand beside the run then."""
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Number of parameters, such as 3.2e9."""


class TimeWindow(Settings):
    """When inference ran, on the clock of the power log."""

    start: str
    """For example `2026-03-04T10:15:00.5`."""
    end: str
    """For example `2026-03-04T10:15:12`."""


class LogColumn(Settings):
    """One column of a CSV that no known format explains."""

    quantity: Quantity
    """What the column holds."""
    unit: str | None = None
    """Unit of its numbers, such as `mW`; the one in the header or the cells when absent."""
    device: str | None = None
    """Which device it belongs to; the name of the column when absent."""


class CustomMetric(Settings):
    """A metric of your own, as a column of the workbook."""

    name: str
    """Title of the column."""
    unit: str = ""
    """Unit shown beside the title."""
    formula: str | None = None
    """Arithmetic over metric names, such as `throughput_tokens_per_s / average_power_w`; without one the
    key must name a known metric."""


Zone = Annotated[str, Field(pattern=r"^[+-][0-9]{2}:[0-9]{2}$")]
Way = Literal["auto", "clock", "step", "whole"]


class LogTable(Settings):
    """A table of a SoC Watch summary that is shown beside the metrics, on the sheet Custom."""

    key: Annotated[str, Field(min_length=1, max_length=80)]
    """Title of its columns, such as `PKG_Cstate`."""
    lookup: Annotated[str, Field(min_length=1)]
    """Text in the title of the table, such as `Package C-State Summary: Residency`."""
    buckets: list[Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(-[0-9]+(\.[0-9]+)?)?$")]] = []
    """Ranges such as `1-999`, or single values, into which rows named by a number are added up."""


class RunOverrides(Settings):
    """Settings of some runs only, where their logs were written by another machine or tool."""

    alignment: Way | None = None
    """How the inference window of these runs is found."""
    zone: Zone | None = None
    """Offset from UTC of local times in these logs, such as `+02:00`."""
    clock_offset: Seconds | None = None
    """Added to the times of these power and thermal logs."""
    interval: Seconds | None = None
    """Sampling interval of these logs, where they carry no times."""
    hardware: str | None = None
    """Catalogue name of the device of these runs."""
    throttle_temperature: Celsius | None = None
    """Temperature at which the device of these runs throttles."""
    peak_bandwidth: BytesPerSecond | None = None
    """Peak memory bandwidth of the device of these runs."""
    bytes_per_token: Bytes | None = None
    """Memory traffic of one decode step of these runs."""


class RunFolderSettings(Settings):
    """Read a tree of benchmark logs into the same tables."""

    kind: Literal["run_folder"]
    """Read a folder of logs."""
    path: str
    """Folder, relative to the spec; POSIX, Windows and UNC spellings work."""
    mounts: dict[str, str] = {}
    """Share -> local folder, such as `\\\\server\\data: /mnt/data`."""
    levels: list[str] = []
    """Patterns for folder names, tried before the built-in ones; named groups say what a part is:
    `model`, `model_size`, `batch_size`, `quantization`, `hardware`, `prompt_tokens`, `output_tokens`,
    `concurrency`, `tensor`, `repeat`, `label`."""
    models: dict[str, FolderModel] = {}
    """Folder name -> model, for names nobody can guess."""
    hardware: str | None = None
    """Catalogue name of the device of all runs, where neither logs nor folders say it."""
    merge: list[str] = ["power", "thermal", "telemetry", "monitoring", "logs", "log", "results", "inference"]
    """Folders that belong to the run above them instead of being runs of their own."""
    alignment: Way = "auto"
    """How the inference window is found in the power log: stated times, a step in power, or the whole log;
    `auto` takes the first that works and says which."""
    windows: dict[str, TimeWindow] = {}
    """Folder of a run -> its inference window; wins over everything else."""
    zone: Zone | None = None
    """Offset from UTC of local times in the logs, such as `+02:00`; without it local times and UTC times
    are compared as they stand, and a probable difference is reported."""
    clock_offset: Seconds = 0.0
    """Added to the times of power and thermal logs before they meet the inference logs."""
    interval: Seconds | None = None
    """Sampling interval of logs that carry no times."""
    overrides: dict[str, RunOverrides] = {}
    """Folder of a run, or of several, or a pattern such as `*/gpu_a/*` -> settings that hold there instead;
    of several that fit the later one wins."""
    verdicts: bool = False
    """A folder that holds a `.PASS` or `.FAIL` file is one run with everything below it; runs marked as
    failed are shown, and compared with nothing."""
    tables: list[LogTable] = []
    """Tables of SoC Watch summaries to show beside the metrics."""
    columns: dict[str, LogColumn] = {}
    """Column name -> meaning, for CSV files that no known format explains."""
    rails: dict[str, str] = {}
    """Rail or column name -> name to show; `SOC_POWER_RAIL_NAME: rail` names the one that is the total."""
    metrics: dict[str, CustomMetric] = {}
    """Further metrics."""
    throttle_temperature: Celsius | None = None
    """Temperature at which the device throttles; the catalogue's when the device is known."""
    peak_bandwidth: BytesPerSecond | None = None
    """Peak memory bandwidth; the catalogue's when the device is known."""
    bytes_per_token: Bytes | None = None
    """Memory traffic of one decode step; the size of the weights when absent, labelled as such."""
    samples: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Samples of each device kept for charts; energy always uses every sample."""
    predictions: bool = True
    """Predict each run whose model and device are in the catalogue, and put the error beside it."""

    @field_validator("levels")
    @classmethod
    def _patterns_compile(cls, patterns: list[str]) -> list[str]:
        known = set(Level.__args__)  # type: ignore[attr-defined]
        for pattern in patterns:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as err:
                raise ValueError(f"`{pattern}` is not a pattern: {err}") from err
            if not groups or set(groups) - known:
                raise ValueError(f"`{pattern}` needs named groups among {', '.join(sorted(known))}")
        return patterns
