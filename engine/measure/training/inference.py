"""Inference reports of Neuron benchmarks (`benchmark_inference.json`) and tables of prompt baselines."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import MeasurementError

PERCENTILES: Final = ("p50", "p90", "p95", "p99", "p100")
_LARGEST: Final = 16 * 2**20


@dataclass(frozen=True)
class SubModel:
    """One compiled model of a benchmark."""

    name: str
    """`e2e_model`, `context_encoding_model`, `token_generation_model` or another."""
    latency_s: float
    """Mean latency of one call."""
    percentiles_s: Mapping[str, float]
    """Latency by percentile, such as `p99`; those the report has."""
    throughput_tokens_per_s: float
    """As the report has it; end to end it counts prompt tokens too."""

    @property
    def tokens(self) -> float:
        """Tokens of one call that latency and throughput imply."""
        return self.throughput_tokens_per_s * self.latency_s


@dataclass(frozen=True)
class InferenceReport:
    """A benchmark report."""

    path: Path
    models: Mapping[str, SubModel]
    accuracy: float | None
    """Share of checks passed, 0 to 1; None when the report does not say."""
    notes: tuple[str, ...]

    @property
    def end_to_end(self) -> SubModel:
        """The whole request."""
        return self.models["e2e_model"]


@dataclass(frozen=True)
class PromptBaseline:
    """What a prompt is compared with."""

    index: int
    words: int
    sequence_length: int
    latency_s: float
    throughput_tokens_per_s: float


def read_inference(path: Path) -> InferenceReport:
    """The report in a JSON file; raises `MeasurementError` naming what is missing or wrong."""
    found = _json(path)
    if not isinstance(found, dict):
        raise MeasurementError(f"`{path}` must hold a mapping")
    models: dict[str, SubModel] = {}
    notes: list[str] = []
    for name, part in found.items():
        if not isinstance(part, dict):
            if name.endswith("_model"):
                notes.append(f"`{path}`: `{name}` is no mapping, so it is not read")
            continue
        if "throughput" not in part and "latency_ms_avg" not in part:
            continue
        try:
            models[name] = _sub_model(path, name, part)
        except MeasurementError as err:
            if name == "e2e_model":
                raise
            notes.append(err.message)
        else:
            notes += _ordered(path, models[name])
    if "e2e_model" not in models:
        raise MeasurementError(
            f"`{path}` has no `e2e_model`", hint="it needs `e2e_model.latency_ms_avg` and `.throughput`"
        )
    return InferenceReport(path, models, _accuracy(path, found), tuple(notes))


def _sub_model(path: Path, name: str, part: Mapping[str, Any]) -> SubModel:
    latency = _positive(path, f"{name}.latency_ms_avg", part.get("latency_ms_avg"))
    percentiles = {
        p: _positive(path, f"{name}.latency_ms_{p}", part[f"latency_ms_{p}"]) / 1e3
        for p in PERCENTILES
        if part.get(f"latency_ms_{p}") is not None
    }
    throughput = _positive(path, f"{name}.throughput", part.get("throughput"))
    return SubModel(name, latency / 1e3, percentiles, throughput)


def _accuracy(path: Path, found: Mapping[str, Any]) -> float | None:
    end_to_end = found.get("e2e_model")
    value = found.get("accuracy", end_to_end.get("accuracy") if isinstance(end_to_end, dict) else None)
    if value is None:
        return None
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise MeasurementError(f"`{path}`: `accuracy` is {_shown(value)}, not a share between 0 and 1")
    return float(value)


def _shown(value: Any) -> str:
    """A value for messages; a text is seen to be one."""
    return f'the text "{value[:40]}"' if isinstance(value, str) else str(value)[:40]


def _ordered(path: Path, part: SubModel) -> Iterator[str]:
    """A note where a percentile is below a lower one, which no measurement gives."""
    known = [(name, part.percentiles_s[name]) for name in PERCENTILES if name in part.percentiles_s]
    for (low, small), (high, large) in itertools.pairwise(known):
        if large < small:
            yield (
                f"`{path}`: `{part.name}.latency_ms_{high}` ({large * 1e3:g}) is below `latency_ms_{low}` "
                f"({small * 1e3:g}): one of them is wrong"
            )


def read_prompt_table(path: Path) -> tuple[PromptBaseline, ...]:
    """Baselines by prompt, from JSON (`prompt_performance_data`) or from text lines of id, words, sequence
    length, latency in ms and tokens/s; raises `MeasurementError`."""
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        found = _json(path)
        rows = found.get("prompt_performance_data") if isinstance(found, dict) else found
        keys = ("index", "word_count", "sequence_length", "baseline_latency_ms", "baseline_throughput")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise MeasurementError(f"`{path}` has no list `prompt_performance_data`")
        table = [[row.get(key) for key in keys] for row in rows]
    else:
        table = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    if not table:
        raise MeasurementError(f"`{path}` holds no prompt")
    return tuple(_baseline(path, number, row) for number, row in enumerate(table, start=1))


def _baseline(path: Path, number: int, row: list[Any]) -> PromptBaseline:
    try:
        index, words, length = (int(value) for value in row[:3])
        latency, throughput = (float(value) for value in row[3:5])
    except (TypeError, ValueError) as err:
        raise MeasurementError(f"`{path}`: row {number} is not five numbers") from err
    where = f"row {number}"
    return PromptBaseline(
        index,
        words,
        length,
        _positive(path, f"{where}, latency", latency) / 1e3,
        _positive(path, f"{where}, throughput", throughput),
    )


def _positive(path: Path, name: str, value: Any) -> float:
    if value is None:
        raise MeasurementError(f"`{path}` has no `{name}`")
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise MeasurementError(f"`{path}`: `{name}` is {_shown(value)}, not a number above 0")
    return float(value)


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as err:
        place = f"line {err.lineno}, column {err.colno}"
        raise MeasurementError(f"`{path}` is not JSON: {err.msg.lower()} at {place}") from err
    except (ValueError, RecursionError) as err:
        raise MeasurementError(f"`{path}` is not JSON that can be read") from err


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as err:
        raise MeasurementError(f"`{path}` cannot be read: {(err.strerror or str(err)).lower()}") from err
    if len(data) > _LARGEST:
        raise MeasurementError(f"`{path}` is larger than 16 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise MeasurementError(f"`{path}` is not UTF-8 text") from err
