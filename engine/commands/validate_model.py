"""`engine validate-model`: how far off the model is on measured operators."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS, output_format
from engine.errors import UsageError


@click.command("validate-model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Name of a column of ours in the file; repeatable.")  # fmt: skip
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="One value for all rows; repeatable.")  # fmt: skip
@click.option("--name", "names", multiple=True, metavar="THEIRS=OURS",
              help="Catalogue name of a model, device or format in the data; repeatable.")  # fmt: skip
@click.option("--shipped", is_flag=True, help="Judge the parameter sets of the catalogue, as a prediction "
              "would choose them, instead of fits to these rows.")  # fmt: skip
@RUNS
@output_format("human", "json", "markdown")
@click.pass_obj
def validate_model(
    terminal: Terminal,
    data: Path,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    names: tuple[str, ...],
    shipped: bool,
    runs: Path,
    output: str,
) -> None:
    """Print errors by operator, device, precision and engine over DATA: operator times, whole requests, a run
    or a folder of logs. Without `--shipped` every row is predicted by a fit to the other sites of the same
    table."""
    import json

    from engine.commands.measurements import Renamed, open_sources
    from engine.perfmodel.assemble import fitted_requests
    from engine.perfmodel.validate import held_out_table, request_lines_of, shipped_requests, shipped_table
    from engine.spec.catalog import load_calibrations

    found = open_sources(data, runs, Renamed.of(columns, constants, names), terminal)
    table, devices = found.table, found.devices
    near = [*devices.values(), *(part.deployments[0].hardware for part in found.requests.values())]
    sets = load_calibrations(near, search=(Path.cwd(),))
    if shipped:
        lines = shipped_table(table, devices, sets)
    else:
        lines = held_out_table(table, devices)
    left_out = [f"{count} runs left out: {reason}" for reason, count in found.ignored.items()]
    if shipped:
        for key, part in found.requests.items():
            lines += shipped_requests(str(key), part, sets)
    else:
        requests = fitted_requests(found.requests, {}, sets, source="", ignored={})
        for key, fitted in requests.fits.items():
            lines += request_lines_of(str(key), fitted)
        left_out += [f"{subject}: refused, {reason}" for subject, reason in requests.refused.items()]
    for text in left_out:
        terminal.say(text)
    if not lines:
        raise UsageError("nothing could be judged", hint=next(iter(left_out), None))
    if output == "json":
        click.echo(json.dumps([line.as_data() for line in lines], indent=2))
        return
    for text in (line.as_markdown() for line in lines) if output == "markdown" else map(str, lines):
        click.echo(text)
