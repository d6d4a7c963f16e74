"""`engine report`: render a run again, without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError
from engine.spec.report import Format
from engine.units import counted


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@RUNS
@click.option(
    "--formats", metavar="LIST", help="Comma-separated: html,pdf,xlsx. As in the spec when left out."
)
@click.option("--share", is_flag=True, help="Leave out host names, users and device serial numbers.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder to write into; the run's own by default.",
)
@click.pass_obj
def report(
    terminal: Terminal, run: Path, runs: Path, formats: str | None, share: bool, output: Path | None
) -> None:
    """Render the reports of RUN: a run folder, or the name of a run under --runs."""
    from engine.commands.rendering import write_reports
    from engine.run.stored import open_run

    stored = open_run(run, runs=runs)
    chosen = chosen_formats(formats) if formats else None
    with stored.store:
        for path in write_reports(stored, formats=chosen, share=share, output=output).values():
            click.echo(str(path))
    terminal.say(f"{counted(stored.plan.size, 'point')}, nothing measured again")


def chosen_formats(text: str) -> list[Format]:
    """The formats of a comma-separated list; raises `UsageError` for one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known: tuple[Format, ...] = get_args(Format)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"no report format `{', '.join(unknown)}`", hint="formats: " + ", ".join(known))
    return [name for name in known if name in names]
