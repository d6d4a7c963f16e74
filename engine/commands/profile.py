"""`engine profile`: one energy profile from the command line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.bench_spec import known_device
from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.commands.profile_spec import ProfileRequest, profile_yaml
from engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.run.stored import StoredRun

DTYPES: Final = ("bf16", "fp16", "fp32")


@click.command()
@click.option("--model", "-m", required=True, help="Catalogue or hub name, or config.json.")
@click.option(
    "--granularity",
    "-g",
    type=click.Choice(["phase", "layer", "component"]),
    default="component",
    show_default=True,
    help="How far down energy is attributed.",
)
@click.option(
    "--method",
    type=click.Choice(["loop", "time_weighted"]),
    default="loop",
    show_default=True,
    help="Loops with intervals (minutes), or a quick look at time shares.",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "nvml", "nvidia-smi", "replay"]),
    default="auto",
    show_default=True,
    help="Where power readings come from.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recording to replay; sets --source replay.",
)
@click.option("--time-only", is_flag=True, help="Measure time alone; needs no power sensor.")
@click.option(
    "--weights", default="random", show_default=True, help="`random`, `real` (the hub name), a folder."
)
@click.option("--dtype", "-d", type=click.Choice(DTYPES), default="bf16", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--devices",
    type=click.IntRange(1, 4096),
    default=1,
    help="Spread the layers over so many devices of this machine.",
)
@click.option("--hardware", help="Catalogue name of the device, to predict beside; found out when absent.")
@click.option("--prompt-toks", "-p", type=click.IntRange(1), default=512, show_default=True)
@click.option("--gen-toks", type=click.IntRange(1), default=64, show_default=True, help="Generated tokens.")
@click.option("--batch", "-b", type=click.IntRange(1), default=1, show_default=True)
@click.option("--trials", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--heads", is_flag=True, help="Time each group of attention heads apart too.")
@click.option("--ablation", is_flag=True, help="Check parts by leaving them out.")
@click.option("--on-missing", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Also write the readings as a JSON log.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    metavar="DIR",
    help="Also write charts as SVG and PNG.",
)
@click.option("--print-spec", is_flag=True, help="Print the spec this stands for and leave.")
@click.option("--name", help="Name of the run folder.")
@RUNS
@click.pass_obj
def profile(
    terminal: Terminal,
    /,
    log_path: Path | None,
    figures: Path | None,
    print_spec: bool,
    runs: Path,
    **options: Any,
) -> None:  # fmt: skip
    """Meter where the energy of a model goes: load, prefill, decode, layers, components."""
    request = ProfileRequest(**options)
    text = profile_yaml(request, detected=known_device(request.device))
    if print_spec:
        click.echo(text, nl=False)
        return
    for wanted in filter(None, (log_path and log_path.parent, figures)):
        _make_folder(wanted)
    folder, code = _carry_out(terminal, request, text, runs)
    stored = _opened(folder)
    with stored.store:
        _show(terminal, stored)
        if log_path is not None:
            _write_log(stored, log_path)
            terminal.say(f"readings in {log_path}")
        if figures is not None:
            for path in _write_figures(stored, figures):
                click.echo(str(path))
    raise click.exceptions.Exit(code)


def _make_folder(folder: Path) -> None:
    """Now, and not after an hour of measurement; raises `UsageError` where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as err:
        raise UsageError(f"the folder `{folder}` cannot be made: {err.strerror}") from err
    if not writable:
        raise UsageError(f"nothing can be written into `{folder}`")


def _carry_out(terminal: Terminal, request: ProfileRequest, text: str, runs: Path) -> tuple[Path, int]:
    """Write the spec into the run folder and run it as `engine run` would."""
    from engine.commands.loading import load_checked, plan_of
    from engine.commands.run import INTERRUPTED, execute, show_reports

    folder = runs / request.folder_name
    with tempfile.TemporaryDirectory(prefix="engine-profile-") as scratch:
        # The run folder keeps the text; every path in it is absolute.
        spec = Path(scratch) / "profile.yaml"
        spec.write_text(text, encoding="utf-8")
        loaded = load_checked(spec, ())
        summary = execute(terminal, loaded, plan_of(loaded), folder, fresh=True)
    if summary.exit_code != INTERRUPTED:
        show_reports(terminal, folder, summary)
    return folder, summary.exit_code


