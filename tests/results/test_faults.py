"""A write that fails, whichever it is, costs at most the task under way, and says what to do."""

import errno
import sqlite3

import pytest

from engine.errors import StoreError
from engine.results.registry import Registry
from engine.results.store import ResultStore
from tests.results.runs import EXPECTED, FailingDisk, fill, rows, the_plan

REASONS = {
    errno.ENOSPC: ("no space is left", "free some space and run again: what is finished is kept"),
    errno.EIO: ("the disk reports an error", "check the disk, then run again: what is finished is kept"),
    errno.EACCES: ("permission is denied", "make the folder writable, or choose another with `--runs`"),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with `--runs`"),
}


def bytes_of(folder):
    """Every shard by name."""
    return {
        path.name: path.read_bytes() for path in sorted((folder / "results").rglob("*")) if path.is_file()
    }


def attempt(folder, disk):
    """Fill a store on a disk that fails somewhere; the error, or None when it never failed."""
    try:
        with ResultStore.open(folder, write=True, disk=disk) as store:
            fill(store, the_plan())
            store.write_document("plan.json", "{}\n")
    except StoreError as err:
        return err
    return None


@pytest.mark.parametrize("once", [True, False], ids=["once", "from-then-on"])
@pytest.mark.parametrize("number", REASONS, ids=errno.errorcode.get)
def test_a_failing_disk_loses_nothing(tmp_path, number, once):
    plan = the_plan()
    assert attempt(tmp_path / "whole", FailingDisk(0)) is None
    expected = bytes_of(tmp_path / "whole")
    for call in range(1, 100):
        folder = tmp_path / f"fails-{call}"
        disk = FailingDisk(call, number, once=once)
        failure = attempt(folder, disk)
        if failure is None:
            break
        reason, hint = REASONS[number]
        assert failure.message.startswith("cannot write `")
        assert failure.message.endswith(f"`: {reason}")
        assert (failure.hint, failure.exit_code) == (hint, 3)
        with ResultStore.open(folder, write=True) as store:
            kept = store.done()
            read = rows(store, plan)
            assert read == [row for row in EXPECTED if plan.tasks[row[0] // 3].fingerprint in kept]
            fill(store, plan)
            store.write_document("plan.json", "{}\n")
        assert bytes_of(folder) == expected
    # open: 1 folder; each of 2 tasks: folder, write, rename, sync; the document: write, rename, sync.
    assert call == 1 + 2 * 4 + 3 + 1


class FailingConnection:
    """A database that refuses one statement that writes."""

    def __init__(self, connection, fail_at, error):
        self._connection = connection
        self._fail_at = fail_at
        self._error = error
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def _count(self, statement):
        if statement.startswith("SELECT"):
            return
        self.calls += 1
        if self.calls == self._fail_at:
            raise self._error

    def execute(self, statement, *values):
        self._count(statement)
        return self._connection.execute(statement, *values)

    def executemany(self, statement, values):
        self._count(statement)
        return self._connection.executemany(statement, values)


def failing(call, error):
    """An opening of the database whose connection fails at a call."""
    connect = Registry._connect
    return lambda registry, write: FailingConnection(connect(registry, write), call, error)


def database_error(name):
    error = sqlite3.OperationalError(f"told as {name}")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SQLITE_FULL", "no space is left"),
        ("SQLITE_IOERR_WRITE", "the disk reports an error"),
        ("SQLITE_READONLY_DBMOVED", "permission is denied"),
    ],
)
def test_a_failing_registry_loses_nothing(tmp_path, monkeypatch, name, reason):
    plan = the_plan()
    assert attempt(tmp_path / "whole", FailingDisk(0)) is None
    for call in range(1, 100):
        folder = tmp_path / f"fails-{call}"
        ResultStore.open(folder, write=True).close()
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "_connect", failing(call, database_error(name)))
            failure = attempt(folder, FailingDisk(0))
        if failure is None:
            break
        assert failure.message == f"cannot write `{folder / 'registry.sqlite'}`: {reason}"
        with ResultStore.open(folder, write=True) as store:
            fill(store, plan)
            assert rows(store, plan) == EXPECTED
        assert bytes_of(folder) == bytes_of(tmp_path / "whole")
    # Each task: begin, clear, task, contents, shards, commit.
    assert call == 2 * 6 + 1


def test_a_document_is_old_or_new_and_never_half(tmp_path):
    with ResultStore.open(tmp_path / "run", write=True) as store:
        store.write_document("plan.json", "old\n")
        for call in (1, 2):
            store.disk = FailingDisk(call)
            with pytest.raises(StoreError):
                store.write_document("plan.json", "new and longer\n")
            assert (tmp_path / "run" / "plan.json").read_text() == "old\n"
