"""The whole way: find runs, read them side by side, put tables together, predict what can be predicted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from difflib import get_close_matches
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import NothingSelected, UsageError
from engine.measure.run_folder.collect import collect, tables_of
from engine.measure.run_folder.custom import custom_table, known_formulas
from engine.measure.run_folder.devices import Devices, catalogue_name, known_devices
from engine.measure.run_folder.discovery import Found, discover, local_folder
from engine.measure.run_folder.files import Context, FileRow, applies, read_file
from engine.measure.run_folder.formats import formats
from engine.measure.run_folder.names import canonical
from engine.measure.run_folder.record import Note
from engine.measure.run_folder.run import RunResult, read_run
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

if TYPE_CHECKING:
    from engine.results.tables import Tables

# Below this a pool costs more than it saves.
_FEW_BYTES: Final = 8 * 2**20


def read_folder(
    settings: RunFolderSettings,
    *,
    base: Path,
    jobs: int | None,
    progress: Callable[[int, int], Any] | None,
    say: Callable[[str], Any] | None,
) -> Tables:
    """The tables of a folder of logs."""
    known_formulas(settings.metrics)  # a wrong formula is told before hours of reading
    root = local_folder(settings.path, base=base, mounts=settings.mounts)
    devices = known_devices((base.resolve(),))
    _check_devices(settings, devices)
    found = discover(root, settings, devices=devices.names)  # folders and names only, nothing opened
    context = Context(root, settings, devices.names, devices.sheets)
    everything = list(_read_all(found, context, jobs=jobs, progress=progress))
    runs = [result for result in everything if _is_run(result)]
    loose = [file for result in everything if not _is_run(result) for file in result.files]
    loose += [read_file(candidate, context)[0] for candidate in found.loose]
    _check_any(found, everything)
    if say is not None:
        count = sum(len(r.files) for r in runs) + len(loose)
        say(f"{counted(len(runs), 'run')}, {counted(count, 'file')} below `{root.resolve().name}`")
    collected = collect(runs)
    unused = list(_unused(settings, root.resolve().name, [run.run.name for run in everything]))
    tables = dict(tables_of(runs, loose, collected, unused))
    tables["custom"] = custom_table(collected, settings.metrics)
    if settings.predictions:
        from engine.measure.run_folder.prediction import with_predictions

        tables["summary"] = with_predictions(tables["summary"], collected.configurations, base=base)
    return tables


def _check_devices(settings: RunFolderSettings, devices: Devices) -> None:
    """Raises `UsageError` for a device that the settings name and the catalogue does not have."""
    named = [settings.hardware, *(own.hardware for own in settings.overrides.values())]
    for name in named:
        if name is not None and catalogue_name(name, devices.names) is None:
            near = get_close_matches(canonical(name), list(devices.names), n=1, cutoff=0.5)
            hint = f"did you mean `{devices.names[near[0]]}`?" if near else "engine catalog list"
            raise UsageError(f"`{name}` is no device of the catalogue", hint=hint)


def _unused(settings: RunFolderSettings, root: str, runs: Sequence[str]) -> Iterator[tuple[str, Note]]:
    """(setting, note) for names in the settings that no run here has: a typing mistake, mostly."""
    parts = {root, *(part for run in runs for part in run.split("/"))}
    for field, names in (
        ("windows", [name for name in settings.windows if name not in runs]),
        ("overrides", [p for p in settings.overrides if not any(applies(p, run) for run in runs)]),
        ("models", [name for name in settings.models if name not in parts]),
    ):
        for name in names:
            yield field, Note("unused-setting", f"`{name}` under `{field}` is no run or folder here")


def _is_run(result: RunResult) -> bool:
    """A folder whose name says nothing is a run when its files do."""
    return result.run.certain or any(row.ok for row in result.rows)


def _read_all(
    found: Found, context: Context, *, jobs: int | None, progress: Callable[[int, int], Any] | None
) -> Iterator[RunResult]:
    """Each run in order; side by side in processes when there is enough to read."""
    total = len(found.runs)
    size = sum(
        f.path.stat().st_size
        for run in found.runs
        for f in run.files
        if f.refused is None and f.path.is_file()
    )
    workers = min(
        jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16
    )
    if workers < 2 or size < _FEW_BYTES or total < 2:
        for done, run in enumerate(found.runs, start=1):
            yield read_run(run, context)
            if progress is not None:
                progress(done, total)
        return
    formats()  # imported once, before the processes are forked from a server that has them
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(context,)
    ) as pool:
        for done, result in enumerate(
            pool.map(_read_one, found.runs, chunksize=_chunk(total, workers)), start=1
        ):
            yield result
            if progress is not None:
                progress(done, total)


def _chunk(total: int, workers: int) -> int:
    return max(1, min(16, total // (workers * 4)))


_context: list[Context] = []


def _start(context: Context) -> None:
    _context[:] = [context]


def _read_one(run: Any) -> RunResult:
    return read_run(run, _context[0])


def _check_any(found: Found, runs: Sequence[RunResult]) -> None:
    """Raises `NothingSelected` with what was seen when not one file could be read."""
    files: list[FileRow] = [file for run in runs for file in run.files]
    if any(file.status != "unreadable" for file in files):
        return
    seen = len(files) + len(found.loose)
    if not seen:
        raise NothingSelected(f"`{found.root}` holds no file", hint="point `-i` at the folder above the runs")
    reasons = [f"{f.name}: {f.reason}" for f in files if f.reason]
    reasons += [f"{c.name}: {c.refused}" for c in found.loose if c.refused]
    raise NothingSelected(
        f"of {counted(seen, 'file')} below `{found.root}` none can be read"
        + (f" ({'; '.join(reasons[:3])})" if reasons else ""),
        hint="`engine ingest --list-formats` names what is understood; other CSV need `columns:` in a spec",
    )
