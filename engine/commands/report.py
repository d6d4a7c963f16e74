"""`engine report`: render a run again, without measuring anything."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@RUNS
@click.option(
    "--formats", metavar="LIST", help="Comma-separated: html,pdf,xlsx. As in the spec when left out."
)
@click.option("--share", is_flag=True, help="Leave out host names, users and device serial numbers.")
@click.pass_obj
def report(terminal: Terminal, run: Path, runs: Path, formats: str | None, share: bool) -> None:
    """Render the reports of RUN: a run folder, or the name of a run under --runs."""
    from engine.commands.rendering import write_reports
    from engine.run.stored import open_run

    stored = open_run(run, runs=runs)
    chosen = formats.split(",") if formats else None
    with stored.store:
        for path in write_reports(stored, formats=chosen, share=share).values():
            click.echo(str(path))
    terminal.say(f"{stored.plan.size:,} points, nothing measured again")
