"""A run folder: documents, shards of result tables, and the registry that says which of them count.

A shard is one table of one task. It is written under a temporary name, seen safely on disk, renamed, and
only then registered with its checksum; what is not registered is never read and simply made again. In a
shard `point` counts from 0 within its task, so that shards stay valid when a plan numbers its points anew.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from engine.errors import EngineError, MeasurementError, StoreError
from engine.plan.stored import describe
from engine.results import registry
from engine.results.atomic import TEMPORARY, Disk, discard, put_in_place, write_failed, write_temporary
from engine.results.environment import without_secrets
from engine.results.lock import FILE as LOCK_FILE
from engine.results.lock import FolderLock
from engine.results.registry import Outcome, Registry, Shard, TaskRecord
from engine.results.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.plan.compile import Plan
    from engine.plan.point import Task
    from engine.results.tables import Tables

RESULTS: Final = "results"


@dataclass(frozen=True)
class Draft:
    """A shard under its temporary name."""

    table: str
    path: Path
    shard: Shard


class ResultStore:
    """The results of one run folder; open it with `ResultStore.open` and close it, or use `with`."""

    def __init__(self, folder: Path, found: Registry, *, lock: FolderLock | None, disk: Disk) -> None:
        self.folder = folder
        self.disk = disk
        self._registry = found
        self._lock = lock
        self._sound: dict[tuple[str, str], tuple[str, int, int]] = {}

    @classmethod
    def open(cls, folder: Path, *, write: bool, fresh: bool = False, disk: Disk | None = None) -> Self:
        """The store in `folder`, made where it is missing when `write`.

        Raises `StoreBusy` when another process writes there, `StoreError` for a folder that cannot be used.
        With `fresh` a registry that cannot be read is set aside.
        """
        disk = disk or Disk()
        if not write:
            _require_run_folder(folder)
            return cls(folder, Registry(folder, write=False), lock=None, disk=disk)
        _require_free_or_ours(folder)
        try:
            disk.make_folder(folder / RESULTS)
        except OSError as err:
            raise write_failed(folder, err) from err
        lock = FolderLock(folder / LOCK_FILE)
        try:
            found = _open_registry(folder, fresh=fresh)
        except BaseException:
            lock.release()
            raise
        store = cls(folder, found, lock=lock, disk=disk)
        store._sweep_up()
        return store

    def close(self) -> None:
        """Close the registry and let others in; a second call does nothing."""
        self._registry.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sweep_up(self) -> None:
        """Remove temporary files of a run that was killed."""
        for draft in self.folder.rglob(f".*{TEMPORARY}"):
            discard(draft)

    # writing

    def record(
        self, task: Task, tables: Tables, *, seconds: float | None = None, inputs: str | None = None
    ) -> None:
        """Keep the tables of a finished task; raises `StoreError`, and then nothing of the task counts."""
        self.adopt(task, self.draft(task, tables), seconds=seconds, inputs=inputs)

    def draft(self, task: Task, tables: Tables) -> list[Draft]:
        """Write the tables of a task under temporary names."""
        return write_drafts(self.folder, task, tables, disk=self.disk)

    def adopt(
        self,
        task: Task,
        drafts: Sequence[Draft],
        *,
        seconds: float | None = None,
        inputs: str | None = None,
    ) -> None:
        """Give drafts their names and register them; raises `StoreError`. `inputs` is the digest of the
        files the task read."""
        shards = self._put_in_place(task, drafts)
        self._registry.record_done(task.fingerprint, describe(task), shards, seconds=seconds, inputs=inputs)

    def _put_in_place(self, task: Task, drafts: Sequence[Draft]) -> dict[str, Shard]:
        """Give drafts their names; the shards by table."""
        try:
            for draft in drafts:
                put_in_place(draft.path, self._path(task.fingerprint, draft.table), disk=self.disk)
        except BaseException:
            for draft in drafts:
                discard(draft.path)
            raise
        return {draft.table: draft.shard for draft in drafts}

    def record_failure(
        self,
        task: Task,
        error: EngineError | str,
        tail: str | None = None,
        *,
        seconds: float | None = None,
        drafts: Sequence[Draft] = (),
        interrupted: bool = False,
    ) -> None:
        """Keep why a task failed, with the last lines it printed and what it had measured by then.

        One that was interrupted is no failure: its rows are shown, and the next run does it again.
        """
        text = error if isinstance(error, str) else error.message
        self._registry.record_failed(
            task.fingerprint,
            describe(task),
            self._put_in_place(task, drafts),
            error=without_secrets(text),
            tail=tail or None,
            seconds=seconds,
            state="interrupted" if interrupted else "failed",
        )

    def give_up(self, tasks: Iterable[Task]) -> None:
        """Make tasks count as never run; their shards stay on disk until they are replaced."""
        self._registry.give_up([task.fingerprint for task in tasks])

    def write_document(self, name: str, content: str) -> Path:
        """Write a text file of the run folder, whole or not at all."""
        target = self.folder / name
        put_in_place(write_temporary(target, [content.encode()], disk=self.disk), target, disk=self.disk)
        return target

    # reading

    def records(self) -> dict[str, TaskRecord]:
        """Every recorded task by fingerprint, whatever became of it."""
        return self._registry.tasks()

    def done(self, tasks: Iterable[Task] | None = None) -> dict[str, TaskRecord]:
        """Finished tasks by fingerprint, all or those among `tasks`; those with a missing or damaged shard
        are left out."""
        wanted = None if tasks is None else [task.fingerprint for task in tasks]
        return {
            key: record
            for key, record in self._registry.tasks(wanted).items()
            if record.state == "done" and self._are_sound(key, record.shards)
        }

    def failed(self) -> dict[str, TaskRecord]:
        """Failed tasks by fingerprint."""
        return {key: record for key, record in self.records().items() if record.state == "failed"}

    def is_sound(self, task: Task, outcome: Outcome) -> bool:
        """Whether a task left tables and all of them are what was written."""
        return bool(outcome.shards) and self._are_sound(task.fingerprint, outcome.shards)

    def _are_sound(self, fingerprint: str, shards: Mapping[str, Shard]) -> bool:
        try:
            for table, shard in shards.items():
                self._content(fingerprint, table, shard)
        except StoreError:
            return False
        return True

    def _path(self, fingerprint: str, table: str) -> Path:
        return self.folder / RESULTS / table / f"{fingerprint}.parquet"

    def _content(self, fingerprint: str, table: str, shard: Shard) -> Any:
        """The bytes of a shard, checked against the registry; raises `StoreError` when they differ."""
        path = self._path(fingerprint, table)
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                modified = path.stat().st_mtime_ns
        except (OSError, ValueError) as err:  # ValueError: an empty file cannot be mapped
            raise _damaged(path) from err
        seen = (shard.sha256, len(content), modified)
        if self._sound.get((fingerprint, table)) != seen:
            if len(content) != shard.bytes or hashlib.sha256(content).hexdigest() != shard.sha256:
                raise _damaged(path)
            self._sound[fingerprint, table] = seen
        return content

    def outcomes(self, plan: Plan) -> dict[str, Outcome]:
        """What became of each task of a plan, by fingerprint; tasks that never ran are absent."""
        return self._registry.outcomes([task.fingerprint for task in plan.tasks])

    def shard(self, task: Task, outcome: Outcome, table: str) -> Any | None:
        """The checked bytes of one table of a finished task, or None when it has none.

        Raises `StoreError` when they are damaged.
        """
        found = outcome.shards.get(table)
        return None if found is None else self._content(task.fingerprint, table, found)

    def read(
        self,
        plan: Plan,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        phases: Sequence[str] = (),
    ) -> pa.Table:
        """A table of the plan's tasks, in the plan's order; `columns` in the order given, all when None;
        rows of all phases or of those named."""
        from engine.results.reading import read

        return read(self, plan, table, columns=columns, phases=phases)

    def scan(
        self, plan: Plan, table: str, columns: Sequence[str] | None = None, *, phases: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The same rows some at a time, in bounded memory."""
        from engine.results.reading import scan

        return scan(self, plan, table, columns, phases=phases)

    def columns(self, plan: Plan, table: str) -> list[str]:
        """Columns the table has for this plan: all declared ones, and the metrics that occur."""
        from engine.results.reading import column_names

        return column_names(self, plan, table)


