"""What lies in a folder of runs, told from their documents and registries: no table of results is opened.

Anything in a run folder may be damaged or come from a stranger: a value of the wrong type counts as absent,
and a folder that cannot be read is an entry with its reason, never an error of the whole list.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import html
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from engine.errors import StoreError, UsageError
from engine.results import registry
from engine.results.documents import ENVIRONMENT, PLAN, read_json, sessions
from engine.results.lock import FILE as LOCK
from engine.results.lock import holder_of
from engine.results.registry import Registry

State = Literal["finished", "partly failed", "failed", "unfinished", "running", "damaged"]
STATES: Final[tuple[State, ...]] = (
    "running", "finished", "partly failed", "failed", "unfinished", "damaged",
)  # fmt: skip
ReportState = Literal["there", "stale", "absent"]
REPORT: Final = Path("report") / "report.html"
_MARKS: Final = (PLAN, registry.FILE, ENVIRONMENT)
"""What makes a folder a run; a damaged one may lack some of them."""
_WATCHED: Final = (*_MARKS, registry.FILE + "-wal", LOCK, str(REPORT))
_HEAD_BYTES: Final = 16_384
_MOST_PLAN_BYTES: Final = 256 * 2**20
_VERDICT: Final = re.compile(rb'<meta name="description" content="([^"]*)">')
_ENTRIES: Final = ',\n "entries": {\n'
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RunEntry:
    """One run as a list shows it; every text is as it was found and must be cleaned before it is shown."""

    id: str
    """Its name in addresses: letters, digits, `.`, `_`, `-`."""
    folder: Path
    name: str
    state: State
    reason: str | None = None
    """Why it counts as damaged; None when it does not."""
    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    """Number formats."""
    points: int | None = None
    """Design points of the plan; None when the plan cannot be read."""
    tasks: int = 0
    done: int = 0
    failed: int = 0
    started: dt.datetime | None = None
    """When the latest session began; None when that is not known."""
    ended: dt.datetime | None = None
    """When it ended; None while it runs, and when it was killed."""
    commit: str | None = None
    """Commit of the repository the spec lies in; None outside of one."""
    dirty: bool = False
    """Whether that repository had changes which were not committed."""
    fingerprint: str | None = None
    verdict: str | None = None
    """The report's answer; None without a report."""
    report: ReportState = "absent"
    holder: Mapping[str, Any] | None = None
    """Who is writing to the folder; None when nobody is."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """What the latest results were made with."""

    @property
    def when(self) -> dt.datetime | None:
        """When something was last done here."""
        return self.ended or self.started


class RunList:
    """The runs of a folder; what has not changed since the last look is not read again."""

    def __init__(self, folder: Path) -> None:
        """A list of the runs below `folder`; raises `UsageError` when there cannot be any."""
        _require_folder_of_runs(folder)
        self.folder = folder
        self._known: dict[Path, tuple[Stamp, RunEntry]] = {}
        self._reading = threading.Lock()

    def entries(self) -> tuple[RunEntry, ...]:
        """Every run, the latest first; raises `StoreError` when the folder is gone."""
        with self._reading:
            try:
                folders = sorted(Path(found.path) for found in os.scandir(self.folder) if _may_be_run(found))
            except OSError as err:
                raise StoreError(f"`{self.folder}` cannot be read: {err.strerror or err}") from err
            stamps = {folder: _stamp(folder) for folder in folders}
            self._known = {
                folder: (stamp, self._entry(folder, stamp))
                for folder, stamp in stamps.items()
                if any(stamp[: len(_MARKS)])
            }
            found = [entry for _, entry in self._known.values()]
        return tuple(sorted(found, key=_latest_first))

    def _entry(self, folder: Path, stamp: Stamp) -> RunEntry:
        known = self._known.get(folder)
        if known is None or known[0] != stamp:
            return read_entry(folder)
        entry = known[1]
        if entry.holder is not None and holder_of(folder / LOCK) is None:
            return read_entry(folder)  # killed: the files of a dead run do not change
        return entry

    def find(self, id: str) -> RunEntry | None:  # noqa: A002 - the name of the field
        """The run with that id; None when there is none."""
        return next((entry for entry in self.entries() if entry.id == id), None)


def read_entry(folder: Path) -> RunEntry:
    """One run, read anew."""
    known = sessions(folder)
    session = known[-1] if known else {}
    holder = holder_of(folder / LOCK)
    repository = _mapping(session.get("spec_repository"))
    entry = RunEntry(
        id=_id_of(folder.name),
        folder=folder,
        name=folder.name,
        state="damaged",
        started=_time(session.get("started")),
        ended=_time(session.get("ended")),
        commit=_text(repository.get("commit")),
        dirty=repository.get("dirty") is True,
        verdict=verdict_of(folder / REPORT),
        report=report_state(folder),
        holder=holder,
        session=session,
    )
    try:
        document = _plan(folder)
        entry = _described(entry, document)
        return _counted(entry, document, _states(folder))
    except StoreError as err:
        if holder is not None and not (folder / PLAN).exists():
            return replace(entry, state="running")  # it has only just begun
        return replace(entry, reason=err.message)


def failures(entry: RunEntry) -> dict[str, str]:
    """Why tasks of the plan failed: fingerprint -> reason; raises `StoreError`."""
    tasks = [print_ for print_, _ in _tasks(_plan(entry.folder))]
    store = Registry(entry.folder, write=False)
    try:
        found = store.outcomes(tasks)
    finally:
        store.close()
    return {key: outcome.error or "failed" for key, outcome in found.items() if outcome.state == "failed"}


def files_of(folder: Path) -> list[tuple[str, int]]:
    """(path below the folder, bytes) of everything one may open: no hidden files, no links, no drafts."""
    found: list[tuple[str, int]] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(root) / name
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                with contextlib.suppress(OSError):
                    found.append((path.relative_to(folder).as_posix(), path.stat().st_size))
    return sorted(found)


def _require_folder_of_runs(folder: Path) -> None:
    if not folder.exists():
        raise UsageError(
            f"there is no folder `{folder}`",
            hint="`engine run SPEC` makes `runs`; `--runs DIR` names another folder of runs",
        )
    if not folder.is_dir():
        raise UsageError(f"`{folder}` is no folder", hint="`--runs DIR` names a folder of runs")
    if (folder / PLAN).exists() and (folder / registry.FILE).exists():
        raise UsageError(
            f"`{folder}` is one run; `--runs` names the folder that holds runs",
            hint=f"`--runs {folder.resolve().parent}`",
        )


def _may_be_run(found: os.DirEntry[str]) -> bool:
    return not found.name.startswith(".") and found.is_dir(follow_symlinks=True)


def _stamp(folder: Path) -> Stamp:
    """Time and size of every file an entry is read from; a missing one is empty."""
    stamps: list[Any] = []
    for name in _WATCHED:
        try:
            seen = os.stat(f"{folder}/{name}")  # noqa: PTH116 - half the time of a path's own, 6,000 times
            stamps.append((seen.st_mtime_ns, seen.st_size))
        except OSError:
            stamps.append(())
    return tuple(stamps)


def _latest_first(entry: RunEntry) -> tuple[bool, float, str]:
    return (entry.when is None, -entry.when.timestamp() if entry.when else 0.0, entry.name)


def _id_of(name: str) -> str:
    return name if _PLAIN_ID.fullmatch(name) else plain_id(name)


def plain_id(name: str) -> str:
    """An id that does not tell the name."""
    return "run-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


def _plan(folder: Path) -> dict[str, Any]:
    path = folder / PLAN
    if not path.exists():
        raise StoreError(f"`{PLAN}` is missing", hint="`engine run` with the same spec writes it again")
    if path.stat().st_size > _MOST_PLAN_BYTES:
        raise StoreError(f"`{PLAN}` is larger than any plan")
    document = _without_entries(path) or read_json(path)
    if not isinstance(document.get("tasks"), list) or not isinstance(document.get("experiment"), dict):
        raise StoreError(f"`{PLAN}` is not what was written", hint="`engine run` writes it again")
    return document


def _without_entries(path: Path) -> dict[str, Any] | None:
    """The plan with the names of its catalogue entries alone; None where it is not laid out as we write it.

    The entries come last and are nine tenths of the text: leaving them out makes a list of a thousand runs
    three times as fast. A line break cannot stand inside a JSON text, so the marks cannot be part of one.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        head, mark, tail = path.read_text(encoding="utf-8").partition(_ENTRIES)
        if mark and tail.endswith("\n }\n}\n"):
            found = json.loads(head + "\n}")
            names = {}
            for section in ("\n" + tail).split('\n  "')[1:]:
                label, *entries = section.split('\n   "')
                names[label.partition('"')[0]] = dict.fromkeys(entry.partition('"')[0] for entry in entries)
            if any("\\" in name for section in names.values() for name in section):
                return None  # a name with a quote or a mark in it: worth a whole reading
            return {**found, "entries": names}
    return None


