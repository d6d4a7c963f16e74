"""A finished run judged again: other weights, nothing measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.tables import print_rows
from engine.errors import NothingSelected, SpecError, UsageError
from engine.metrics import METRICS

if TYPE_CHECKING:
    from engine.score.weights import ScoreResult
    from engine.spec.scoring import Scoring

_NAMES: Final = ("model", "hardware", "quantization", "batch_size", "prompt_tokens", "output_tokens")


def rescore(
    run: Path,
    *,
    runs: Path,
    weights: Sequence[str],
    top: int,
    form: str,
    preset: str | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> None:
    """Judge a stored run by its spec's objectives with other weights, and print the ranking.

    `preset` and `numbers` (as under `nki_llama` in a spec) stand in for those of a NKI-LLAMA score.
    """
    from engine.run.stored import open_run
    from engine.score.weights import score

    stored = open_run(run, runs=runs)
    with stored.store:
        points = stored.store.read(stored.plan, "points")
        summary = stored.store.read(stored.plan, "summary")
    scoring = reweighted(stored.plan.experiment.scoring, weights, preset=preset, numbers=numbers or {})
    result = score(scoring, points, summary)
    result = replace(result, notes=(*result.notes, *_other_work(result, points)))
    if form == "json":
        click.echo(json.dumps(_document(result, points, top), indent=2, allow_nan=False))
        return
    if not result.ranked:
        reasons = [*result.scores["reason"].to_pylist()[:1], *result.notes]
        raise NothingSelected("no point can be ranked", hint="; ".join(reasons))
    _print(result, points, top)


def _other_work(result: ScoreResult, points: Any) -> list[str]:
    """Whether points of different lengths are ranked against each other, which a report does not do."""
    import pyarrow.compute as pc

    if result.scoring.preset is not None or points.num_rows == 0:
        return []
    ranked = result.scores["point"].slice(0, result.ranked).combine_chunks()
    rows = points.filter(pc.is_in(points["point"], value_set=ranked))
    pairs = rows.group_by(["prompt_tokens", "output_tokens"], use_threads=False).aggregate([]).num_rows
    if pairs < 2:
        return []
    return [f"points of {pairs:,} pairs of lengths are ranked together: other lengths are other work"]


def reweighted(
    scoring: Scoring | None,
    weights: Sequence[str],
    *,
    preset: str | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> Scoring:
    """The objectives with the weights named here; metrics that were no objective become one.

    Raises `UsageError` for a text that is no weight, or when there is nothing to judge by.
    """
    given = _weights(weights)
    values: dict[str, Any] = scoring.model_dump(mode="json", exclude_unset=True) if scoring else {}
    if preset or values.get("preset") or numbers:
        return _other_preset(values, given, preset=preset, numbers=numbers or {})
    objectives = [
        {**objective, "weight": given.pop(objective["metric"], objective.get("weight", 1.0))}
        for objective in values.get("objectives", [])
    ]
    objectives += [{"metric": metric, "weight": weight} for metric, weight in given.items()]
    if not objectives:
        raise UsageError(
            "this run has no `scoring`", hint="name objectives: --weights output_tokens_per_s=0.7,ttft_s=0.3"
        )
    return _valid({**values, "objectives": objectives})


def _other_preset(
    values: dict[str, Any], weights: Mapping[str, float], *, preset: str | None, numbers: Mapping[str, Any]
) -> Scoring:
    """The scoring of a preset with other numbers; what is not named stays as the run has it."""
    name = preset or values.get("preset")
    if name is None:
        raise UsageError(
            f"{', '.join(f'`{number}`' for number in numbers)} belongs to a preset, and this run has none",
            hint="name one with `--preset`, or objectives with `--weights`",
        )
    if weights:
        raise UsageError(
            f"`preset: {name}` has no weights by metric",
            hint="leave out `--weights`; `--training-weight` and `--inference-weight` are its weights",
        )
    kept = {key: value for key, value in values.items() if key != "objectives"}
    return _valid({**kept, "preset": name, "nki_llama": {**values.get("nki_llama", {}), **numbers}})


def _valid(values: dict[str, Any]) -> Scoring:
    from pydantic import ValidationError

    from engine.spec.scoring import Scoring

    try:
        return Scoring.model_validate(values)
    except ValidationError as err:
        raise UsageError("; ".join(_sentence(error) for error in err.errors())) from err
    except SpecError as err:
        raise UsageError(err.message, hint=err.hint) from err


def _sentence(error: Any) -> str:
    """What is wrong, with the number it is about."""
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return text
    return f"`{error['loc'][-1]}` is {error['input']}: {text[:1].lower()}{text[1:]}"


def _weights(texts: Sequence[str]) -> dict[str, float]:
    """Weight by metric; raises `UsageError` for what is none, or names a metric twice."""
    from engine.spec.suggest import did_you_mean

    found: dict[str, float] = {}
    for text in texts:
        parts = text.replace(",", " ").split()
        if not parts:
            raise UsageError("`--weights` is empty", hint="write METRIC=WEIGHT, such as tpot_s=0.7")
        for part in parts:
            metric, weight = _pair(part)
            if metric not in METRICS:
                raise UsageError(
                    f"there is no metric `{metric}`",
                    hint=did_you_mean(metric, METRICS) or "`engine explain` lists them",
                )
            if metric in found:
                raise UsageError(f"`{metric}` has two weights, {found[metric]:g} and {weight:g}")
            found[metric] = weight
    return found


def _pair(text: str) -> tuple[str, float]:
    metric, found, number = text.partition("=")
    try:
        weight = float(number)
    except ValueError:
        found = ""
        weight = 0.0
    if not found or not 0 <= weight <= 1e6:
        raise UsageError(f"`{text}` is no weight", hint="write METRIC=WEIGHT, such as tpot_s=0.7")
    return metric, weight


def _named(result: ScoreResult, points: Any, top: int) -> list[dict[str, Any]]:
    by_number = {row["point"]: row for row in points.to_pylist()} if points.num_rows <= 100_000 else {}
    found = []
    for row in result.scores.slice(0, top).to_pylist():
        point = by_number.get(row["point"], {})
        found.append({**row, **{name: point.get(name) for name in _NAMES}})
    return found


def _document(result: ScoreResult, points: Any, top: int) -> dict[str, Any]:
    return {
        "source": result.source,
        "ranked": result.ranked,
        "scores": _named(result, points, top),
        "factors": result.factors(top).to_pylist(),
        "sensitivity": result.sensitivity.to_pylist(),
        "swaps": result.swaps.to_pylist(),
        "notes": list(result.notes),
    }


def _print(result: ScoreResult, points: Any, top: int) -> None:
    shown = ("rank", "score", "point", *_NAMES)
    rows = []
    for row in _named(result, points, min(top, result.ranked)):
        # A heading with blanks: `output_tokens` is a metric too, and would be shown as one.
        plain = {name.replace("_", " "): row[name] for name in shown}
        rows.append({**plain, "score": _with_interval(row)})
    _shorten(rows)
    print_rows(rows)
    click.echo(_weighing(result.scoring))
    unranked = result.scores.num_rows - result.ranked
    if unranked:
        click.echo(f"{unranked:,} more rows are not ranked")
    for row in result.sensitivity.to_pylist():
        if row["best_changed"]:
            click.echo(f"{row['metric']} {row['change']:+.0%}: point {row['best_point']} would be best")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def _with_interval(row: Mapping[str, Any]) -> str:
    """A score and its interval, with digits enough to tell the ends from the middle."""
    low, score, high = row["score_low"], row["score"], row["score_high"]
    if low is None:
        return f"{score:.4g}"
    for digits in range(4, 9):
        texts = [f"{value:.{digits}g}" for value in (low, score, high)]
        if len(set(texts)) == len({low, score, high}):
            break
    return f"{texts[1]} ({texts[0]} to {texts[2]})"


def _weighing(scoring: Scoring) -> str:
    """The weights that made this ranking, in one line."""
    if scoring.preset == "nki-llama-contest":
        return f"preset {scoring.preset}: every prompt counts the same"
    if scoring.preset is not None:
        numbers = scoring.nki_llama
        return (
            f"preset {scoring.preset}: training {numbers.training_weight:g}, "
            f"inference {numbers.inference_weight:g}"
        )
    if scoring.aggregation == "product":
        return "exponents: " + ", ".join(f"{o.metric} {o.weight:g}" for o in scoring.objectives)
    total = sum(objective.weight for objective in scoring.objectives)
    return "weights: " + ", ".join(f"{o.metric} {o.weight / total:.1%}" for o in scoring.objectives)


def _shorten(rows: list[dict[str, Any]]) -> None:
    """Labels without their overridden fields in braces, where they still tell rows apart."""
    for name in _NAMES[:3]:
        labels = {row[name] for row in rows if row[name]}
        short = {label: label.split("{")[0] for label in labels}
        if len(set(short.values())) == len(labels):
            for row in rows:
                row[name] = short.get(row[name], row[name])
