"""A reading as result tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.results.tables import concatenate, make_table

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.measure.training.inference import SubModel
    from engine.measure.training.reading import Reading
    from engine.results.tables import Tables
    from engine.spec.training import TrainingSettings

# Phase and metric names of the parts of an inference benchmark.
_PARTS = {
    "e2e_model": ("request", "e2e_s", "total_tokens_per_s"),
    "context_encoding_model": ("prefill", "time_s", "prompt_tokens_per_s"),
    "token_generation_model": ("decode", "tpot_s", "output_tokens_per_s"),
}


def tables_of(settings: TrainingSettings, reading: Reading) -> Tables:
    """Every table of one training run, its point being number 0."""
    return {
        "points": _points(settings, reading),
        "summary": _summary(settings, reading),
        "training_steps": _steps(settings, reading),
        "kernel_usage": _kernels(reading),
        "files": _files(settings, reading),
        "findings": _findings(reading),
    }


def _points(settings: TrainingSettings, reading: Reading) -> pa.Table:
    named = reading.config.name if reading.config else None
    shown = (
        f"{settings.devices_per_node} x {settings.backend}" if settings.devices_per_node else settings.backend
    )
    return make_table(
        "points",
        {
            "point": [0],
            "model": [reading.model.name if reading.model else named],
            "hardware": [shown],
            "prompt_tokens": [reading.sequence_length],
            "batch_size": [reading.batch_size],
            "settings": [f"training, {reading.nodes} node{'s' if reading.nodes > 1 else ''}"],
        },
    )


def _summary(settings: TrainingSettings, reading: Reading) -> pa.Table:
    rows = [make_table("summary", {key: [value] for key, value in _training_row(settings, reading).items()})]
    found: list[Mapping[str, Any]] = []
    if reading.inference is not None:
        parts = [part for part in reading.inference.models.values() if part.name in _PARTS]
        found += [_inference_row(part, part.name, reading.inference.accuracy) for part in parts]
    for number, report in enumerate(reading.prompts):
        found.append(_inference_row(report.end_to_end, f"prompt {number}", report.accuracy))
    rows += [make_table("summary", {key: [value] for key, value in row.items()}) for row in found]
    return concatenate("summary", rows)


def _training_row(settings: TrainingSettings, reading: Reading) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "point": 0,
        "source": "training",
        "phase": "training",
        "basis": "measured",
        "status": "ok",
        "reason": _sources(reading),
    }
    rate = reading.throughput
    if rate is not None:
        found |= {
            "training_sequences_per_s": rate.mean,
            "training_sequences_per_s_low": rate.low,
            "training_sequences_per_s_high": rate.high,
            "training_sequences_per_s_n": rate.n,
        }
    use = reading.utilization
    if use is not None and rate is not None:
        for name, value in (("training_mfu", use.reference), ("training_mfu_causal", use.causal)):
            found |= _with_interval(name, value, rate.mean, rate.low, rate.high)
        if use.reference_flops is not None:
            found["training_flops_per_sequence"] = use.reference_flops
            found["training_flops_per_s_per_node"] = use.reference_flops * rate.mean / reading.nodes
    if reading.kernels is not None:
        found["kernel_ratio"] = reading.kernels.ratio
    if reading.log is not None:
        losses = [s.training_loss for s in reading.log.steps if s.training_loss is not None]
        kept = reading.log.after_warmup(settings.warmup_steps)
        times = [s.step_s for s in kept if s.step_s is not None]
        found["training_loss"] = losses[-1] if losses else None
        found["training_step_s"] = sum(times) / len(times) if times else None
    return found


def _sources(reading: Reading) -> str:
    """Where throughput and peak come from."""
    found = [f"throughput {reading.throughput_origin}"]
    if reading.utilization is not None:
        found.append(f"peak of a node {reading.utilization.peak.basis}")
    return "; ".join(found)


def _with_interval(
    name: str, value: float | None, mean: float, low: float | None, high: float | None
) -> Mapping[str, float | None]:
    """MFU is throughput times a constant, so its interval is the throughput's, scaled."""
    if value is None:
        return {}
    scaled = {"_low": low, "_high": high}
    return {name: value} | {name + end: None if v is None else value * v / mean for end, v in scaled.items()}


def _inference_row(part: SubModel, variant: str, accuracy: float | None) -> Mapping[str, Any]:
    phase, latency, throughput = _PARTS[part.name]
    found: dict[str, Any] = {
        "point": 0,
        "source": "training",
        "phase": phase,
        "variant": variant,
        "basis": "measured",
        "status": "ok",
        "reason": "throughput counts prompt tokens too" if part.name == "e2e_model" else None,
        latency: part.latency_s,
        throughput: part.throughput_tokens_per_s,
    }
    for percentile, value in part.percentiles_s.items():
        if percentile != "p100":  # the largest value has no column of its own
            found[f"{latency}_{percentile}"] = value
    if part.name == "e2e_model":
        found["accuracy"] = accuracy
    return found


def _steps(settings: TrainingSettings, reading: Reading) -> pa.Table:
    if reading.log is None:
        return make_table("training_steps", {})
    steps = reading.log.steps
    kept = {step.line for step in reading.log.after_warmup(settings.warmup_steps)}
    names = ("step", "line", "elapsed_s", "training_loss", "learning_rate", "sequences_per_s", "step_s",
             "gradient_norm")  # fmt: skip
    columns: dict[str, Any] = {name: [getattr(step, name) for step in steps] for name in names}
    return make_table(
        "training_steps",
        {"point": [0] * len(steps), **columns, "warmup": [step.line not in kept for step in steps]},
    )


def _kernels(reading: Reading) -> pa.Table:
    files = reading.kernels.files if reading.kernels else ()
    numbers = ("kernel_macs", "dot_macs", "convolution_macs", "total_macs", "instructions", "kernel_calls",
               "other_custom_calls")  # fmt: skip
    return make_table(
        "kernel_usage",
        {
            "point": [0] * len(files),
            "file": [file.name for file in files],
            "module": [file.module for file in files],
            "compiler": [file.compiler for file in files],
            "status": ["read" if file.usage else "unreadable" for file in files],
            "reason": [
                file.error or ("; ".join(file.usage.notes) if file.usage else None) or None for file in files
            ],
            **{name: [getattr(file.usage, name, None) for file in files] for name in numbers},
            "kernel_ratio": [file.usage.ratio if file.usage else None for file in files],
        },
    )


def _files(settings: TrainingSettings, reading: Reading) -> pa.Table:
    rows: list[tuple[str, str, str, str | None, int | None]] = []
    if reading.config:
        rows.append((str(settings.config), "training configuration", "read", None, None))
    if reading.log:
        rows.append(
            (
                str(settings.log_file),
                f"training log, {reading.log.form}",
                "read",
                None,
                len(reading.log.steps),
            )
        )
    if reading.inference:
        parts = len(reading.inference.models)
        rows.append((str(settings.inference_results), "inference benchmark", "read", None, parts))
    for file in reading.kernels.files if reading.kernels else ():
        status = "read" if file.usage else "unreadable"
        count = file.usage.instructions if file.usage else None
        rows.append((f"{settings.compile_dir}/{file.name}", "HLO module", status, file.error, count))
    names = ("file", "format", "status", "reason", "rows_read")
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return make_table("files", {"point": [0] * len(rows), **columns})


def _findings(reading: Reading) -> pa.Table:
    notes = reading.notes
    return make_table(
        "findings",
        {
            "point": [0] * len(notes),
            "rule": ["training-run"] * len(notes),
            "severity": ["note"] * len(notes),
            "finding": list(notes),
        },
    )
