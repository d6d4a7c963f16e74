"""Scores that somebody else defined, with every number they leave to the user."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.spec.quantity import Seconds
from engine.spec.settings import Settings

Preset = Literal["nki-llama", "nki-llama-document", "nki-llama-contest"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class PromptReference(Settings):
    """What one prompt of the contest is compared with."""

    prompt: Annotated[int, Field(ge=0)]
    """Number of the prompt, as in the variant `prompt 0` of its row."""
    latency: Seconds
    """Baseline latency."""
    throughput: Positive
    """Baseline tokens per second."""


class NkiLlama(Settings):
    """References, weights and variants of the NKI-LLAMA score."""

    training_weight: Share = 0.4
    """Weight of the training score; the two weights add up to 1."""
    inference_weight: Share = 0.6
    """Weight of the inference score."""
    reference_latency: Seconds = 50.0
    """Latency that counts 1."""
    reference_throughput: Positive = 10.0
    """Tokens per second that count 1."""
    base_mfu: Annotated[float, Field(gt=0, le=1)] = 0.5
    """MFU that counts 1, as a share."""
    base_throughput: Positive = 100.0
    """Training sequences per second that count 1."""
    loss_improvement: Positive = 1.0
    """Factor for a better loss; nothing measures it."""
    convergence_rate: Positive = 1.0
    """Factor for faster convergence; nothing measures it."""
    kernel_term: Literal["one_plus_ratio", "tenth_plus_ratio"] = "one_plus_ratio"
    """Factor for custom kernels in the training score: 1 + ratio, or 0.1 + ratio as later versions have."""
    accuracy: Share | None = None
    """Share of accuracy checks passed; from the inference result when absent."""
    accuracy_threshold: Share | None = None
    """Accuracy from this value on counts 1, below it 0; without it only full accuracy counts 1."""
    prompts: list[PromptReference] = []
    """Baselines by prompt for the contest; `reference_latency` and `reference_throughput` when empty."""

    @model_validator(mode="after")
    def _weights_add_up(self) -> Self:
        total = self.training_weight + self.inference_weight
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"`training_weight` and `inference_weight` add up to {total:g}, not 1")
        if self.reference_latency <= 0:
            raise ValueError("`reference_latency` must be above 0")
        return self