def _opened(folder: Path) -> StoredRun:
    from engine.run.stored import open_run

    return open_run(folder)


def _show(terminal: Terminal, stored: StoredRun) -> None:
    """Phases, components and advice on the terminal."""
    from engine.score.energy_advice import energy_findings

    tables = {name: stored.store.read(stored.plan, name) for name in ("summary", "components", "samples")}
    tables["points"] = stored.store.read(stored.plan, "points")
    rows = [row for row in tables["summary"].to_pylist() if row["source"] == "metered"]
    for line in [*_phase_lines(rows), *_component_lines(tables["components"].to_pylist())]:
        click.echo(line)
    findings = [*stored.store.read(stored.plan, "findings").to_pylist(), *energy_findings(tables)]
    for row in findings:
        gain = f"; gain: {row['gain']}" if row.get("gain") else ""
        evidence = f" ({row['evidence']})" if row.get("evidence") else ""
        click.echo(f"{row['severity']:<8} {row['rule']}: {row['finding']}{evidence}{gain}")


def _phase_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{'phase':<28} {'time':>11} {'energy':>12} {'± 95 %':>11} {'above idle':>12} {'power':>8}"]
    for row in rows:
        name = ", ".join(filter(None, (row["phase"], row["variant"])))
        low, high = row.get("energy_j_low"), row.get("energy_j_high")
        half = None if low is None or high is None else (high - low) / 2
        lines.append(
            f"{name:<28} {_told(row.get('time_s'), 's'):>11} {_told(row.get('energy_j'), 'J'):>12} "
            f"{_told(half, 'J'):>11} {_told(row.get('net_energy_j'), 'J'):>12} "
            f"{_told(row.get('average_power_w'), 'W'):>8}"
        )
    return lines


def _component_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    own = [
        row for row in rows if row["layer"] is None and row["step"] is None and row["method"] != "ablation"
    ]
    if not own:
        return []
    lines = [
        "",
        f"{'component of a step':<28} {'runs':>5} {'time':>11} {'energy':>12} {'share':>7} {'n':>4}  method",
    ]
    for row in own:
        above = f"{row['parent']}/" if row["parent"] not in (None, "step") else ""
        above = "" if row["method"] == "remainder" else above
        name = f"{row['phase']}: {above}{row['component']}"
        share = "" if row["share"] is None else f"{row['share']:.1%}"
        energy = _told(row["energy_j"], "J") if row["valid"] else "invalid"
        lines.append(
            f"{name:<28} {row['count']:>5} {_told(row['time_s'], 's'):>11} {energy:>12} {share:>7} "
            f"{row['n'] or 0:>4}  {row['method']}"
        )
    return [*lines, ""]


def _told(value: float | None, unit: str) -> str:
    """Three figures with a prefix; a dash for what is not known."""
    if value is None or value != value:
        return "-"
    for factor, prefix in ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _write_log(stored: StoredRun, path: Path) -> None:
    from engine.measure.energy.log import log_of_samples, to_text

    samples = stored.store.read(stored.plan, "samples").to_pylist()
    summary = stored.store.read(stored.plan, "summary").to_pylist()
    path.write_text(to_text(log_of_samples(samples, summary)), encoding="utf-8")


def _write_figures(stored: StoredRun, folder: Path) -> list[Path]:
    """The energy charts of the report as files of their own: each as SVG and as PNG."""
    from engine.commands.rendering import report_inputs
    from engine.report.draw import chart_svg, png
    from engine.report.view import build_view

    view = build_view(report_inputs(stored))
    found = []
    for chart in (chart for section in view.sections if section.name == "energy" for chart in section.charts):
        svg = chart_svg(chart.name, chart.spec)
        vector, pixels = folder / f"{chart.name}.svg", folder / f"{chart.name}.png"
        vector.write_text(svg, encoding="utf-8")
        pixels.write_bytes(png(svg))
        found += [vector, pixels]
    return found
