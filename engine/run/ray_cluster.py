"""Run tasks on a Ray cluster: an optional extra behind the same protocol as one machine.

A task carries what it needs: measured tasks get one accelerator for themselves on a node labelled with the
device of the point (`ray start --labels hardware=h100-sxm-80gb`). Ray waits for ever where no node
matches, so that is checked before anything is submitted. Ray may run a task twice after a node is lost;
results come back as bytes and only the process that holds the store writes them, once.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.plan.document import plan_document, plan_from_document
from engine.results.store import write_draft_bytes
from engine.run.executor import Executor, Finished, Job, perform, time_limit_s
from engine.run.local import LocalExecutor

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.plan.point import Task

LABEL: Final = "hardware"
"""Key of the node label that names the device, as the catalogue does."""
_RETRIES: Final = 3
_IN_FLIGHT: Final = 64


@dataclass(frozen=True)
class Needs:
    """What a task asks of the node it runs on."""

    gpus: int = 0
    hardware: str | None = None
    """Device the node must be labelled with; any node when None."""

    @property
    def words(self) -> str:
        """The devices in words."""
        return f"{self.hardware} x {self.gpus}" if self.gpus > 1 else str(self.hardware)


@dataclass(frozen=True)
class _Answer:
    """What a node sends back."""

    seconds: float
    shards: tuple[tuple[str, bytes], ...]
    error: str | None
    tail: str | None


class RayExecutor:
    """Runs predictions and in-process measurements on a cluster, and everything else on this machine."""

    def __init__(self, *, address: str | None = None) -> None:
        self._address = address

    def execute(self, tasks: Sequence[Task], job: Job) -> Iterator[Finished]:
        """See `Executor`."""
        remote = [task for task in tasks if needs_of(task) is not None]
        here = [task for task in tasks if needs_of(task) is None]
        if remote:
            yield from self._on_cluster(remote, job)
        yield from LocalExecutor().execute(here, job)

    def _on_cluster(self, tasks: Sequence[Task], job: Job) -> Iterator[Finished]:
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            ray.init(address=self._address, log_to_driver=False, include_dashboard=False)
        try:
            refuse_infeasible([n for task in tasks if (n := needs_of(task))], ray.nodes())
            yield from _submit(ray, tasks, job)
        finally:
            if started:
                ray.shutdown()


def needs_of(task: Task) -> Needs | None:
    """What a task asks of a node; None when it belongs on this machine, where its files or endpoint are."""
    settings: Any = task.settings
    if task.kind == "analytical":
        return Needs()
    if task.kind == "live" and settings.target.kind == "local" and settings.target.device != "cpu":
        return Needs(task.stages, _device(task))
    if task.kind == "energy" and settings.source != "replay":
        return Needs(task.stages, _device(task))
    return None


def _device(task: Task) -> str:
    return task.spans[0][0].combination.labels["hardware"].split("{")[0]


def refuse_infeasible(needs: Sequence[Needs], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise `EnvironmentMissing` naming every device that no living node of the cluster offers."""
    alive = [node for node in nodes if node.get("Alive")]
    lacking = [n for n in needs if n.hardware is not None and not any(_offers(node, n) for node in alive)]
    missing = sorted({n.words for n in lacking})
    if not missing:
        return
    labels = sorted({node["Labels"][LABEL] for node in alive if LABEL in node.get("Labels", {})})
    names = ", ".join(f"`{name}`" for name in missing)
    label = f"{LABEL}={min(str(n.hardware) for n in lacking)}"
    raise EnvironmentMissing(
        f"no node of the cluster offers {names} with an accelerator "
        f"({len(alive)} nodes; labelled: {', '.join(labels) or 'none'})",
        hint=f"start nodes with `ray start --labels {label}`, or leave the device out",
    )


def _offers(node: Mapping[str, Any], needs: Needs) -> bool:
    labelled = node.get("Labels", {}).get(LABEL) == needs.hardware
    return bool(labelled and node.get("Resources", {}).get("GPU", 0) >= needs.gpus)


def _submit(ray: Any, tasks: Sequence[Task], job: Job) -> Iterator[Finished]:
    """Keep the cluster busy with a bounded number of tasks and yield each as it comes back."""
    document = ray.put(json.dumps(plan_document(job.plan)))
    waiting = deque(tasks)
    running: dict[Any, Task] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _IN_FLIGHT:
                task = waiting.popleft()
                running[_remote(ray, task).remote(document, task.fingerprint)] = task
                job.started(task)
            (reference,), _ = ray.wait(list(running), num_returns=1)
            yield _collected(ray, reference, running.pop(reference), job)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _remote(ray: Any, task: Task) -> Any:
    needs = needs_of(task) or Needs()
    options: dict[str, Any] = {"num_cpus": 1, "max_retries": _RETRIES}
    if needs.gpus:
        # A process of its own, so that nothing of the task before is left on the device.
        options |= {"num_gpus": needs.gpus, "max_calls": 1, "label_selector": {LABEL: needs.hardware}}
    return ray.remote(**options)(_on_node)


def _collected(ray: Any, reference: Any, task: Task, job: Job) -> Finished:
    try:
        answer: _Answer = ray.get(reference)
    except ray.exceptions.RayError as err:
        return Finished(task, 0.0, error=f"lost on the cluster: {type(err).__name__}", tail=str(err)[-4000:])
    drafts = [write_draft_bytes(job.folder, task, name, data, disk=job.disk) for name, data in answer.shards]
    return Finished(task, answer.seconds, tuple(drafts), error=answer.error, tail=answer.tail)


_plans: dict[str, Plan] = {}
"""On a node: plans made so far, by their text."""


def _on_node(document: str, fingerprint: str) -> _Answer:
    """Carry out one task on a node and return the bytes of its shards."""
    if document not in _plans:
        _plans.clear()
        _plans[document] = plan_from_document(json.loads(document), to_run=True)
    plan = _plans[document]
    task = next(task for task in plan.tasks if task.fingerprint == fingerprint)
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        with limited(time_limit_s(task.settings)):
            finished = perform(task, Job(plan, Path(scratch), Path(scratch)))
        shards = tuple((draft.table, draft.path.read_bytes()) for draft in finished.drafts)
    return _Answer(finished.seconds, shards, finished.error, finished.tail)


@contextmanager
def limited(limit_s: float | None) -> Iterator[None]:
    """Break a task off with a `MeasurementError` once it took longer; a lost node is Ray's business."""
    if limit_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise MeasurementError(f"took longer than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ray() -> Any:
    try:
        import ray
    except ImportError as err:
        raise EnvironmentMissing(
            "`--executor ray` needs `ray`, which is not installed",
            hint="pip install 'llm-experiment-engine[ray]'",
        ) from err
    return ray


_conforms: type[Executor] = RayExecutor
