"""The process behind `Worker`: `python -m engine.run.worker RUN_FOLDER SPEC_FOLDER SCRATCH`.

It reads one task a line as JSON, writes shards under temporary names, and answers with one line of JSON.
When its input closes - because whoever started it is gone - it removes the scratch folder, which is its
own, and ends itself and everything it started.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import IO, Any

from engine.errors import EngineError, StoreError
from engine.plan.document import plan_from_document
from engine.results.documents import PLAN, read_json
from engine.run.executor import Finished, Job, perform


def main(folder: Path, spec_folder: Path, scratch: Path) -> None:
    """Serve tasks until the input closes."""
    answers = _private_stdout()
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, scratch), daemon=True).start()
    plan = plan_from_document(read_json(folder / PLAN), to_run=True)
    tasks = {task.fingerprint: task for task in plan.tasks}
    job = Job(
        plan,
        folder,
        spec_folder,
        say=lambda line: _answer(answers, {"say": line}),
        pass_on=partial(_pass_on, answers, requests),
    )
    while (line := requests.get()) is not None:
        asked = json.loads(line)
        if "task" not in asked:
            continue  # the turn of a task that was interrupted meanwhile
        task = tasks[asked["task"]]
        _answer(answers, {"started": task.fingerprint})
        try:
            _answer(answers, _as_data(perform(task, job)))
        except StoreError as err:
            _answer(answers, {"fatal": True, "error": err.message, "hint": err.hint})


def _private_stdout() -> IO[bytes]:
    """The pipe for answers; what libraries print goes to stderr instead, where it cannot spoil one."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _pass_on(answers: IO[bytes], requests: queue.SimpleQueue[str | None]) -> None:
    """Let other measurements of this machine work; returns when it is our turn again."""
    _answer(answers, {"pass_on": True})
    requests.get()


def _listen(requests: queue.SimpleQueue[str | None], scratch: Path) -> None:
    for line in sys.stdin:
        requests.put(line)
    shutil.rmtree(scratch, ignore_errors=True)
    if os.getpid() == os.getpgrp():
        os.killpg(0, signal.SIGKILL)
    requests.put(None)


def _answer(stream: IO[bytes], data: dict[str, Any]) -> None:
    stream.write(json.dumps(data, allow_nan=False).encode() + b"\n")
    stream.flush()


def _as_data(finished: Finished) -> dict[str, Any]:
    return {
        "seconds": finished.seconds,
        "error": finished.error,
        "tail": finished.tail,
        "drafts": [
            {
                "table": draft.table,
                "path": str(draft.path),
                "sha256": draft.shard.sha256,
                "bytes": draft.shard.bytes,
                "rows": draft.shard.rows,
            }
            for draft in finished.drafts
        ],
    }


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:4]))
    except EngineError as err:
        sys.exit(err.message)