def _states(folder: Path) -> dict[str, str]:
    if not (folder / registry.FILE).exists():
        raise StoreError(f"`{registry.FILE}` is missing: which results count is not known")
    store = Registry(folder, write=False, glance=True)
    try:
        return dict(store.states())
    finally:
        store.close()


def _described(entry: RunEntry, document: Mapping[str, Any]) -> RunEntry:
    """The entry with what the plan says about it."""
    experiment = _mapping(document.get("experiment"))
    entries = _mapping(document.get("entries"))
    measurements = experiment.get("measurements")
    kinds = [_text(_mapping(measurement).get("kind")) for measurement in _items(measurements)]
    points = document.get("points")
    tags = experiment.get("tags")
    return replace(
        entry,
        title=_text(_mapping(experiment.get("report")).get("title")),
        description=_text(experiment.get("description")),
        tags=_texts(_items(tags)),
        kinds=_texts(kinds),
        models=_named(entries, experiment, "model"),
        devices=_named(entries, experiment, "hardware"),
        formats=_named(entries, experiment, "quantization"),
        points=points if isinstance(points, int) and not isinstance(points, bool) else None,
        fingerprint=_text(document.get("fingerprint")),
    )


def _counted(entry: RunEntry, document: Mapping[str, Any], states: Mapping[str, str]) -> RunEntry:
    """The entry with how far it is: tasks of the plan that are done and failed."""
    tasks = _tasks(document)
    found = [states.get(fingerprint) for fingerprint, _ in tasks]
    done, failed = found.count("done"), found.count("failed")
    state: State
    if entry.holder is not None:
        state = "running"
    elif done + failed < len(tasks):
        state = "unfinished"
    elif failed:
        state = "partly failed" if done else "failed"
    else:
        state = "finished"
    return replace(entry, state=state, tasks=len(tasks), done=done, failed=failed)


