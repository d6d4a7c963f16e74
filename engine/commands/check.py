"""`engine check`: every mistake of a spec at once."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.console import Terminal, show_problems, show_skipped
from engine.commands.loading import load_checked
from engine.commands.options import MAX_POINTS, SET, SPEC, output_format
from engine.errors import EngineError, LocatedError, Problem
from engine.spec.render import Format


@click.command()
@SPEC
@SET
@MAX_POINTS
@output_format("human", "json", "sarif", "github")
@click.option(
    "--oom", is_flag=True, help="Also say whether local loads fit here: 0 low, 1 medium, 3 high risk."
)
@click.pass_obj
def check(
    terminal: Terminal,
    spec: Path,
    overrides: tuple[str, ...],
    max_points: int | None,
    output: Format,
    oom: bool,
) -> None:
    """Check SPEC: syntax, keys, values, names, units and combinations. Needs no GPU and no network."""
    try:
        loaded = load_checked(spec, overrides, max_points=max_points)
    except LocatedError as err:
        if terminal.debug:
            raise
        show_problems(err.problems, file=str(spec), output=output)
        raise click.exceptions.Exit(err.exit_code) from None
    except EngineError as err:  # of the whole sweep, such as too many points; no line is to blame
        if terminal.debug or output == "human":
            raise
        found = Problem(code="bad-sweep", message=err.message, hint=err.hint, file=str(spec))
        show_problems([found], file=str(spec), output=output)
        raise click.exceptions.Exit(err.exit_code) from None
    if output != "human":
        show_problems(loaded.skipped, file=str(spec), output=output)
    elif loaded.skipped:
        show_skipped(terminal, loaded.skipped)
    else:
        terminal.say(f"{spec}: no problems")
    if oom:
        from engine.commands.oom import print_experiment

        raise click.exceptions.Exit(print_experiment(loaded.experiment, search=loaded.search))
