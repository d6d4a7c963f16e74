"""`engine ingest`: a tree of logs in, a workbook out. Builds the experiment a user could have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.commands.console import Terminal
from engine.errors import UsageError
from engine.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.results.tables import Tables
    from engine.spec.experiment import Experiment
    from engine.spec.run_folder import RunFolderSettings


@click.command()
@click.option(
    "-i", "--input", "roots", multiple=True, metavar="DIR", help="Folder of runs; repeat it to compare roots."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Workbook to write (.xlsx)."
)
@click.option(
    "-d",
    "--daq",
    type=click.Path(path_type=Path, exists=True),
    metavar="JSON",
    help="Map of rail and column names.",
)
@click.option(
    "-st",
    "--swtarget",
    type=click.Path(path_type=Path, exists=True),
    metavar="JSON",
    help="List of SoC Watch tables to show: key, lookup, buckets.",
)
@click.option(
    "-hb",
    "--hobl",
    is_flag=True,
    help="A folder with a .PASS or .FAIL file is one run with all below it.",
)
@click.option(
    "--metrics", type=click.Path(path_type=Path, exists=True), metavar="JSON", help="Metrics of your own."
)
@click.option(
    "--rules",
    type=click.Path(path_type=Path, exists=True),
    metavar="YAML",
    help="Further settings of `kind: run_folder`: levels, models, columns, windows...",
)
@click.option("--hardware", metavar="NAME", help="Catalogue name of the device of all runs.")
@click.option("--mount", "mounts", multiple=True, metavar="SHARE=DIR", help="Where a share is mounted here.")
@click.option("--zone", metavar="+HH:MM", help="Offset from UTC of local times in the logs.")
@click.option("--interval", metavar="TIME", help="Sampling interval of logs without times, such as `1 s`.")
@click.option(
    "--alignment", type=click.Choice(["auto", "clock", "step", "whole"]), help="How to find the window."
)
@click.option("--throttle-temperature", metavar="TEMP", help="Limit of the device, such as `83 C`.")
@click.option("--peak-bandwidth", metavar="RATE", help="Peak memory bandwidth, such as `1555 GB/s`.")
@click.option(
    "--resource", metavar="METRIC", help="Resource of the scaling efficiencies printed; all in the workbook."
)
@click.option(
    "--repeats",
    type=click.Choice(["min", "median", "max", "all"]),
    default="median",
    show_default=True,
    help="Which repeat of a configuration is compared, by average power.",
)
@click.option(
    "--pages",
    type=click.Choice(["html", "pdf"]),
    multiple=True,
    help="Write a report beside the workbook too; repeatable.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that read; one a core when left out.")
@click.option("--print-spec", is_flag=True, help="Print the experiment instead of reading anything.")
@click.option("--list-formats", is_flag=True, help="List the formats that are understood.")
@click.pass_obj
def ingest(terminal: Terminal, /, roots: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Turn folders of benchmark logs into one workbook.

    Models and batches come from folder names, formats from content; what cannot be read is a row on the
    sheet Runs with its reason. Exit code 5 when nothing is readable.
    """
    if options["list_formats"]:
        _list_formats()
        return
    if not roots:
        raise UsageError("no folder to read", hint="engine ingest -i runs/ -o runs.xlsx")
    text = experiment_text(roots, options)
    experiment = checked(text)
    if options["print_spec"]:
        click.echo(text, nl=False)
        return
    if output is None:
        raise UsageError("no workbook to write", hint="name one with -o runs.xlsx")
    if output.suffix.lower() != ".xlsx":
        raise UsageError(f"`{output}` is no workbook", hint="end its name in .xlsx")
    _check_resource(options["resource"])
    tables = read_all(terminal, experiment, jobs=options["jobs"])
    _write(tables, output, roots, text, options["repeats"])
    click.echo(str(output))
    if options["pages"]:
        from engine.commands.ingest_pages import write_pages

        for path in write_pages(experiment, tables, text=text, workbook=output, formats=options["pages"]):
            click.echo(str(path))
    _tell(terminal, tables, options["resource"], options["repeats"])
    rows = zip(*(tables["summary"][name].to_pylist() for name in ("status", "variant")), strict=True)
    failed = len({variant for status, variant in rows if status == "failed"})
    if failed:
        terminal.say(f"{counted(failed, 'row')} without a result; the sheets Runs and Diagnostics say why")


