"""A worker process from the outside: it takes tasks one at a time and dies with whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import engine
from engine.errors import MeasurementError, StoreError
from engine.results.environment import without_secrets
from engine.results.registry import Shard
from engine.results.store import Draft
from engine.run.executor import Finished, Job

if TYPE_CHECKING:
    from engine.plan.point import Task

PROGRAM: Final = ("-m", "engine.run.worker")
"""What a worker's Python runs; its arguments are the run folder, the spec's and one for temporary files."""
_TAIL_BYTES: Final = 4_000
GRACE_S: Final = 5.0
"""How long something that was told to end may take."""
# A worker loads its libraries and makes the plan before the task, and its time limit, begin.
_START_S: Final = 120.0


class Worker:
    """A process that makes the plan again from the run folder and carries out tasks of it.

    It leads a process group of its own, so that stopping it stops what it started.
    """

    def __init__(
        self,
        job: Job,
        *,
        program: Sequence[str] = PROGRAM,
        pass_on: Callable[[], None] = lambda: None,
    ) -> None:
        """`pass_on` is called when a task lets others work, and returns when it is its turn again."""
        self._job = job
        self._program = program
        self._pass_on = pass_on
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._tail = _Tail()
        self._changing = threading.Lock()
        self._interrupted = False
        self.stopped = False

    def perform(self, task: Task, *, time_limit_s: float | None = None) -> Finished:
        """Carry out one task; a process that dies or takes too long is a failure of the task.

        Raises `StoreError` when the worker could not write.
        """
        begin = time.monotonic()
        process = self._running()
        limit = _Limit(time_limit_s, self._kill)
        limit.begin(grace_s=_START_S)
        try:
            reply = self._ask(process, task, limit)
        finally:
            limit.end()
        seconds = time.monotonic() - begin
        if reply is None:
            error = f"took longer than {time_limit_s:g} s" if limit.passed else _ending(process)
            self._end()
            return Finished(task, seconds, error=error, tail=self._tail.text())
        if reply.get("fatal"):
            raise StoreError(reply["error"], hint=reply.get("hint"))
        drafts = _drafts(reply)
        if self._interrupted:
            error = reply["error"] or "interrupted"
            return Finished(task, seconds, drafts, error=error, interrupted=True)
        if reply["error"] is None:
            return Finished(task, reply["seconds"], drafts)
        tail = reply["tail"] or self._tail.text()
        return Finished(task, reply["seconds"], drafts, error=reply["error"], tail=tail)

    def interrupt(self) -> None:
        """Ask a task for what it has by now; `perform`, in another thread, returns that within moments.

        A process that is not there yet is not started any more.
        """
        with self._changing:
            process, self._interrupted = self._process, True
        if process is None:
            return
        killer = threading.Timer(GRACE_S, self._kill)
        killer.daemon = True
        killer.start()
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGINT)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._changing:
            if self.stopped or self._interrupted:
                raise MeasurementError("the run was stopped")
            if self._process is None:
                self._process = self._start()
            return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        self._tail = _Tail()
        # Temporary files of a process that is killed would stay for ever if it alone knew of them.
        self._scratch = tempfile.mkdtemp(prefix="engine-")
        process = subprocess.Popen(
            # `-P`: a file in the user's folder must not stand in for a library of the same name.
            [sys.executable, "-P", *self._program, self._job.folder, self._job.spec_folder, self._scratch],
            env=_surroundings(self._scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._tail.follow(process.stderr)
        return process

    def _ask(self, process: subprocess.Popen[bytes], task: Task, limit: _Limit) -> dict[str, Any] | None:
        """The worker's answer, or None when it died; lines it says meanwhile are passed on."""
        if process.stdin is None or process.stdout is None:
            return None
        try:
            _tell(process.stdin, {"task": task.fingerprint})
        except OSError:
            return None
        return self._listen(process, task, limit)

    def _listen(self, process: subprocess.Popen[bytes], task: Task, limit: _Limit) -> dict[str, Any] | None:
        if process.stdout is None:
            return None
        try:
            for line in process.stdout:
                reply: dict[str, Any] = json.loads(line)
                if "say" in reply:
                    self._job.say(reply["say"])
                elif "started" in reply:
                    limit.begin()
                    self._job.started(task)
                elif "pass_on" in reply:
                    with limit.paused():
                        self._pass_on()
                    _tell(process.stdin, {"go": True})
                else:
                    return reply
        except (OSError, ValueError):
            return None
        return None

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._tail.finish()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def stop(self) -> None:
        """End the process and everything it started; a second call does nothing."""
        with self._changing:
            self.stopped = True
        self._end()


def _drafts(reply: dict[str, Any]) -> tuple[Draft, ...]:
    return tuple(
        Draft(d["table"], Path(d["path"]), Shard(d["sha256"], d["bytes"], d["rows"])) for d in reply["drafts"]
    )


def _tell(stream: IO[bytes] | None, data: dict[str, Any]) -> None:
    if stream is not None:
        stream.write(json.dumps(data).encode() + b"\n")
        stream.flush()


class _Limit:
    """Ends a task that works too long; counts anew each time it begins."""

    def __init__(self, seconds: float | None, kill: Callable[[], None]) -> None:
        self._seconds = seconds
        self._kill = kill
        self._timer: threading.Timer | None = None
        self._ends = 0.0
        self.passed = False

    def begin(self, *, grace_s: float = 0.0) -> None:
        if self._seconds is not None:
            self._run(self._seconds + grace_s)

    def _run(self, seconds: float) -> None:
        self.end()
        self._ends = time.monotonic() + seconds
        self._timer = threading.Timer(max(seconds, 0.0), self._pass)
        self._timer.daemon = True
        self._timer.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count."""
        left = self._ends - time.monotonic()
        self.end()
        yield
        if self._timer is not None:
            self._run(left)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._kill()


class _Tail:
    """The last lines a process printed, however much it prints."""

    def __init__(self) -> None:
        self._kept = b""
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes] | None) -> None:
        if stream is not None:
            self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
            self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while piece := os.read(stream.fileno(), 65_536):
                self._kept = (self._kept + piece)[-_TAIL_BYTES:]

    def finish(self) -> None:
        if self._thread is not None:
            self._thread.join(GRACE_S)

    def text(self) -> str | None:
        """What was printed, with secrets and control characters removed; None for nothing."""
        lines = self._kept.decode(errors="replace").splitlines()
        shown = (without_secrets("".join(c for c in line if c.isprintable() or c == "\t")) for line in lines)
        return "\n".join(shown).strip() or None


def _surroundings(scratch: str) -> dict[str, str]:
    """This process's environment, with this very engine imported first and temporary files in `scratch`."""
    here = str(Path(engine.__file__).resolve().parents[1])
    others = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([here, others]) if others else here
    return {**os.environ, "PYTHONPATH": path, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)}


def _ending(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return "its process closed its output and went on"
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed ({name})" + (
            "; the system may have run out of memory" if name == "SIGKILL" else ""
        )
    return f"its process ended with code {code} before the task was done"
