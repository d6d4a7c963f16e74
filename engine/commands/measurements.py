"""What `engine calibrate` and `engine validate-model` read: a table, a run of the engine, or logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from engine.commands.console import Terminal
    from engine.perfmodel.measured_table import Measured
    from engine.perfmodel.request_rows import RunKey, RunRows
    from engine.run.stored import StoredRun
    from engine.spec.hardware import Hardware

_PROBE: Final = "a run has them from `- kind: device_probe` in its measurements"
_LIVE: Final = "a run has them from `- kind: live` or `run_folder` in its measurements"


@dataclass(frozen=True)
class Renamed:
    """What the user says about a table: each of ours as theirs, what all rows share, names of entries."""

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """A name in the table -> the catalogue's."""

    @classmethod
    def of(cls, columns: Sequence[str], constants: Sequence[str], names: Sequence[str] = ()) -> Renamed:
        """From options of the form `NAME=VALUE`."""
        return cls(pairs(columns), pairs(constants), pairs(names))


@dataclass(frozen=True)
class Sources:
    """Measured operators and whole requests, either of them possibly none."""

    table: Measured
    devices: dict[str, Hardware]
    requests: dict[RunKey, RunRows] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    """Reason -> whole requests that belong to no subject."""

    def only(self, kind: str) -> Sources:
        """Its `operators` or its `requests`, without the other; `UsageError` where it has none of them."""
        if kind == "operators":
            if not len(self.table):
                raise UsageError("`--only operators`: there are no times of operators here", hint=_PROBE)
            return replace(self, requests={}, ignored={})
        if not self.requests and not self.ignored:
            raise UsageError("`--only requests`: there are no whole requests here", hint=_LIVE)
        return replace(self, table=_nothing(), devices={})


def open_sources(path: Path, runs: Path, renamed: Renamed, terminal: Terminal) -> Sources:
    """What a fit can use of a file, a run or a folder of logs; raises `UsageError` where that is nothing."""
    from engine.results.documents import PLAN

    if path.is_file():
        return _of_file(path, renamed)
    if path.suffix in (".csv", ".parquet", ".tsv") and not path.exists():
        raise UsageError(f"there is no file `{path}`")
    if path.is_dir() and not (path / PLAN).exists():
        return _of_logs(path, renamed, terminal)
    return _of_run(path, runs, renamed)


def _of_file(path: Path, renamed: Renamed) -> Sources:
    from engine.results.measured import measured_of, read_named
    from engine.results.measured_requests import Names, is_requests, named_requests, run_rows

    table = read_named(path, columns=renamed.columns, constants=renamed.constants)
    if is_requests(list(map(str, table.columns))):
        rows, ignored = run_rows(
            named_requests(table, source=str(path)), Names(given=renamed.names, search=(Path.cwd(),))
        )
        return Sources(_nothing(), {}, rows, ignored)
    measured = _with_names(measured_of(table, source=str(path)), renamed.names)
    return Sources(measured, _devices(measured, {}))


def _of_run(path: Path, runs: Path, renamed: Renamed) -> Sources:
    from engine.results.measured import measured_of
    from engine.results.measured_requests import names_of_plan
    from engine.run.stored import open_run

    stored = open_run(path, runs=runs)
    with stored.store:
        kernels = stored.store.read(stored.plan, "kernels").to_pandas()
        points = stored.store.read(stored.plan, "points").to_pandas()
        summary = stored.store.read(stored.plan, "summary").to_pandas()
    names = names_of_plan(stored.plan, (Path.cwd(),), renamed.names)
    requests, ignored = _requests(points, summary, {**_software(stored), **renamed.constants}, names)
    if kernels.empty and not requests and not ignored:
        raise UsageError(
            f"run `{path}` has no operator times and no measured requests",
            hint="add `- kind: device_probe`, `live` or `run_folder` to its measurements",
        )
    table = _nothing() if kernels.empty else measured_of(kernels, source=str(path))
    table = _with_names(table, renamed.names)
    own = {block.combination.hardware.name: block.combination.hardware for block in stored.plan.blocks}
    return Sources(table, _devices(table, own), requests, ignored)


def _software(stored: StoredRun) -> dict[str, str]:
    """Who ran live requests: this process for a local target, else whoever answered."""
    from engine.spec.live import LiveSettings

    live = [task.settings for task in stored.plan.tasks if isinstance(task.settings, LiveSettings)]
    if not any(settings.target.kind == "local" for settings in live):
        return {}
    version = stored.environment.get("packages", {}).get("transformers") or ""
    return {"engine": "transformers", "engine_version": str(version)}


def _of_logs(path: Path, renamed: Renamed, terminal: Terminal) -> Sources:
    from engine.commands.ingest import checked, experiment_text, ingest, read_all
    from engine.results.measured_requests import Names

    # As `engine ingest` without an option.
    asked: dict[str, Any] = {
        option.name or "": () if isinstance(option, click.Option) and option.multiple else None
        for option in ingest.params
    }
    asked["hardware"] = renamed.constants.get("device")
    tables = read_all(terminal, checked(experiment_text([str(path)], asked)))
    points, summary = tables["points"].to_pandas(), tables["summary"].to_pandas()
    names = Names(given=renamed.names, search=(Path.cwd(),))
    requests, ignored = _requests(points, summary, renamed.constants, names)
    if not requests and not ignored:
        raise UsageError(f"no log below `{path}` tells the times of a request")
    return Sources(_nothing(), {}, requests, ignored)


def _requests(
    points: pd.DataFrame, summary: pd.DataFrame, constants: Mapping[str, str], names: Any
) -> tuple[dict[RunKey, RunRows], dict[str, int]]:
    from engine.results.measured_requests import logged_requests, run_rows

    found, lost = logged_requests(points, summary)
    for name, value in constants.items():
        found[name] = value
    rows, ignored = run_rows(found, names)
    return rows, {**ignored, **lost}


def _nothing() -> Measured:
    import numpy as np

    from engine.perfmodel.measured_table import Measured

    texts = ("device", "engine", "engine_version", "operator", "precision")
    return Measured({name: np.empty(0, dtype=object) for name in texts}, {"time_s": np.empty(0)})


def _with_names(table: Measured, names: Mapping[str, str]) -> Measured:
    """The table with the devices under the catalogue's names."""
    for theirs, ours in names.items():
        device = table.texts["device"]
        device[device == theirs] = ours
    return table


def _devices(table: Measured, own: Mapping[str, Hardware]) -> dict[str, Hardware]:
    """The devices of the rows: those of the run itself, then the catalogue's; unknown ones are left out, a
    sheet with a mistake in it is an error."""
    from engine.errors import CatalogError
    from engine.spec.catalog import find, load_hardware

    found: dict[str, Hardware] = {}
    for name in sorted({str(device) for device in table.texts["device"]}):
        if name in own:
            found[name] = own[name]
            continue
        try:
            find("hardware", name, search=(Path.cwd(),))
        except CatalogError:
            continue  # its rows are counted with the reason
        found[name] = load_hardware(name, search=(Path.cwd(),))
    return found


def pairs(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"`{text}` is not NAME=VALUE")
        found[name] = value
    return found