def _tasks(document: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(fingerprint, points) of the tasks of a plan."""
    found = [_mapping(task) for task in document["tasks"]]
    return [
        (str(task.get("fingerprint")), points if isinstance(points := task.get("points"), int) else 0)
        for task in found
    ]


def _named(entries: Mapping[str, Any], experiment: Mapping[str, Any], section: str) -> tuple[str, ...]:
    """Labels of one part of the points: what the plan took from a catalogue, and what the spec spells out."""
    sweep = _mapping(experiment.get("sweep"))
    swept = _items(_mapping(sweep.get("axes")).get(section))
    rows = [_mapping(row) for name in ("tie", "points") for row in _items(sweep.get(name))]
    swept += [row[section] for row in rows if section in row]
    written = swept or [experiment.get(section)]
    known = list(_mapping(entries.get(section)))
    spelt = [_mapping(value).get("name") for value in written]
    return _texts(known + spelt) or _texts(written)


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _time(value: Any) -> dt.datetime | None:
    """A moment in UTC; None where the text is none."""
    try:
        found = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        zoned = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        return zoned.astimezone(dt.UTC).replace(microsecond=0)
    except (AttributeError, ValueError, OverflowError):
        return None


def verdict_of(report: Path) -> str | None:
    """The report's answer, which stands in its head."""
    try:
        with report.open("rb") as file:
            found = _VERDICT.search(file.read(_HEAD_BYTES))
    except OSError:
        return None
    return html.unescape(found[1].decode("utf-8", "replace")) or None if found else None


def report_state(folder: Path, page: Path | None = None) -> ReportState:
    """Whether a report, the run's own where none is named, shows what the folder holds."""
    made = _modified(page or folder / REPORT)
    if made is None:
        return "absent"
    newest = max(_modified(folder / name) or 0 for name in (PLAN, registry.FILE, registry.FILE + "-wal"))
    return "there" if made >= newest else "stale"


def _modified(path: Path) -> int | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    # A reader of the registry leaves an empty file beside it, which says nothing new.
    return seen.st_mtime_ns if seen.st_size else 0
