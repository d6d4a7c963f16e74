"""`engine search`: questions one asks of a finished run, answered from its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.options import RUNS, output_format
from engine.commands.tables import print_rows
from engine.errors import NothingSelected, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

RUN = click.argument("run", type=click.Path(path_type=Path))
REQUIRE = click.option(
    "--require",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help='For example "tpot_s <= 50 ms"; repeatable.',
)
SOURCE = click.option(
    "--source", help="Rows of this source: predicted, live, ... The measured ones otherwise."
)

_POINT_COLUMNS: Final = ("model", "hardware", "quantization", "batch_size", "prompt_tokens", "output_tokens")


@click.group()
def search() -> None:
    """Ask a run: the best point, the Pareto front, where two choices break even, the largest batch."""


@search.command()
@RUN
@click.argument("metric")
@REQUIRE
@SOURCE
@RUNS
@output_format("human", "json")
def best(
    run: Path, metric: str, conditions: tuple[str, ...], source: str | None, runs: Path, output: str
) -> None:
    """The point of RUN with the best METRIC that meets every --require."""
    from engine.score.search import best_under

    points, summary = _tables(run, runs)
    _warn_of_mixed_bases(points, summary, source)
    require = _requirements(conditions)
    row = best_under(summary, metric, require=require, source=source)
    if row is None:
        raise NothingSelected(
            "no point meets every condition", hint="loosen one of: " + ", ".join(conditions)
        )
    _show(points, summary, [row], [metric, *require], output)


@search.command()
@RUN
@click.argument("metrics", nargs=-1, required=True)
@SOURCE
@RUNS
@output_format("human", "json")
def pareto(run: Path, metrics: tuple[str, ...], source: str | None, runs: Path, output: str) -> None:
    """The points of RUN that no other point beats in all METRICS; directions come from the metrics."""
    from engine.score.pareto import pareto_front
    from engine.score.rows import judged_rows

    points, summary = _tables(run, runs)
    _warn_of_mixed_bases(points, summary, source)
    judged = judged_rows(summary, phase="request", source=source).rows
    front = pareto_front(summary.take(judged), metrics)
    _show(points, summary, [int(judged[i]) for i in front], list(metrics), output)


@search.command("break-even")
@RUN
@click.argument("axis")
@click.argument("first")
@click.argument("second")
@click.option("--metric", default="output_tokens_per_s_per_device", show_default=True)
@click.option("--along", default="batch_size", show_default=True, help="Setting that grows.")
@SOURCE
@RUNS
@output_format("human", "json")
def break_even(
    run: Path,
    axis: str,
    first: str,
    second: str,
    metric: str,
    along: str,
    source: str | None,
    runs: Path,
    output: str,
) -> None:
    """Where FIRST and SECOND of AXIS (hardware, quantization, model...) change places as --along grows."""
    from engine.score.search import break_even as find

    points, summary = _tables(run, runs)
    _warn_of_mixed_bases(points, summary, source)
    found = find(
        points, summary, axis=axis, first=first, second=second, along=along, metric=metric, source=source
    )
    if not found:
        raise NothingSelected(
            f"`{first}` and `{second}` share no points along `{along}`",
            hint="both must be in the sweep, at two common values at least",
        )
    rows = [
        {
            **_varied(item.settings),
            along: item.at,
            "better below": item.better_below,
            "better above": item.better_above,
            metric: item.metric_value,
        }
        for item in found
    ]
    _print(rows, output)


@search.command("largest-batch")
@RUN
@REQUIRE
@SOURCE
@RUNS
@output_format("human", "json")
def largest_batch(
    run: Path, conditions: tuple[str, ...], source: str | None, runs: Path, output: str
) -> None:
    """The largest batch of RUN that meets every --require, for each combination of the other settings."""
    from engine.score.search import largest_batch as find

    if not conditions:
        raise UsageError("a limit is missing", hint='add `--require "tpot_s <= 50 ms"`')
    points, summary = _tables(run, runs)
    found = find(points, summary, require=_requirements(conditions), source=source)
    rows = [
        {
            **_varied(item.settings),
            "largest batch": item.batch_size,
            "next": item.next_batch_size,
            "limited by": item.limited_by,
        }
        for item in found
    ]
    _print(rows, output)


def _tables(run: Path, runs: Path) -> tuple[pa.Table, pa.Table]:
    from engine.run.stored import open_run

    stored = open_run(run, runs=runs)
    with stored.store:
        return stored.store.read(stored.plan, "points"), stored.store.read(stored.plan, "summary")


def _requirements(conditions: tuple[str, ...]) -> dict[str, str]:
    """Metric -> condition, from texts such as `tpot_s <= 50 ms`."""
    found: dict[str, str] = {}
    for text in conditions:
        metric, _, rest = text.strip().partition(" ")
        if not rest:
            raise UsageError(f"`{text}` is not a condition", hint='write `"tpot_s <= 50 ms"`')
        found[metric] = rest.strip()
    return found


def _varied(settings: Any) -> dict[str, Any]:
    return {name: settings[name] for name in _POINT_COLUMNS if settings.get(name) is not None}


def _warn_of_mixed_bases(points: pa.Table, summary: pa.Table, source: str | None) -> None:
    """Say which devices have bounds where others have estimates: a bound always looks better."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from engine.score.rows import judged_rows

    rows = summary.take(pa.array(judged_rows(summary, phase="request", source=source).rows))
    basis = pc.cast(rows["basis"], pa.string())
    if not {"bound", "estimate"} <= set(pc.unique(basis).to_pylist()):
        return
    bounds = pc.unique(rows.filter(pc.equal(basis, "bound"))["point"])
    places = pc.index_in(bounds, value_set=points["point"].combine_chunks())
    devices = ", ".join(f"`{d}`" for d in sorted(set(points["hardware"].take(places).to_pylist())))
    click.echo(
        f"warning: the rows of {devices} are bounds, others are estimates; a bound always looks better\n"
        "  compare one kind: set `calibration: none` for the measurement, or leave those devices out",
        err=True,
    )


def _show(points: pa.Table, summary: pa.Table, rows: list[int], metrics: list[str], output: str) -> None:
    """Rows of the summary with what their point is."""
    import pyarrow.compute as pc

    taken = summary.take(rows)
    places = pc.index_in(taken["point"], value_set=points["point"].combine_chunks())
    described = points.select(list(_POINT_COLUMNS)).take(places).to_pylist()
    values = taken.select([m for m in dict.fromkeys(metrics) if m in taken.column_names]).to_pylist()
    sources = taken.select(["source", "basis"]).to_pylist()
    _print([{**a, **b, **c} for a, b, c in zip(described, values, sources, strict=True)], output)


def _print(rows: list[dict[str, Any]], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        print_rows(rows)
