"""A finished run judged again: other weights, nothing measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.tables import print_rows
from engine.errors import NothingSelected, SpecError, UsageError

if TYPE_CHECKING:
    from engine.score.weights import ScoreResult
    from engine.spec.scoring import Scoring

_NAMES: Final = ("model", "hardware", "quantization", "batch_size", "prompt_tokens", "output_tokens")


def rescore(run: Path, *, runs: Path, weights: Sequence[str], top: int, form: str) -> None:
    """Judge a stored run by its spec's objectives with other weights, and print the ranking."""
    from engine.run.stored import open_run
    from engine.score.weights import score

    stored = open_run(run, runs=runs)
    with stored.store:
        points = stored.store.read(stored.plan, "points")
        summary = stored.store.read(stored.plan, "summary")
    scoring = reweighted(stored.plan.experiment.scoring, weights)
    result = score(scoring, points, summary)
    if form == "json":
        click.echo(json.dumps(_document(result, points, top), indent=2, allow_nan=False))
        return
    if not result.ranked:
        reasons = result.scores["reason"].to_pylist()
        raise NothingSelected(
            "no point can be ranked", hint=reasons[0] if reasons else "; ".join(result.notes)
        )
    _print(result, points, top)


def reweighted(scoring: Scoring | None, weights: Sequence[str]) -> Scoring:
    """The objectives with the weights named here; metrics that were no objective become one.

    Raises `UsageError` for a text that is no weight, or when there is nothing to judge by.
    """
    from pydantic import ValidationError

    from engine.spec.scoring import Scoring

    given = dict(_pair(text) for part in weights for text in part.replace(",", " ").split())
    values: dict[str, Any] = scoring.model_dump(mode="json", exclude_unset=True) if scoring else {}
    if given and values.get("preset"):
        raise UsageError(
            f"`preset: {values['preset']}` has no weights by metric", hint="leave out `--weights`"
        )
    objectives = [
        {**objective, "weight": given.pop(objective["metric"], objective.get("weight", 1.0))}
        for objective in values.get("objectives", [])
    ]
    objectives += [{"metric": metric, "weight": weight} for metric, weight in given.items()]
    if not objectives and not values.get("preset"):
        raise UsageError(
            "this run has no `scoring`", hint="name objectives: --weights output_tokens_per_s=0.7,ttft_s=0.3"
        )
    try:
        return Scoring.model_validate({**values, "objectives": objectives})
    except ValidationError as err:
        first = err.errors()[0]
        raise UsageError(str(first["msg"]).removeprefix("Value error, ")) from err
    except SpecError as err:
        raise UsageError(err.message, hint=err.hint) from err


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
        interval = "" if row["score_low"] is None else f" ({row['score_low']:.4g} to {row['score_high']:.4g})"
        rows.append({**{name: row[name] for name in shown}, "score": f"{row['score']:.4g}{interval}"})
    _shorten(rows)
    print_rows(rows)
    unranked = result.scores.num_rows - result.ranked
    if unranked:
        click.echo(f"{unranked:,} more rows are not ranked")
    for row in result.sensitivity.to_pylist():
        if row["best_changed"]:
            click.echo(f"{row['metric']} {row['change']:+.0%}: point {row['best_point']} would be best")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def _shorten(rows: list[dict[str, Any]]) -> None:
    """Labels without their overridden fields in braces, where they still tell rows apart."""
    for name in _NAMES[:3]:
        labels = {row[name] for row in rows if row[name]}
        short = {label: label.split("{")[0] for label in labels}
        if len(set(short.values())) == len(labels):
            for row in rows:
                row[name] = short.get(row[name], row[name])
