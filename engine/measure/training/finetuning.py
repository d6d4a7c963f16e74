"""`benchmark_finetuning.json`: a training run under the field names of its own tool chain."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.measure.training.cache import KernelSummary, ModuleFile
    from engine.measure.training.logs import TrainingLog
    from engine.measure.training.reading import Reading


def finetuning_document(
    reading: Reading,
    *,
    backend: str,
    training_score: float | None,
    breakdown: Mapping[str, float] | None,
    file_scores: Sequence[float | None] | None,
) -> dict[str, Any]:
    """Everything known about the run; null for what is not. `file_scores` are training scores by module, in
    the order of the files, None when nobody asked for them."""
    rate = reading.throughput.mean if reading.throughput else None
    use = reading.utilization
    flops = use.reference_flops if use else None
    return {
        "model_config": reading.model.model_dump(mode="json", exclude_none=True) if reading.model else None,
        "batch_size": reading.batch_size,
        "sequence_length": reading.sequence_length,
        "num_nodes": reading.nodes,
        "hardware_backend": backend,
        "throughput_seq_per_sec": rate,
        "mfu_percent": 100 * use.reference if use and use.reference is not None else None,
        "mfu_causal_percent": 100 * use.causal if use and use.causal is not None else None,
        # The name is the tool chain's; the number is TFLOP of one sequence, not a rate.
        "tflops_per_second": flops / 1e12 if flops is not None else None,
        "throughput_tflops_per_node": flops * rate / reading.nodes / 1e12 if flops and rate else None,
        "seq_per_second_per_node": rate / reading.nodes if rate else None,
        "time_per_batch_seconds": reading.batch_size / rate if reading.batch_size and rate else None,
        "nki_analysis": _kernels(reading.kernels, file_scores) if reading.kernels else None,
        "log_metrics": _log(reading.log) if reading.log else None,
        "training_score": training_score,
        "training_score_breakdown": dict(breakdown) if breakdown else None,
        "notes": list(reading.notes),
    }


def _kernels(kernels: KernelSummary, file_scores: Sequence[float | None] | None) -> dict[str, Any]:
    """Averages leave out modules without kernels, as the tool chain does."""
    scores = list(file_scores) if file_scores is not None else [None] * len(kernels.files)
    shown = [
        score
        for score, file in zip(scores, kernels.files, strict=True)
        if score is not None and file.usage is not None and file.usage.ratio
    ]
    return {
        "summary": {
            "total_files": len(kernels.files),
            "successful_analyses": len(kernels.read),
            "failed_analyses": len(kernels.failed),
            "total_hlo_macs": kernels.total_macs,
            "total_nki_macs": kernels.kernel_macs,
            "overall_nki_ratio": kernels.ratio,
            **_spread("nki_ratio", kernels.ratios),
            **_spread("score", shown),
        },
        "per_file_metrics": [_file(file, score) for file, score in zip(kernels.files, scores, strict=True)],
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f"average_{name}": statistics.fmean(values) if values else None,
        f"min_{name}": min(values, default=None),
        f"max_{name}": max(values, default=None),
    }


def _file(file: ModuleFile, score: float | None) -> dict[str, Any]:
    named = {
        "status": "success" if file.usage else "failed",
        "file_path": file.name,
        "file_name": file.path.name,
        "module_name": file.module,
        "neuronxcc_version": file.compiler,
    }
    if file.usage is None:
        return {**named, "error": file.error}
    return {
        **named,
        "hlo_macs": file.usage.total_macs,
        "nki_macs": file.usage.kernel_macs,
        "nki_ratio": file.usage.ratio,
        "training_score": score,
    }


def _log(log: TrainingLog) -> dict[str, Any]:
    losses = [s.training_loss for s in log.steps if s.training_loss is not None]
    numbers = [s.step for s in log.steps if s.step is not None]
    modified = datetime.fromtimestamp(log.path.stat().st_mtime, tz=UTC)
    return {
        "log_file": log.path.name,
        "timestamps": {
            "first": log.first_time.isoformat() if log.first_time else None,
            "last": log.last_time.isoformat() if log.last_time else None,
            "file_modification": modified.isoformat(timespec="seconds"),
        },
        "steps": {
            "count": len(log.steps),
            "first": min(numbers, default=None),
            "last": max(numbers, default=None),
        },
        "step_times": [s.step_s for s in log.steps if s.step_s is not None],
        "throughput": [s.sequences_per_s for s in log.steps if s.sequences_per_s is not None],
        "losses": {
            "average": statistics.fmean(losses) if losses else None,
            "min": min(losses, default=None),
            "max": max(losses, default=None),
            "first": losses[0] if losses else None,
            "last": losses[-1] if losses else None,
            "count": len(losses),
        },
    }
