"""What the performance model says about the very load that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.perfmodel.point import PointPrediction
    from engine.plan.point import Point

__all__ = ["Beside", "predict_beside"]


@dataclass(frozen=True)
class Beside:
    """Prediction of one load."""

    prediction: PointPrediction
    cache_bytes: float | None
    """Keys and values after the last step: the token generated last is not in the cache yet."""

    def time_s(self, phase: str) -> float | None:
        """Predicted time: a request whole, a prefill, or the mean decode step."""
        phases = self.prediction.phases
        found = phases["request"]["tpot_s"] if phase == "decode" else phases[phase]["time_s"]
        return found if found > 0 else None

    def utilization(self, phase: str, name: str, measured_s: float) -> float | None:
        """`mfu` or `mbu` at the measured time: the model's work and bytes over what the device could do."""
        found = self.prediction.phases[phase]
        if name not in found or not found["time_s"] > 0:
            return None
        # Scaled by this very phase's time, not by the mean step: work and time must belong together.
        return found[name] * found["time_s"] / measured_s


def predict_beside(point: Point, *, sequences: int) -> Beside | None:
    """The prediction for `sequences` at once; None where the model cannot say anything."""
    from engine.perfmodel.deployment import Deployment, check_deployment
    from engine.perfmodel.point import predict_point

    c = point.combination
    deployment = Deployment(c.model, c.hardware, c.quantization, c.parallelism)
    draft = Deployment(c.draft, c.hardware, c.quantization, c.parallelism) if c.draft else None
    workload = point.workload.model_copy(update={"batch_size": sequences})
    if any(issue.severity == "error" for issue in check_deployment(deployment)):
        return None
    try:
        prediction = predict_point(deployment, workload, draft=draft)
        cache = None
        if workload.output_tokens > 1:
            shorter = workload.model_copy(update={"output_tokens": workload.output_tokens - 1})
            cache = predict_point(deployment, shorter, draft=draft).phases["request"]["kv_cache_bytes"]
    except EngineError:
        return None
    return Beside(prediction, cache)