def write_drafts(folder: Path, task: Task, tables: Tables, *, disk: Disk | None = None) -> list[Draft]:
    """Write a task's tables under temporary names, as a worker does for the process that holds the store."""
    disk = disk or Disk()
    drafts: list[Draft] = []
    try:
        for name in sorted(tables):
            drafts.append(_draft(folder, task, name, tables[name], disk))
    except BaseException:
        for draft in drafts:
            discard(draft.path)
        raise
    return drafts


def _draft(folder: Path, task: Task, name: str, table: pa.Table, disk: Disk) -> Draft:
    from engine.results.shards import check_points, encode

    if name not in TABLES:
        raise MeasurementError(f"measurement `{task.kind}` returned a table `{name}` that nobody declared")
    check_points(name, table, task.size)
    encoded = encode(table)
    shard = Shard(encoded.sha256, len(encoded.content), encoded.rows)
    return Draft(name, _write(folder, task, name, encoded.content, disk), shard)


def write_draft_bytes(
    folder: Path, task: Task, name: str, content: bytes, *, disk: Disk | None = None
) -> Draft:
    """Write a shard that was made on another machine under a temporary name."""
    from engine.results.shards import row_count

    shard = Shard(hashlib.sha256(content).hexdigest(), len(content), row_count(content))
    return Draft(name, _write(folder, task, name, content, disk or Disk()), shard)


