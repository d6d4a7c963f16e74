"""`engine calibrate`: parameters of a device from measured operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.perfmodel.measured_table import Measured, Outcome
    from engine.spec.calibration import Calibration
    from engine.spec.hardware import Hardware


@click.command()
@click.argument("measurements", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True,
              help="File to write, or a folder when the rows are of several engines.")  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Name of a column of ours in the file, e.g. time_us=latency; repeatable.")  # fmt: skip
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="One value for all rows, e.g. device=h100-sxm-80gb; repeatable.")  # fmt: skip
@click.option("--source", default="", help="Where the rows come from: origin, commit, licence.")
@click.option("--report", type=click.Path(path_type=Path), help="Folder for a report of the fit.")
@RUNS
@click.pass_obj
def calibrate(
    terminal: Terminal,
    measurements: Path,
    target: Path,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    source: str,
    report: Path | None,
    runs: Path,
) -> None:
    """Fit a parameter set to MEASUREMENTS: a CSV or Parquet file of operator times, or a run with a device
    probe. Errors are those of shapes that a fit has not seen."""
    from datetime import UTC, datetime

    from engine.perfmodel.assemble import calibrations_of
    from engine.perfmodel.measured_table import fit_table

    table, devices = open_measurements(measurements, runs, columns=columns, constants=constants)
    outcome = fit_table(table, devices)
    for line in outcome_lines(outcome):
        terminal.say(line)
    if not outcome.fits:
        raise UsageError("nothing could be fitted", hint=next(iter(outcome.refused.values()), None))
    made = calibrations_of(
        outcome,
        table,
        devices,
        source=source or f"rows of `{measurements.name}`",
        fitted=datetime.now(UTC).date().isoformat(),
    )
    for path in _write(made, target):
        click.echo(str(path))
    if report is not None:
        from engine.report.calibration_report import write_calibration_report

        for path in write_calibration_report(outcome, made, report):
            click.echo(str(path))


def open_measurements(
    path: Path, runs: Path, *, columns: Sequence[str] = (), constants: Sequence[str] = ()
) -> tuple[Measured, dict[str, Hardware]]:
    """The timings of a file or a run, and the devices that its rows name."""
    from engine.results.measured import read_measured

    if path.is_file():
        table = read_measured(path, columns=_pairs(columns), constants=_pairs(constants))
        return table, _devices(table, {})
    return _of_run(path, runs)


def _of_run(path: Path, runs: Path) -> tuple[Measured, dict[str, Hardware]]:
    from engine.results.measured import measured_of
    from engine.run.stored import open_run

    stored = open_run(path, runs=runs)
    with stored.store:
        frame = stored.store.read(stored.plan, "kernels").to_pandas()
        if frame.empty:
            raise UsageError(
                f"run `{path}` has no operator times", hint="add `- kind: device_probe` to its measurements"
            )
        table = measured_of(frame, source=str(path))
    own = {block.combination.hardware.name: block.combination.hardware for block in stored.plan.blocks}
    return table, _devices(table, own)


def _devices(table: Measured, own: Mapping[str, Hardware]) -> dict[str, Hardware]:
    """The devices of the rows: those of the run itself, then the catalogue's; unknown ones are left out."""
    from engine.errors import CatalogError
    from engine.spec.catalog import load_hardware

    found: dict[str, Hardware] = {}
    for name in sorted({str(device) for device in table.texts["device"]}):
        if name in own:
            found[name] = own[name]
            continue
        try:
            found[name] = load_hardware(name, search=(Path.cwd(),))
        except CatalogError:
            continue  # its rows are counted with the reason
    return found


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"`{text}` is not NAME=VALUE")
        pairs[name] = value
    return pairs


def outcome_lines(outcome: Outcome) -> list[str]:
    """The error table, then everything that was left out with its reason."""
    lines = []
    for subject, fitted in outcome.fits.items():
        fit, errors = fitted.fit, fitted.fit.held_out
        lines.append(
            f"{subject}: {fit.rows} rows of {fit.sites} shapes, held out "
            f"{errors.median:.1%} median, {errors.p90:.1%} p90, ratio {errors.ratio:.2f}, "
            f"{errors.coverage:.0%} inside the band"
        )
        lines += [f"  {count} rows left out: {reason}" for reason, count in fitted.gated.dropped.items()]
    lines += [f"{subject}: refused, {reason}" for subject, reason in outcome.refused.items()]
    lines += [f"{count} rows left out: {reason}" for reason, count in outcome.ignored.items()]
    return lines


def _write(made: Mapping[str, Calibration], target: Path) -> list[Path]:
    from engine.results.atomic import write_whole
    from engine.spec.calibration_file import calibration_text

    folder = target.suffix not in (".yaml", ".yml")
    if not folder and len(made) > 1:
        raise UsageError(
            f"the rows are of {len(made)} engines or devices, one file holds one",
            hint=f"give a folder: `-o {target.parent}`; sets: {', '.join(made)}",
        )
    written = []
    for name, calibration in made.items():
        path = target / f"{name}.yaml" if folder else target
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, calibration_text(calibration))
        written.append(path)
    return written
