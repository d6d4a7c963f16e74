"""The NKI-LLAMA score as its document shows it: on the console and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.score.nki_llama import DISCREPANCIES, InferenceScore, NkiLlamaScore

if TYPE_CHECKING:
    from datetime import datetime

RULE: Final = "=" * 70


@dataclass(frozen=True)
class TrainingFigures:
    """Numbers of the training block as shown; MFU in per cent."""

    mfu: float
    base_mfu: float
    throughput: float
    base_throughput: float
    mfu_improvement: float
    throughput_improvement: float


@dataclass(frozen=True)
class InferenceFigures:
    """Numbers of the inference block as shown; latencies in ms."""

    latency_ms: float
    reference_latency_ms: float
    throughput: float
    reference_throughput: float
    latency_reduction: float
    throughput_increase: float
    accuracy: str


@dataclass(frozen=True)
class Figures:
    """Every number the console shows; None for what was not calculated or not there."""

    score: float | None
    training_score: float | None
    inference_score: float | None
    kernel_ratio: float
    training_weight: float
    inference_weight: float
    training: TrainingFigures
    inference: InferenceFigures | None


def figures(result: NkiLlamaScore, *, calculated: bool = True) -> Figures:
    """The numbers of a score with a training part; `calculated` is False where no score was asked for."""
    training, options = result.training, result.options
    if training is None:
        raise ValueError("the console of the document needs a training part")
    shown = TrainingFigures(
        100 * training.mfu,
        100 * options.base_mfu,
        training.sequences_per_s,
        options.base_throughput,
        training.mfu_improvement,
        training.throughput_improvement,
    )
    return Figures(
        result.score if calculated else None,
        training.score if calculated else None,
        result.inference_score if calculated else None,
        training.kernel_ratio,
        options.training_weight,
        options.inference_weight,
        shown,
        _inference(result),
    )


def _inference(result: NkiLlamaScore) -> InferenceFigures | None:
    return _inference_figures(result.inference[0]) if result.inference else None


def _inference_figures(part: InferenceScore) -> InferenceFigures:
    words = {True: "✓ Passed", False: "✗ Failed", None: "not assessed (counts as 1)"}
    return InferenceFigures(
        1e3 * part.latency_s,
        1e3 * part.reference_latency_s,
        part.tokens_per_s,
        part.reference_tokens_per_s,
        part.reduced_latency,
        part.increased_throughput,
        words[part.passed],
    )


def result_block(result: NkiLlamaScore, *, calculated: bool = True) -> str:
    """The block for the terminal; the contest, which the document does not know, has one of its own."""
    if result.training is None:
        return _block("NKI-LLAMA CONTEST RESULTS", _contest(result, calculated=calculated))
    return console(figures(result, calculated=calculated))


def _block(title: str, body: Iterable[str]) -> str:
    return "\n".join([RULE, title, RULE, "", *body, "", RULE]) + "\n"


def _contest(result: NkiLlamaScore, *, calculated: bool) -> Iterator[str]:
    yield f"🏆 CONTEST SCORE: {_score(result.score if calculated else None)}"
    yield f"   NKI Ratio: {result.kernel_ratio:.4f}"
    for name, part in zip(result.parts, result.inference, strict=True):
        shown = _inference_figures(part)
        yield ""
        yield f"⚡ {name.capitalize()}: {_score(part.score if calculated else None)}"
        yield from _inference_lines(shown, latency="Latency p99")


def console(shown: Figures) -> str:
    """The block the document prints, in its combined or training-only form."""
    body = _training_only(shown) if shown.inference is None else _combined(shown, shown.inference)
    return _block("NKI-LLAMA BENCHMARK RESULTS", body)


def _combined(shown: Figures, inference: InferenceFigures) -> Iterator[str]:
    yield f"🏆 FINAL NKI-LLAMA SCORE: {_score(shown.score)}"
    yield ""
    yield "Score Weights:"
    yield f"  Training: {100 * shown.training_weight:g}%"
    yield f"  Inference: {100 * shown.inference_weight:g}%"
    yield ""
    yield "📊 Component Scores:"
    yield f"  Training Score: {_score(shown.training_score)}"
    yield f"  Inference Score: {_score(shown.inference_score)}"
    yield f"  NKI Ratio: {shown.kernel_ratio:.4f}"
    yield ""
    yield from _training(shown.training)
    yield ""
    yield "⚡ Inference Metrics:"
    yield from _inference_lines(inference)


def _inference_lines(inference: InferenceFigures, *, latency: str = "Latency") -> Iterator[str]:
    yield f"  {latency}: {inference.latency_ms:.2f}ms (reference: {inference.reference_latency_ms:.2f}ms)"
    reference = f"(reference: {inference.reference_throughput:.2f})"
    yield f"  Throughput: {inference.throughput:.2f} tokens/s {reference}"
    yield f"  Latency Reduction: {inference.latency_reduction:.4f}x"
    yield f"  Throughput Increase: {inference.throughput_increase:.4f}x"
    yield f"  Accuracy: {inference.accuracy}"


def _training_only(shown: Figures) -> Iterator[str]:
    yield "⚠️  TRAINING-ONLY MODE (Inference results not available)"
    yield ""
    yield f"🏆 NKI KERNEL TRAINING SCORE: {_score(shown.training_score)}"
    yield f"   NKI Ratio: {shown.kernel_ratio:.4f}"
    yield ""
    yield from _training(shown.training)
    yield ""
    yield "💡 Note: This score represents training performance only."
    yield "   To get the full NKI-LLAMA score, run inference benchmarks and provide"
    yield "   the results file using --inference-results option."


def _training(shown: TrainingFigures) -> Iterator[str]:
    yield "🎯 Training Metrics:"
    yield f"  MFU: {shown.mfu:.2f}% (baseline: {shown.base_mfu:.2f}%)"
    yield f"  Throughput: {shown.throughput:.2f} seq/s (baseline: {shown.base_throughput:.2f})"
    yield f"  MFU Improvement: {shown.mfu_improvement:.4f}x"
    yield f"  Throughput Improvement: {shown.throughput_improvement:.4f}x"


def _score(value: float | None) -> str:
    return "not calculated" if value is None else f"{value:.4f}"


def results_document(result: NkiLlamaScore, *, at: datetime, calculated: bool = True) -> dict[str, Any]:
    """What `benchmark_results.json` holds: the document's fields, then ours under `engine`."""
    training, options = result.training, result.options
    score = result.score if calculated else None
    return {
        "timestamp": at.isoformat(timespec="seconds"),
        "mode": result.mode,
        "nki_kernel_score": score,
        "component_scores": {
            "training": training.score if calculated and training else None,
            "inference": result.inference_score if calculated else None,
        },
        "weights": {"training": options.training_weight, "inference": options.inference_weight},
        "nki_ratio": result.kernel_ratio,
        "detailed_breakdown": {
            "training": training_breakdown(result),
            "inference": _inference_breakdown(result.inference[0]) if result.inference else None,
        },
        "engine": {
            "preset": result.preset,
            "prompts": _prompts(result, calculated=calculated),
            "band": result.band if calculated else None,
            "kernel_term": options.kernel_term,
            "notes": list(result.notes),
            "discrepancies": discrepancies(result),
        },
    }