def _write(folder: Path, task: Task, name: str, content: Any, disk: Disk) -> Path:
    target = folder / RESULTS / name / f"{task.fingerprint}.parquet"
    try:
        disk.make_folder(target.parent)
    except OSError as err:
        raise write_failed(target, err) from err
    return write_temporary(target, [content], disk=disk)


def stored_tasks(folder: Path) -> dict[str, TaskRecord]:
    """What earlier runs recorded in a folder, for a plan; empty where nothing ran yet.

    Shards are only looked at for their size here; a run checks every byte.
    """
    if not (folder / registry.FILE).exists():
        return {}
    with ResultStore.open(folder, write=False) as store:
        records = store.records()
    return {
        key: record for key, record in records.items() if record.state != "done" or _present(folder, record)
    }


def _present(folder: Path, record: TaskRecord) -> bool:
    for table, shard in record.shards.items():
        try:
            size = (folder / RESULTS / table / f"{record.fingerprint}.parquet").stat().st_size
        except OSError:
            return False
        if size != shard.bytes:
            return False
    return True


def _open_registry(folder: Path, *, fresh: bool) -> Registry:
    try:
        found = Registry(folder, write=True)
        if fresh:
            found.tasks()  # damage may lie deeper than the first page
        return found
    except StoreError as err:
        if not fresh or err.data.get("errno"):
            raise
        registry.set_aside(folder)
        return Registry(folder, write=True)


def _require_run_folder(folder: Path) -> None:
    if not folder.exists():
        raise StoreError(f"there is no run folder `{folder}`", hint="`engine run SPEC` makes one")
    if not (folder / registry.FILE).exists():
        raise StoreError(
            f"`{folder}` is not a run folder: it has no `{registry.FILE}`", hint="`engine run SPEC` makes one"
        )


def _require_free_or_ours(folder: Path) -> None:
    """Refuse to write beside files that are not ours."""
    try:
        if not folder.exists() or (folder / registry.FILE).exists():
            return
        strange = [p.name for p in folder.iterdir() if p.name not in (LOCK_FILE, RESULTS)]
    except OSError as err:
        raise write_failed(folder, err) from err
    if any(not name.startswith(registry.FILE) for name in strange):
        raise StoreError(
            f"`{folder}` holds other files, such as `{min(strange)}`, and no `{registry.FILE}`",
            hint="choose an empty or new folder with `--runs`, or another `name`",
        )


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"`{path}` is not what was written: it is missing, cut short or changed",
        hint="`engine run` makes it again; everything else is kept",
    )
