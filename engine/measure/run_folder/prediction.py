"""Predictions for runs whose model and device the catalogue knows: theory beside what the logs say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import EngineError
from engine.measure.run_folder.collect import Configuration
from engine.metrics import METRICS
from engine.results.tables import concatenate, make_table

_PHASES: Final = ("request", "prefill", "decode", "decode_last")


def with_predictions(summary: Any, configurations: Sequence[Configuration], *, base: Path) -> Any:
    """The summary with `predicted` rows of every point that can be predicted."""
    rows = [row for c in configurations for row in _rows(c, base)]
    if not rows:
        return summary
    metrics = sorted({name for _, _, _, _, values in rows for name in values if name in METRICS})
    columns: dict[str, list[Any]] = {
        "point": [point for point, *_ in rows],
        "source": ["predicted"] * len(rows),
        "phase": [phase for _, phase, *_ in rows],
        "basis": ["bound"] * len(rows),
        "status": [status for _, _, status, _, _ in rows],
        "bound": [bound for _, _, _, bound, _ in rows],
    }
    columns |= {name: [values.get(name) for *_, values in rows] for name in metrics}
    return concatenate("summary", [summary, make_table("summary", columns)])


def _rows(
    configuration: Configuration, base: Path
) -> list[tuple[int, str, str, str | None, dict[str, float]]]:
    """Predictions of one point; none where model, device or lengths are not known for certain."""
    from engine.perfmodel.deployment import Deployment, check_deployment
    from engine.perfmodel.point import predict_point
    from engine.spec.analytical import AnalyticalSettings
    from engine.spec.catalog import load_hardware, load_model, load_quantization
    from engine.spec.workload import Parallelism, Workload

    c = configuration
    if (
        not c.catalog_model
        or not c.catalog_hardware
        or not {"prompt_tokens", "output_tokens"} <= set(c.counts)
    ):
        return []
    try:
        model = load_model(c.catalog_model, search=(base,))
        hardware = load_hardware(c.catalog_hardware, search=(base,))
        quantization = load_quantization(c.quantization or "bf16", search=(base,))
        deployment = Deployment(
            model,
            hardware,
            quantization,
            Parallelism(tensor=c.counts.get("tensor", 1)),
            AnalyticalSettings(kind="analytical"),
        )
        if any(issue.severity == "error" for issue in check_deployment(deployment)):
            return []
        workload = Workload(
            prompt_tokens=c.counts["prompt_tokens"],
            output_tokens=c.counts["output_tokens"],
            batch_size=c.counts.get("batch_size", 1),
        )
        found = predict_point(deployment, workload)
    except EngineError:
        return []  # a name the catalogue does not have: a run without theory, as most are
    status = (
        "ok"
        if found.fits and not found.beyond_context
        else "does_not_fit"
        if not found.fits
        else "beyond_context"
    )
    return [
        (
            c.point,
            phase,
            status,
            found.bounds.get(phase),
            {k: v for k, v in found.phases[phase].items() if v == v and abs(v) != float("inf")},
        )
        for phase in _PHASES
        if phase in found.phases
    ]