def _prompts(result: NkiLlamaScore, *, calculated: bool) -> list[dict[str, Any]] | None:
    """Every prompt of the contest; None for the other presets, which have one inference result."""
    if result.preset != "nki-llama-contest":
        return None
    return [
        {"prompt": name, "score": part.score if calculated else None, **_inference_breakdown(part)}
        for name, part in zip(result.parts, result.inference, strict=True)
    ]


def training_breakdown(result: NkiLlamaScore) -> dict[str, float] | None:
    """The training factors under the document's names; MFU in per cent. None without a training part."""
    training, options = result.training, result.options
    if training is None:
        return None
    return {
        "base_mfu": 100 * options.base_mfu,
        "base_throughput": options.base_throughput,
        "achieved_mfu": 100 * training.mfu,
        "achieved_throughput": training.sequences_per_s,
        "mfu_improvement": training.mfu_improvement,
        "throughput_improvement": training.throughput_improvement,
        "nki_flop_ratio": training.kernel_ratio,
        "loss_improvement": options.loss_improvement,
        "convergence_rate": options.convergence_rate,
    }


def _inference_breakdown(part: InferenceScore) -> dict[str, float | None]:
    return {
        "accuracy": None if part.passed is None else part.accuracy,
        "reduced_latency": part.reduced_latency,
        "increased_throughput": part.increased_throughput,
        "normalized_nki_flops": part.kernel_ratio,
        "reference_latency_ms": 1e3 * part.reference_latency_s,
        "achieved_latency_ms": 1e3 * part.latency_s,
        "reference_throughput": part.reference_tokens_per_s,
        "achieved_throughput": part.tokens_per_s,
    }


def discrepancies(result: NkiLlamaScore) -> list[dict[str, Any]]:
    """Where the document's example contradicts its own formulas, for whoever compares with it."""
    if not result.inference or result.training is None:
        return []
    return [
        {"code": d.code, "field": d.field, "document": d.document, "computed": d.computed, "ratio": d.ratio,
         "why": d.why}
        for d in DISCREPANCIES
    ]  # fmt: skip


def detailed(result: NkiLlamaScore, rows: Sequence[dict[str, Any]]) -> str:
    """Every factor of a score with the arithmetic behind it."""
    lines = ["Factors:"]
    for row in rows:
        value = "unknown" if row["value"] is None else f"{row['value']:.6g}"
        reference = "" if row.get("reference") is None else f", reference {row['reference']:.6g}"
        lines.append(
            f"  {row['part']}: {row['metric']} = {value}{reference} -> {row['factor']:.6g}"
            f"  ({row['formula']})"
        )
    lines.append(f"Band: {result.band} (below 1 poor, from 1 baseline, from 10 good, from 50 excellent)")
    return "\n".join(lines) + "\n"
