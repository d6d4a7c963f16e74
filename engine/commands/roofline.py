"""`engine roofline`: the publication figure from a CSV of operators, ours or LLM-para's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.commands.console import Terminal
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.report.publication import Roof, RoofPoint
    from engine.spec.hardware import Hardware

# Column names of the two layouts: operation, phase, intensity.
_LAYOUTS = (("operator", "phase", "intensity"), ("Operation", "Phase", "Density (Op/Byte)"))


@click.command()
@click.argument("operators", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--hardware", "devices", multiple=True, required=True, metavar="NAME", help="Catalogue name; repeatable."
)
@click.option("--precision", help="Roof of this precision, e.g. bf16; the widest tensor roof when left out.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("roofline.png"), show_default=True
)
@click.option("--title", default="")
@click.pass_obj
def roofline(
    terminal: Terminal,
    operators: Path,
    devices: tuple[str, ...],
    precision: str | None,
    output: Path,
    title: str,
) -> None:
    """Draw OPERATORS (a CSV of `engine analyze --operators`, in either layout) under the roofs of devices."""
    from engine.report.publication import draw_roofline
    from engine.spec.catalog import load_hardware

    points = read_points(operators)
    roofs = [_roof(load_hardware(name, search=(Path.cwd(),)), precision) for name in devices]
    for path in draw_roofline(points, roofs, output, title=title):
        click.echo(str(path))
    first = roofs[0]
    memory = sum(point.flops_per_byte < first.ridge_flops_per_byte for point in points)
    terminal.say(
        f"{first.name}: ridge {first.ridge_flops_per_byte:.4g} FLOP/byte, "
        f"{memory} of {len(points)} operators memory-bound"
    )


def read_points(path: Path) -> list[RoofPoint]:
    """Operators with their intensity; rows that move no bytes have none and are left out.

    Raises `UsageError` naming the file, and the line where a number cannot be read.
    """
    from engine.report.publication import RoofPoint

    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names = rows.fieldnames or []
        layout = next((names_of for names_of in _LAYOUTS if set(names_of) <= set(names)), None)
        if layout is None:
            wanted = " or ".join(", ".join(f"`{name}`" for name in names_of) for names_of in _LAYOUTS)
            raise UsageError(
                f"`{path}` has no columns {wanted}", hint="write one with `engine analyze --operators`"
            )
        operation, phase, intensity = layout
        found = []
        for row in rows:
            text = row[intensity]
            if text in ("", "-"):
                continue
            try:
                value = float(text)
            except ValueError as err:
                raise UsageError(f"{path}:{rows.line_num}: `{text}` is not an intensity") from err
            if value > 0:
                found.append(RoofPoint(row[operation], row[phase], value))
    return found


def _roof(device: Hardware, precision: str | None) -> Roof:
    from engine.report.publication import Roof

    peaks = {name: rate for name, rate in device.peak if isinstance(rate, int | float)}
    if precision is None:
        precision = next(
            (name for name in ("bf16", "fp16", "tf32", "fp32", "int8", "fp8") if name in peaks), ""
        )
    if precision not in peaks:
        have = ", ".join(f"`{name}`" for name in peaks) or "none"
        raise UsageError(f"`{device.name}` has no `{precision}` peak", hint=f"it has {have}")
    return Roof(device.name, peaks[precision], device.memory_bandwidth)
