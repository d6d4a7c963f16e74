"""`engine calibrate`: parameters of a device from measured operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.perfmodel.assemble import FittedRequests
    from engine.perfmodel.measured_table import Outcome
    from engine.spec.calibration import Calibration


@click.command()
@click.argument("measurements", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True,
              help="File to write, or a folder when the rows are of several engines.")  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Name of a column of ours in the file, e.g. time_us=latency; repeatable.")  # fmt: skip
@click.option("--constant", "constants", multiple=True, metavar="NAME=VALUE",
              help="One value for all rows, e.g. device=h100-sxm-80gb; repeatable.")  # fmt: skip
@click.option("--name", "names", multiple=True, metavar="THEIRS=OURS",
              help="Catalogue name of a model, device or format in the data; repeatable.")  # fmt: skip
@click.option("--only", type=click.Choice(["operators", "requests"]),
              help="Fit one of the two where there are both; the other can then test it.")  # fmt: skip
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
    names: tuple[str, ...],
    only: str | None,
    source: str,
    report: Path | None,
    runs: Path,
) -> None:
    """Fit a parameter set to MEASUREMENTS: a CSV or Parquet file of operator times or of whole requests, a
    run with a device probe or live loads, or a folder of logs. Errors are those of shapes that a fit has not
    seen."""
    from datetime import UTC, datetime

    from engine.commands.measurements import Renamed, open_sources
    from engine.perfmodel.assemble import calibrations_of, fitted_requests, with_requests
    from engine.perfmodel.measured_table import fit_table
    from engine.spec.catalog import load_calibrations

    found = open_sources(measurements, runs, Renamed.of(columns, constants, names), terminal)
    found = found if only is None else found.only(only)
    outcome = fit_table(found.table, found.devices)
    told = {
        "source": source or f"rows of `{measurements.name}`",
        "fitted": datetime.now(UTC).date().isoformat(),
    }
    made = calibrations_of(outcome, found.table, found.devices, **told)
    near = [part.deployments[0].hardware for part in found.requests.values()]
    sets = load_calibrations(near, search=(Path.cwd(),)) if near else {}
    requests = fitted_requests(found.requests, made, sets, source=told["source"], ignored=found.ignored)
    for line in [*outcome_lines(outcome), *request_lines(requests)]:
        terminal.say(line)
    if not outcome.fits and not requests.fits:
        raise UsageError("nothing could be fitted", hint=_why(outcome, requests))
    made = with_requests(made, requests, found.requests, **told)
    written = _write(made, target)
    for path in written:
        click.echo(str(path))
    terminal.say(_who_finds(written[0]))
    if report is not None:
        from engine.report.calibration_report import write_calibration_report

        for path in write_calibration_report(outcome, requests, made, report):
            click.echo(str(path))


def _who_finds(path: Path) -> str:
    """Which specs will use a set at this place."""
    from engine.spec.catalog import packaged_root

    folder = path.resolve().parent
    if (folder.parent.name, folder.name) != ("hardware", "calibrations"):
        return "specs find parameter sets in a folder `hardware/calibrations` beside them"
    beside = folder.parents[1]
    return "every spec finds it" if beside == packaged_root() else f"specs in `{beside}` find it"


def _why(outcome: Outcome, requests: FittedRequests) -> str | None:
    """The first thing to do about a table of which nothing could be fitted."""
    refused = next(iter({**outcome.refused, **requests.refused}.values()), None)
    if refused is not None:
        return refused
    ignored = {**outcome.ignored, **requests.ignored}
    if any("in the catalogue" in reason for reason in ignored):
        return "say which entry is meant with `--name THEIRS=OURS`; `engine catalog list` shows them"
    return next(iter(ignored), "the table has no rows")


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
        lines += [f"  warning: {text}" for text in fitted.warnings]
    lines += [f"{subject}: refused, {reason}" for subject, reason in outcome.refused.items()]
    lines += [f"{count} rows left out: {reason}" for reason, count in outcome.ignored.items()]
    return lines


def request_lines(requests: FittedRequests) -> list[str]:
    """Fits of whole requests with their held-out errors, and what was left out."""
    lines = []
    for key, fitted in requests.fits.items():
        errors = fitted.request.held_out
        lines.append(
            f"{key}: {fitted.request.rows} runs, {fitted.terms}; time per token held out {errors.median:.1%} "
            f"median, {errors.p90:.1%} p90, ratio {errors.ratio:.2f}, {errors.coverage:.0%} inside the band"
        )
        if fitted.energy is not None:
            joules = fitted.energy.held_out
            lines.append(
                f"  energy per token of {fitted.energy.rows} runs held out {joules.median:.1%} median, "
                f"{joules.p90:.1%} p90, ratio {joules.ratio:.2f}"
            )
        lines += [f"  {count} runs left out: {reason}" for reason, count in fitted.gated.dropped.items()]
    lines += [f"{subject}: refused, {reason}" for subject, reason in requests.refused.items()]
    return lines + [f"{count} runs left out: {reason}" for reason, count in requests.ignored.items()]


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
