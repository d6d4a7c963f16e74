"""What the performance model says about the very load that is measured: its bound and its estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.perfmodel.point import PointPrediction
    from engine.plan.point import Point

__all__ = ["Beside", "Estimated", "predict_beside"]


@dataclass(frozen=True)
class Estimated:
    """A calibrated time with its 90 % band."""

    time_s: float
    low_s: float | None
    high_s: float | None


@dataclass(frozen=True)
class Beside:
    """Predictions of one load."""

    bound: PointPrediction
    """By the data sheet: the whole batch in this process, one request alone at a server. Requests that come
    and go share steps in ways no sum of phases bounds: with ideal steps that mix prompts and tokens (512 and
    64 tokens of an 8B model, 64 at once) a request took 0.67 of prefill and decode as a batch."""
    estimate: PointPrediction | None
    """None where no parameter set fits the device."""
    calibration: str | None
    """The parameter set behind the estimate."""
    cache_bytes: float | None
    """Keys and values after the last step: the token generated last is not in the cache yet."""
    output_tokens: int
    served: bool
    """Requests come and go at a server; else they start and end together."""

    def bound_s(self, phase: str) -> float | None:
        """Least time by the data sheet: a request whole, a prefill, or the mean decode step."""
        phases = self.bound.phases
        found = phases["request"]["tpot_s"] if phase == "decode" else phases[phase]["time_s"]
        return found if found > 0 else None

    def estimated(self, phase: str) -> Estimated | None:
        """The same as the parameter set expects it."""
        if self.estimate is None:
            return None
        request = self.estimate.phases["request"]
        if phase == "request" and self.served and "serving_ttft_s" in request:
            # The wait for the first token is in no fit: the band is that of the tokens after it.
            time, low, high = (
                request["serving_ttft_s"] + (self.output_tokens - 1) * request[f"serving_tpot_s{end}"]
                for end in ("", "_low", "_high")
            )
            return Estimated(time, low, high) if math.isfinite(time) else None
        name = {"request": "e2e_s", "prefill": "ttft_s", "decode": "tpot_s"}[phase]
        time = request.get(name, math.nan)
        if not (math.isfinite(time) and time > 0):
            return None
        return Estimated(time, request.get(f"{name}_low"), request.get(f"{name}_high"))

    def utilization(self, phase: str, name: str, measured_s: float) -> float | None:
        """`mfu` or `mbu` at the measured time: the model's work and bytes over what the device could do."""
        found = self.bound.phases[phase]
        if name not in found or not found["time_s"] > 0:
            return None
        # Scaled by this very phase's time, not by the mean step: work and time must belong together.
        return found[name] * found["time_s"] / measured_s


def predict_beside(point: Point, *, sequences: int, served: bool) -> Beside | None:
    """The predictions for `sequences` at once; None where the model cannot say anything."""
    from engine.perfmodel.deployment import Deployment, check_deployment
    from engine.perfmodel.parameter_sets import choose
    from engine.perfmodel.point import predict_point

    c = point.combination

    def predict(tokens: int, *, fitted: bool = False, together: int = sequences) -> PointPrediction:
        models = [
            Deployment(
                model, c.hardware, c.quantization, c.parallelism, calibration=chosen if fitted else None
            )
            for model in (c.model, c.draft)
            if model is not None
        ]
        workload = point.workload.model_copy(update={"batch_size": together, "output_tokens": tokens})
        return predict_point(models[0], workload, draft=models[1] if len(models) > 1 else None)

    if any(
        issue.severity == "error"
        for issue in check_deployment(Deployment(c.model, c.hardware, c.quantization, c.parallelism))
    ):
        return None
    tokens = point.workload.output_tokens
    try:
        # What was measured is not measured again for new parameters: the row names the set it stands beside.
        chosen = choose(c.calibration, c.hardware, c.calibrations)
        bound = predict(tokens, together=1 if served else sequences)
        cache = predict(tokens - 1).phases["request"]["kv_cache_bytes"] if tokens > 1 else None
        estimate = None if chosen is None else predict(tokens, fitted=True)
    except EngineError:
        return None
    return Beside(bound, estimate, None if chosen is None else chosen.name, cache, tokens, served)
