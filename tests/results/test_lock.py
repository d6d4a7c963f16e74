"""One writer per folder; the second one is told who is first; a dead one blocks nobody."""

import os
import re
import signal
import subprocess
import sys

import pytest

from engine.errors import StoreBusy
from engine.results.lock import FolderLock
from engine.results.store import ResultStore

HOLD = """
import sys, time
from pathlib import Path
from engine.results.store import ResultStore
store = ResultStore.open(Path(sys.argv[1]), write=True)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to a run folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run"), "--token=hunter2"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_told_who_is_first(tmp_path, holder):
    with pytest.raises(StoreBusy) as failure:
        ResultStore.open(tmp_path / "run", write=True)
    expected = (
        rf"`{re.escape(str(tmp_path / 'run'))}` is in use by process {holder.pid} on {os.uname().nodename} "
        rf"since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC: -c {re.escape(str(tmp_path / 'run'))} --token=\*\*\*"
    )
    assert re.fullmatch(expected, failure.value.message)
    assert failure.value.hint == "wait for it to end, or choose another folder with `--runs`"
    assert (failure.value.exit_code, failure.value.data["pid"]) == (3, holder.pid)


def test_readers_are_let_in_meanwhile(tmp_path, holder):
    with ResultStore.open(tmp_path / "run", write=False) as store:
        assert store.done() == {}


def test_a_killed_holder_blocks_nobody(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with ResultStore.open(tmp_path / "run", write=True) as store:
        assert store.done() == {}


def test_closing_lets_the_next_one_in(tmp_path):
    first = ResultStore.open(tmp_path / "run", write=True)
    with pytest.raises(StoreBusy, match=f"process {os.getpid()} "):
        ResultStore.open(tmp_path / "run", write=True)
    first.close()
    first.close()
    ResultStore.open(tmp_path / "run", write=True).close()


def test_a_failed_opening_holds_nothing(tmp_path):
    ResultStore.open(tmp_path / "run", write=True).close()
    (tmp_path / "run" / "registry.sqlite").write_bytes(b"nonsense" * 1000)
    for _ in range(2):
        with pytest.raises(Exception, match="cannot be read"):
            ResultStore.open(tmp_path / "run", write=True)


def test_a_holder_without_a_note_is_still_a_holder(tmp_path):
    lock = FolderLock(tmp_path / ".lock")
    (tmp_path / ".lock").write_text("{half")
    with pytest.raises(StoreBusy) as failure:
        FolderLock(tmp_path / ".lock", what="device gpu-0")
    assert failure.value.message == "`device gpu-0` is in use by another run"
    lock.release()
