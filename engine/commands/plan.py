"""`engine plan`: what a run would do, before anything is run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engine.commands.console import Terminal
from engine.commands.loading import load_checked, plan_of, say_swept
from engine.commands.options import MAX_POINTS, ONLY, RUNS, SET, SPEC, output_format

WORK_PENDING = 10


@click.command()
@SPEC
@SET
@ONLY
@MAX_POINTS
@RUNS
@click.option("--exit-code", is_flag=True, help="Leave with 10 when there is work to do.")
@output_format("human", "json")
@click.pass_obj
def plan(
    terminal: Terminal,
    spec: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    max_points: int | None,
    runs: Path,
    exit_code: bool,
    output: str,
) -> None:
    """Show the points of SPEC, what is kept, what will not fit, and how long it may take."""
    from engine.plan.forecast import forecast
    from engine.plan.view import plan_as_data, plan_as_text
    from engine.results.store import stored_tasks

    loaded = load_checked(spec, overrides, max_points=max_points)
    say_swept(terminal, loaded, overrides)
    compiled = plan_of(loaded, only=only, max_points=max_points)
    stored = stored_tasks(runs / compiled.experiment.name)
    outlook = forecast(compiled, stored, spec_folder=loaded.path.resolve().parent)
    if output == "json":
        click.echo(json.dumps(plan_as_data(compiled, outlook), indent=2))
    else:
        terminal.console().print(plan_as_text(compiled, outlook), markup=False)
    if exit_code and (outlook.to_run or outlook.waiting):
        raise click.exceptions.Exit(WORK_PENDING)
