"""Which task is done, by which shards, with which checksum: one SQLite file in a run folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreError
from engine.plan.stored import Description, State, StoredTask
from engine.results.atomic import write_failed
from engine.results.environment import utc_now

FILE: Final = "registry.sqlite"
FORMAT: Final = 1
_BATCH: Final = 500  # parameters of one statement; SQLite refuses more than 999 in old builds

_SYSTEM_ERRORS: Final = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_READONLY": errno.EACCES,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_PERM": errno.EACCES,
    "SQLITE_IOERR": errno.EIO,
}
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
    fingerprint TEXT PRIMARY KEY, state TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    names TEXT NOT NULL, result_version INTEGER NOT NULL, points INTEGER NOT NULL, settings TEXT NOT NULL,
    sections TEXT NOT NULL, error TEXT, tail TEXT, recorded TEXT NOT NULL, seconds REAL,
    inputs TEXT
) WITHOUT ROWID;
CREATE TABLE shards (
    fingerprint TEXT NOT NULL REFERENCES tasks ON DELETE CASCADE, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (fingerprint, name)
) WITHOUT ROWID;
CREATE TABLE contents (digest TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Shard:
    """One table of one task as a file."""

    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class TaskRecord(StoredTask):
    """A recorded task with its shards by table."""

    shards: Mapping[str, Shard] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    state: State
    error: str | None
    """Why it failed; None when it did not."""
    shards: Mapping[str, Shard]
    """Its tables."""


class Registry:
    """The open database; every method that changes it is one transaction."""

    def __init__(self, folder: Path, *, write: bool, glance: bool = False) -> None:
        """Open the registry of a folder; raises `StoreError` when it cannot be used.

        A `glance` reads at once and closes: it leaves no files beside the registry and is faster.
        """
        self.path = folder / FILE
        self._folder = folder
        try:
            self._connection = self._glance() if glance else self._connect(write)
        except sqlite3.Error as err:
            raise self._explained(err) from err

    def _glance(self) -> sqlite3.Connection:
        # With nothing in the log beside it, the file alone is the database. Should a run begin within this
        # millisecond, the worst is an error, and the next glance is right.
        log = self.path.with_name(FILE + "-wal")
        if log.exists() and log.stat().st_size:
            return self._connect(write=False)
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True)
        self._check_format(connection)
        return connection

    def _connect(self, write: bool) -> sqlite3.Connection:
        if write:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            # A process killed at any instant loses nothing; after a power cut the last tasks may be made
            # again, because a shard counts only once it is registered.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._prepare(connection)
            return connection
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            self._check_format(connection)
        except sqlite3.OperationalError:
            connection.close()
            if os.access(self._folder, os.W_OK):
                raise
            # A reader of a WAL database must write beside it; where it may not, nobody else does either.
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True)
            self._check_format(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._check_format(connection)
            return
        statements = [s for s in _SCHEMA.split(";") if s.strip()]
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
        connection.execute("COMMIT")

    def _check_format(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        found = row[0] if row else "unknown"
        if found != str(FORMAT):
            connection.close()
            newer = found.isdigit() and int(found) > FORMAT
            raise StoreError(
                f"`{self._folder}` has store format {found}, this engine reads {FORMAT}",
                hint="update the engine, or choose another folder with `--runs`"
                if newer
                else "choose another folder with `--runs`",
            )

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as err:
            self._roll_back()
            raise self._explained(err) from err
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def record_done(
        self,
        fingerprint: str,
        described: Description,
        shards: Mapping[str, Shard],
        *,
        seconds: float | None,
        inputs: str | None,
    ) -> None:
        """Note a finished task and its shards."""
        with self._transaction() as connection:
            self._put(connection, fingerprint, "done", described, None, None, seconds, inputs)
            self._put_shards(connection, fingerprint, shards)

    def record_failed(
        self,
        fingerprint: str,
        described: Description,
        shards: Mapping[str, Shard],
        *,
        error: str,
        tail: str | None,
        seconds: float | None,
        state: State = "failed",
    ) -> None:
        """Note a failed or interrupted task and the shards of what it had measured by then."""
        with self._transaction() as connection:
            self._put(connection, fingerprint, state, described, error, tail, seconds, None)
            self._put_shards(connection, fingerprint, shards)

    def _put_shards(
        self, connection: sqlite3.Connection, fingerprint: str, shards: Mapping[str, Shard]
    ) -> None:
        connection.executemany(
            "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
            [(fingerprint, name, s.sha256, s.bytes, s.rows) for name, s in sorted(shards.items())],
        )

    def _put(
        self,
        connection: sqlite3.Connection,
        fingerprint: str,
        state: State,
        described: Description,
        error: str | None,
        tail: str | None,
        seconds: float | None,
        inputs: str | None,
    ) -> None:
        d = described
        connection.execute("DELETE FROM shards WHERE fingerprint = ?", (fingerprint,))
        connection.execute(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fingerprint, state, d.kind, d.subject, d.names, d.result_version, d.points,
                _json(d.settings), _json(d.sections), error, tail, utc_now(), seconds, inputs,
            ),
        )  # fmt: skip
        connection.executemany(
            "INSERT OR IGNORE INTO contents VALUES (?, ?)",
            [(digest, _json(content)) for digest, content in sorted(d.contents.items())],
        )

    def give_up(self, fingerprints: Iterable[str]) -> None:
        """Make tasks count as never run; their shards stay on disk until they are replaced."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE tasks SET state = 'stale' WHERE fingerprint = ?", [(f,) for f in fingerprints]
            )

    def tasks(self, fingerprints: Sequence[str] | None = None) -> dict[str, TaskRecord]:
        """Recorded tasks by fingerprint, all of them or those named."""
        try:
            return self._tasks(fingerprints)
        except (sqlite3.Error, ValueError, KeyError) as err:
            raise self._explained(err) from err

    def states(self) -> dict[str, State]:
        """What became of every recorded task, by fingerprint; nothing else of it is read."""
        try:
            return dict(self._select("tasks", None, "fingerprint, state"))
        except sqlite3.Error as err:
            raise self._explained(err) from err

    def outcomes(self, fingerprints: Sequence[str]) -> dict[str, Outcome]:
        """What became of these tasks; those that never ran are absent."""
        try:
            shards = self._shards(fingerprints)
            rows = list(self._select("tasks", fingerprints, "fingerprint, state, error"))
        except sqlite3.Error as err:
            raise self._explained(err) from err
        return {key: Outcome(state, error, shards.get(key, {})) for key, state, error in rows}

    def _shards(self, fingerprints: Sequence[str] | None) -> dict[str, dict[str, Shard]]:
        shards: dict[str, dict[str, Shard]] = {}
        for key, name, sha256, size, rows in self._select("shards", fingerprints):
            shards.setdefault(key, {})[name] = Shard(sha256, size, rows)
        return shards

    def _tasks(self, fingerprints: Sequence[str] | None) -> dict[str, TaskRecord]:
        shards = self._shards(fingerprints)
        contents = {
            digest: json.loads(content)
            for digest, content in self._connection.execute("SELECT digest, content FROM contents")
        }
        found: dict[str, TaskRecord] = {}
        for row in self._select("tasks", fingerprints):
            (key, state, kind, subject, names, version, points, settings, sections) = row[:9]
            error, tail, recorded, seconds, inputs = row[9:]
            found[key] = TaskRecord(
                key, state, kind, subject, names, version, points, json.loads(settings),
                {
                    section: {label: contents[digest] for label, digest in labels.items()}
                    for section, labels in json.loads(sections).items()
                },
                error, tail, recorded, seconds, inputs, shards.get(key, {}),
            )  # fmt: skip
        return found

    def _select(
        self, table: str, fingerprints: Sequence[str] | None, columns: str = "*"
    ) -> Iterator[tuple[Any, ...]]:
        if fingerprints is None:
            yield from self._connection.execute(f"SELECT {columns} FROM {table}")  # noqa: S608 - our own names
            return
        for start in range(0, len(fingerprints), _BATCH):
            some = fingerprints[start : start + _BATCH]
            marks = ",".join("?" * len(some))
            query = f"SELECT {columns} FROM {table} WHERE fingerprint IN ({marks})"  # noqa: S608 - marks only
            yield from self._connection.execute(query, some)

    def _explained(self, err: Exception) -> StoreError:
        """What an error of the database means to the user."""
        name = getattr(err, "sqlite_errorname", "")
        for start, number in _SYSTEM_ERRORS.items():
            if name.startswith(start):
                return write_failed(self.path, OSError(number, os.strerror(number)))
        return StoreError(
            f"`{self.path}` cannot be read: {err}",
            hint="put a copy of it back, or run with `--fresh`, which sets it aside; shards stay",
        )


def set_aside(folder: Path) -> Path | None:
    """Rename a registry that cannot be read and return its new name; None when there is none."""
    path = folder / FILE
    if not path.exists():
        return None
    number = 1
    while (target := path.with_name(f"{FILE}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(target)
        for ending in ("-wal", "-shm"):
            path.with_name(FILE + ending).unlink(missing_ok=True)
    except OSError as err:
        raise write_failed(path, err) from err
    return target


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
