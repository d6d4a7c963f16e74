"""`engine validate-model`: how far off the model is on measured operators."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.options import RUNS, output_format


@click.command("validate-model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Name of a column of ours in the file; repeatable.")  # fmt: skip
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="One value for all rows; repeatable.")  # fmt: skip
@click.option("--shipped", is_flag=True, help="Judge the parameter sets of the catalogue, as a prediction "
              "would choose them, instead of fits to these rows.")  # fmt: skip
@RUNS
@output_format("human", "json", "markdown")
def validate_model(
    data: Path,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    shipped: bool,
    runs: Path,
    output: str,
) -> None:
    """Print errors by operator, device, precision and engine over DATA. Without `--shipped` every row is
    predicted by a fit to the other sites of the same table."""
    import json

    from engine.commands.calibrate import open_measurements
    from engine.perfmodel.validate import held_out_table, shipped_table
    from engine.spec.catalog import load_calibrations

    table, devices = open_measurements(data, runs, columns=columns, constants=constants)
    if shipped:
        sets = load_calibrations(list(devices.values()), search=(Path.cwd(),))
        lines = shipped_table(table, devices, sets)
    else:
        lines = held_out_table(table, devices)
    if output == "json":
        click.echo(json.dumps([line.as_data() for line in lines], indent=2))
        return
    for text in (line.as_markdown() for line in lines) if output == "markdown" else map(str, lines):
        click.echo(text)
