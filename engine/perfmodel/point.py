"""One point on Python numbers: no NumPy, a tenth of a millisecond."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.deployment import Deployment
from engine.perfmodel.load import drafting, load_of_workload
from engine.perfmodel.phase_metrics import BOUNDS
from engine.perfmodel.predict import predict
from engine.perfmodel.program import compiled
from engine.spec.model import Model
from engine.spec.workload import Workload


@dataclass(frozen=True)
class PointPrediction:
    """Metrics of one point by phase."""

    phases: dict[str, dict[str, float]]
    """Times are NaN when the point does not fit."""
    bounds: dict[str, str]
    """What each phase is bound by: `compute`, `memory` or `communication`."""
    fits: bool
    beyond_context: bool


def predict_point(
    deployment: Deployment, workload: Workload, *, draft: Deployment | None = None
) -> PointPrediction:
    """Every metric of one point; `draft` is the deployment of the workload's draft model."""
    plan = compiled(deployment)
    load = load_of_workload(workload)
    proposing = drafting(workload.speculation, compiled(draft) if draft is not None else None)
    found, used = predict(SCALAR, plan, load, proposing)
    bounds = {phase: BOUNDS[metrics.pop("bound")] for phase, metrics in found.items() if "bound" in metrics}
    beyond = load.prompt + load.output > context_limit(deployment.model)
    return PointPrediction(found, bounds, bool(used.fits), beyond)


def context_limit(model: Model) -> float:
    """Longest context a model admits, in tokens: published, or as its rotary scaling allows, or endless."""
    if model.max_position_embeddings is not None:
        return model.max_position_embeddings
    trained = model.rope.original_max_position_embeddings
    return math.inf if trained is None else trained * model.rope.factor
