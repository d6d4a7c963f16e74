"""`engine query`: SQL over the tables of one or more runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.results.store import ResultStore

_SHOWN_ROWS: Final = 200


@click.command()
@click.argument("sql", metavar="SELECT")
@click.argument("run", type=click.Path(path_type=Path), nargs=-1, required=True)
@RUNS
@click.option(
    "--format",
    "output",
    type=click.Choice(["human", "csv", "json", "parquet"]),
    default="human",
    show_default=True,
)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path), help="File to write; stdout otherwise."
)
@click.pass_obj
def query(
    terminal: Terminal, sql: str, run: tuple[Path, ...], runs: Path, output: str, target: Path | None
) -> None:
    """Answer one SELECT over the tables of RUN..., such as

    \b
    engine query "select hardware, min(tpot_s) from summary join points using (run, point)
                  where phase = 'request' group by hardware" llama3-8b-sweep

    Tables: points, summary, operators, requests, samples, components, findings, each with a column `run`.
    """
    from engine.results.export import write_batches
    from engine.results.query import query as answer_of

    if output == "parquet" and target is None:
        raise UsageError("parquet is binary and needs a file", hint="add `-o FILE`")
    if output == "human" and target is not None:
        raise UsageError("a file needs a format", hint="add `--format csv`, `json` or `parquet`")
    with ExitStack() as open_runs:
        answer = answer_of(sql, _opened(run, runs, open_runs))
    if output == "human":
        _print(answer, terminal)
        return
    write_batches(iter(answer.to_batches()), answer.schema, format=output, out=target)


def _opened(asked: tuple[Path, ...], runs: Path, open_runs: ExitStack) -> dict[str, tuple[Plan, ResultStore]]:
    from engine.run.stored import open_run

    found: dict[str, tuple[Plan, ResultStore]] = {}
    for path in asked:
        stored = open_run(path, runs=runs)
        open_runs.enter_context(stored.store)
        # Runs of one experiment in two places are told apart by the path as it was typed.
        name = stored.folder.name if stored.folder.name not in found else str(path)
        if name in found:
            raise UsageError(f"run `{path}` is named twice")
        found[name] = stored.plan, stored.store
    return found


def _print(answer: pa.Table, terminal: Terminal) -> None:
    from engine.commands.tables import print_rows

    if not answer.num_rows:
        terminal.say("no rows")
        return
    print_rows(answer.slice(0, _SHOWN_ROWS).to_pylist())
    if answer.num_rows > _SHOWN_ROWS:
        terminal.say(f"and {answer.num_rows - _SHOWN_ROWS:,} more rows; `--format csv` gives all")