def _check_resource(name: str | None) -> None:
    from difflib import get_close_matches

    from engine.metrics import METRICS
    from engine.score.scaling import RESOURCES

    if name is not None and name not in METRICS and name not in RESOURCES:
        near = get_close_matches(name, [*RESOURCES, *METRICS], n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"such as {', '.join(RESOURCES)}"
        raise UsageError(f"`{name}` is no metric", hint=hint)


def experiment_text(roots: Sequence[str], options: dict[str, Any]) -> str:
    """The experiment behind the command, as YAML."""
    import io

    from ruamel.yaml import YAML

    shared = _settings(options)
    measurements = [{"kind": "run_folder", "path": root, **shared} for root in roots]
    document = {
        "version": 1,
        "name": "ingest",
        "measurements": measurements,
    }
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options["rules"]:
        found |= _rules(options["rules"])
    for name in ("hardware", "zone", "interval", "alignment", "throttle_temperature", "peak_bandwidth"):
        if options[name]:
            found[name] = options[name]
    if options["mounts"]:
        found["mounts"] = dict(_pair(text) for text in options["mounts"])
    if options["daq"]:
        found["rails"] = {**found.get("rails", {}), **rail_map(options["daq"])}
    if options["swtarget"]:
        found["tables"] = [*found.get("tables", []), *log_tables(options["swtarget"])]
    if options["hobl"]:
        found["verdicts"] = True
    if options["metrics"]:
        found["metrics"] = {**found.get("metrics", {}), **custom_metrics(options["metrics"])}
    return found


def _pair(text: str) -> tuple[str, str]:
    share, found, folder = text.partition("=")
    if not found or not share or not folder:
        raise UsageError(
            f"`{text}` is no mount", hint="write SHARE=DIR, such as '\\\\server\\data=/mnt/data'"
        )
    return share, folder


def _rules(path: Path) -> dict[str, Any]:
    from engine.spec.document import read_document

    values = dict(read_document(path).values)
    for name in ("kind", "path"):
        values.pop(name, None)
    return values


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as err:
        raise UsageError(f"`{path}` is not JSON: {err}") from err


def _json_mapping(path: Path) -> dict[str, Any]:
    value = _json(path)
    if not isinstance(value, dict):
        raise UsageError(f"`{path}` holds no mapping")
    return value


def log_tables(path: Path) -> list[Any]:
    """Tables of SoC Watch summaries to show, from a JSON list `[{"key", "lookup"[, "buckets"]}]`."""
    value = _json(path)
    if not isinstance(value, list):
        raise UsageError(
            f"`{path}` holds no list", hint='[{"key": "PKG_Cstate", "lookup": "Package C-State"}]'
        )
    return value


def rail_map(path: Path) -> dict[str, str]:
    """Names of rails: text renames one, a number (the tool's own place-holder) keeps its name."""
    return {name: value if isinstance(value, str) else name for name, value in _json_mapping(path).items()}


def custom_metrics(path: Path) -> dict[str, Any]:
    """The metrics of a JSON file `{"metrics": {id: {name, unit[, formula]}}}`."""
    value = _json_mapping(path)
    metrics = value.get("metrics", value)
    if not isinstance(metrics, dict):
        raise UsageError(f"`metrics` in `{path}` is no mapping", hint='{"metrics": {"id": {"name": "..."}}}')
    return metrics


def checked(text: str) -> Experiment:
    """The validated experiment; raises `SpecError` located in the text."""
    from engine.spec.document import read_document, validate
    from engine.spec.experiment import Experiment

    return validate(read_document("ingest.yaml", data=text.encode()), Experiment)


def read_all(terminal: Terminal, experiment: Experiment, *, jobs: int | None = None) -> Tables:
    """The tables of every root, with a progress bar."""
    from engine.measure.run_folder import read_run_folder
    from engine.measure.run_folder.roots import joined

    parts = []
    for settings in experiment.measurements:
        with _Progress(terminal) as progress:
            parts.append((_name(settings), read_run_folder(settings, jobs=jobs, progress=progress.show)))  # type: ignore[arg-type]
    return joined(parts)


def _name(settings: Any) -> str:
    own: RunFolderSettings = settings
    return own.path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar: Any = None
        self._row: Any = None

    def __enter__(self) -> _Progress:
        console = self._terminal.console(stderr=True)
        if self._terminal.progress and console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("reading"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("runs"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._row = self._bar.add_task("read", total=None)
            self._bar.start()
        return self

    def show(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._row, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _write(tables: Tables, output: Path, roots: Sequence[str], text: str, pick: Any) -> None:
    import datetime as dt
    import os
    import platform

    from engine import __version__
    from engine.report.ingest_workbook import Provenance, write_ingest_workbook

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    made = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else dt.datetime.now(dt.UTC)
    facts = [
        ("Made", made.strftime("%Y-%m-%d %H:%M UTC")),
        ("Engine", __version__),
        ("Python", platform.python_version()),
        *(("Folder", root) for root in roots),
        ("Repeat compared", f"{pick} by average power"),
    ]
    title = "Runs of " + ", ".join(root.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] for root in roots)
    write_ingest_workbook(tables, output, Provenance(made, title, facts, text), pick=pick)


def _tell(terminal: Terminal, tables: Tables, resource: str | None, pick: Any) -> None:
    from engine.score.scaling import AXES, representatives, runs_of, scalings

    files = tables["files"]["status"].to_pylist()
    runs = runs_of(tables)
    terminal.say(
        f"{counted(len(runs), 'row')} from {counted(len(files), 'file')}: {files.count('read')} read, "
        f"{files.count('partial')} in part, {files.count('unreadable')} not"
    )
    if resource is None:
        return
    for axis in AXES:
        for s in scalings(representatives(runs, pick=pick), axis, resources=(resource,)):
            ratios = f"{s.performance_ratio:.4g} / {s.resource_ratio:.4g} = {s.efficiency:.4g}"
            note = f" ({s.note})" if s.note else ""
            terminal.say(f"{axis}: {s.start.label} -> {s.end.label}: {ratios}{note}")


def _list_formats() -> None:
    from engine.measure.run_folder.formats import formats

    for form in formats():
        click.echo(f"{form.name:28} {form.title}")
