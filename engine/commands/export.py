"""`engine export`: one table of a run for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.options import RUNS
from engine.errors import UsageError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("table")
@RUNS
@click.option(
    "--format", "output", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True
)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path), help="File to write; stdout otherwise."
)
def export(run: Path, table: str, runs: Path, output: str, target: Path | None) -> None:
    """Write TABLE (points, summary, operators, requests, samples, components, findings) of RUN."""
    from engine.results.export import export_table
    from engine.results.tables import TABLES
    from engine.run.stored import open_run

    if table not in TABLES:
        raise UsageError(f"no table `{table}`", hint="tables: " + ", ".join(TABLES))
    if output == "parquet" and target is None:
        raise UsageError("parquet is binary and needs a file", hint="add `-o FILE`")
    stored = open_run(run, runs=runs)
    with stored.store:
        export_table(stored.plan, stored.store, table, format=output, out=target)
