"""The NKI-LLAMA score: training and inference factors of a model with custom kernels, by its text formulas.

training  = MFU/base x throughput/base x loss x convergence x (1 + ratio)
inference = accuracy x reference latency/latency x throughput/reference throughput x (1 + ratio)
score     = training weight x training + inference weight x inference

The document that defines it prints an inference score of 0.0026 and a score of 0.0046 beside inputs that give
25.7592 and 15.4586. Both printed numbers follow when the inference score is divided by 10,000, which no text
or code of its authors does. The formula is the default; `nki-llama-document` divides. The contest of
aws-neuron/nki-moe uses the inference formula alone, per prompt, with the 99th percentile of latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from engine.spec.presets import NkiLlama, Preset

DOCUMENT_SCALE: Final = 1e-4
BANDS: Final = ((50.0, "excellent"), (10.0, "good"), (1.0, "baseline"))
"""Least score of each band; a boundary belongs to the band above it, which the document leaves open."""

Mode = Literal["combined", "training_only", "inference_only"]


@dataclass(frozen=True)
class Discrepancy:
    """A number of the document that its own formula does not give."""

    code: str
    field: str
    document: float
    """What the document prints."""
    computed: float
    """What its formula gives for the inputs it prints."""
    why: str

    @property
    def ratio(self) -> float:
        """Printed over computed."""
        return self.document / self.computed

    @property
    def text(self) -> str:
        """One sentence for people."""
        return (
            f"{self.code}: the document prints {self.document:g} for `{self.field}` where its formula gives "
            f"{self.computed:.6g} (ratio {self.ratio:.4g}); {self.why}"
        )


DISCREPANCIES: Final = (
    Discrepancy(
        "score-scale",
        "component_scores.inference",
        0.0026,
        25.759200,
        "`preset: nki-llama-document` divides by 10,000 as the printed numbers do",
    ),
    Discrepancy(
        "score-scale",
        "nki_kernel_score",
        0.0046,
        15.458600,
        "it follows from the divided inference score",
    ),
    Discrepancy(
        "latency-reduction",
        "reduced_latency",
        4.1220,
        4.121505,
        "50000 / 12131.49 is 4.1215; 4.1220 needs 12130.03 ms",
    ),
    Discrepancy(
        "throughput-increase",
        "increased_throughput",
        5.2755,
        5.276,
        "52.76 / 10 is 5.276; 5.2755 is 640 tokens / 12.13149 s / 10, before rounding",
    ),
)
"""The document's example against its own formulas."""


@dataclass(frozen=True)
class TrainingScore:
    """The training part and what it is made of."""

    mfu: float
    """As a share, 1 being the peak."""
    sequences_per_s: float
    kernel_ratio: float
    options: NkiLlama

    @property
    def mfu_improvement(self) -> float:
        """MFU over its base."""
        return self.mfu / self.options.base_mfu

    @property
    def throughput_improvement(self) -> float:
        """Throughput over its base."""
        return self.sequences_per_s / self.options.base_throughput

    @property
    def kernel_factor(self) -> float:
        """1 + ratio, or 0.1 + ratio."""
        return (1.0 if self.options.kernel_term == "one_plus_ratio" else 0.1) + self.kernel_ratio

    @property
    def score(self) -> float:
        """The product of all factors."""
        return training_product(
            self.mfu_improvement,
            self.throughput_improvement,
            self.options.loss_improvement,
            self.options.convergence_rate,
            self.kernel_factor,
        )


def training_product(
    mfu_improvement: float,
    throughput_improvement: float,
    loss_improvement: float,
    convergence_rate: float,
    kernel_factor: float,
) -> float:
    """The training score of five factors."""
    return mfu_improvement * throughput_improvement * loss_improvement * convergence_rate * kernel_factor


@dataclass(frozen=True)
class InferenceScore:
    """The inference part of one request, or of one prompt of the contest."""

    latency_s: float
    tokens_per_s: float
    kernel_ratio: float
    reference_latency_s: float
    reference_tokens_per_s: float
    passed: bool | None
    """Whether accuracy reaches its threshold; None when nobody assessed it."""
    scale: float = 1.0
    """What the formula is multiplied by to give the numbers the document prints."""
    checks_passed: float | None = None
    """Share of accuracy checks passed, which `passed` holds against its threshold; None when unknown."""

    @property
    def accuracy(self) -> float:
        """1 or 0; 1 when not assessed, which is said beside every score."""
        return 0.0 if self.passed is False else 1.0

    @property
    def reduced_latency(self) -> float:
        """Reference over latency; divided in ms, as published rows are, so that the last digit agrees."""
        return (1e3 * self.reference_latency_s) / (1e3 * self.latency_s)

    @property
    def increased_throughput(self) -> float:
        """Throughput over reference."""
        return self.tokens_per_s / self.reference_tokens_per_s

    @property
    def formula(self) -> float:
        """The product of the text's factors."""
        return self.accuracy * self.reduced_latency * self.increased_throughput * (1 + self.kernel_ratio)

    @property
    def score(self) -> float:
        """What enters the final score."""
        return self.formula * self.scale


@dataclass(frozen=True)
class NkiLlamaScore:
    """A score with everything that went into it."""

    preset: Preset
    options: NkiLlama
    training: TrainingScore | None
    inference: tuple[InferenceScore, ...]
    """One part, or one a prompt in the contest; empty in training-only mode."""
    notes: tuple[str, ...]

    @property
    def mode(self) -> Mode:
        """What was there to judge."""
        if self.preset == "nki-llama-contest" or self.training is None:
            return "inference_only"
        return "combined" if self.inference else "training_only"

    @property
    def inference_score(self) -> float | None:
        """Sum of the inference parts; None when there is none."""
        return sum(part.score for part in self.inference) if self.inference else None

    @property
    def score(self) -> float:
        """The final score: the training score alone in training-only mode."""
        inference = self.inference_score
        if self.training is None or self.mode == "inference_only":
            return inference or 0.0
        if inference is None:
            return self.training.score
        return self.options.training_weight * self.training.score + self.options.inference_weight * inference

    @property
    def kernel_ratio(self) -> float:
        """Share of multiply-adds in custom kernels."""
        return self.training.kernel_ratio if self.training else self.inference[0].kernel_ratio

    @property
    def parts(self) -> tuple[str, ...]:
        """What each inference part is called: the inference, or its prompt in the contest."""
        if self.preset != "nki-llama-contest":
            return ("inference",) * len(self.inference)
        numbers = [prompt.prompt for prompt in self.options.prompts] or range(len(self.inference))
        return tuple(f"prompt {number}" for number in numbers)

    @property
    def band(self) -> str:
        """poor, baseline, good or excellent."""
        return band(self.score)


def band(score: float) -> str:
    """Band of a score: below 1 poor, from 1 baseline, from 10 good, from 50 excellent."""
    return next((name for least, name in BANDS if score >= least), "poor")


def known_accuracy(measured: float | None, options: NkiLlama) -> float | None:
    """Share of checks passed; the spec's own number comes before a measured one."""
    return options.accuracy if options.accuracy is not None else measured


def threshold(options: NkiLlama) -> float:
    """Accuracy from which on it counts: full accuracy unless the spec says less."""
    return 1.0 if options.accuracy_threshold is None else options.accuracy_threshold


def passed(accuracy: float | None, options: NkiLlama) -> bool | None:
    """Whether an accuracy counts; None when nobody assessed it."""
    value = known_accuracy(accuracy, options)
    return None if value is None else value >= threshold(options)
