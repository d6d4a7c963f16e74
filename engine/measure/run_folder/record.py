"""What the readers of formats hand back: results of a benchmark, series of a sensor, facts of a setup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.measure.run_folder.trace import Trace

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True)
class Note:
    """Something a reader must know, with its place."""

    code: str
    """Short stable name of the rule, such as `row-cut`."""
    text: str
    severity: Severity = "warning"
    line: int | None = None
    """Line of the file, counting from 1."""


@dataclass(frozen=True)
class Result:
    """One result of a benchmark."""

    values: Mapping[str, float]
    """Metric name -> value in base units; what the file does not say is left out."""
    how: Mapping[str, str] = field(default_factory=dict)
    """Metric -> derivation, for values the file does not print as such."""
    settings: Mapping[str, int | str] = field(default_factory=dict)
    """prompt_tokens, output_tokens, batch_size, concurrency, model, hardware, quantization, tensor."""
    label: str = ""
    """What tells several results of one file apart, such as `tg128`."""
    phase: Literal["request", "prefill", "decode"] = "request"
    window: tuple[float, float] | None = None
    """Start and end of inference as seconds since 1970; local times count as if they were UTC."""
    zone: Literal["local", "utc"] = "local"
    """Which clock `window` is on."""
    seconds: float | None = None
    """How long all of the work took; None where the log does not say it, or repeats the work unsaid."""


@dataclass(frozen=True)
class Extra:
    """A number of a log that is no metric of the project, shown because the spec asks for it."""

    title: str
    unit: str
    """As printed."""
    value: float


@dataclass(frozen=True)
class Read:
    """Everything one file says."""

    results: tuple[Result, ...] = ()
    traces: tuple[Trace, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value that holds for the whole run, such as the size of the weights."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """model, hardware, quantization, as the file names them."""
    how: Mapping[str, str] = field(default_factory=dict)
    """Derivation of facts."""
    extras: tuple[Extra, ...] = ()
    """Numbers of tables that the spec asks for."""
    rows_read: int = 0
    rows_dropped: int = 0
    notes: tuple[Note, ...] = ()
