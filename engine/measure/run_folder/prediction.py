"""Predictions for runs whose model and device the catalogue knows: theory beside what the logs say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import EngineError
from engine.measure.run_folder.collect import Configuration
from engine.metrics import METRICS
from engine.results.tables import concatenate, make_table

_FORMATS: Final = {
    **dict.fromkeys(("f16", "mostly f16", "float16"), "fp16"),
    **dict.fromkeys(("f32", "all f32", "float32"), "fp32"),
    **dict.fromkeys(("bfloat16",), "bf16"),
    **dict.fromkeys(("q4_0",), "gguf-q4-0"),
    **dict.fromkeys(("q8_0",), "gguf-q8-0"),
    **{f"q{bits}_k{size}": f"gguf-q{bits}-k" for bits in (4, 5, 6) for size in ("", "_s", "_m", "_l")},
}
"""Number formats as logs print them, in lower case, by catalogue name."""
_UNSTATED: Final = "bf16"
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
        "reason": [_reason(configurations[point]) for point, *_ in rows],
        "bound": [bound for _, _, _, bound, _ in rows],
    }
    columns |= {name: [values.get(name) for *_, values in rows] for name in metrics}
    return concatenate("summary", [summary, make_table("summary", columns)])


def _reason(configuration: Configuration) -> str | None:
    if configuration.quantization is not None:
        return None
    return f"number format not stated: predicted in {_UNSTATED}"


def format_of(printed: str | None) -> str:
    """The catalogue's name of a number format; 16 bits where a log states none."""
    plain = (printed or _UNSTATED).lower().replace(" - small", "_s").replace(" - medium", "_m")
    return _FORMATS.get(plain, plain)


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
        quantization = load_quantization(format_of(c.quantization), search=(base,))
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
