"""Measured tasks that take turns: one works at a time, a repeat of each in turn."""

import os
import signal
import threading
import time

import pytest
from pydantic import ValidationError

from engine.errors import MeasurementError
from engine.plan.compile import compile_plan
from engine.results.store import ResultStore, stored_tasks
from engine.run.events import Note, RunStarted, TaskDone, TaskStarted
from engine.run.execute import run
from engine.run.executor import Job
from engine.run.local import LocalExecutor
from engine.run.process import Worker, _Limit
from engine.run.turns import Turns, groups
from tests.plan.specs import experiment
from tests.run.pretend_turns import PROGRAM


@pytest.fixture(autouse=True)
def own_devices(tmp_path, monkeypatch):
    """Devices are held by files in this folder: another run on this machine must not keep a test waiting."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def plan_of(log, batches, *, repeats=4, beside=(), **settings):
    live = {
        "kind": "live",
        "target": {"kind": "local", "device": "cpu", "weights": str(log)},
        "repeats": repeats,
        **settings,
    }
    return compile_plan(
        experiment(measurements=[*beside, live], sweep={"axes": {"workload.batch_size": list(batches)}})
    )


def go(plan, folder, **options):
    with ResultStore.open(folder, write=True) as store:
        return run(plan, store, executor=LocalExecutor(program=PROGRAM), **options)


def worked(log):
    """Whose repeats there were, in order; every one must have ended before the next began."""
    notes = [int(line) for line in log.read_text().split()]
    begins, ends = notes[::2], notes[1::2]
    assert begins == ends
    return begins


def times(plan, folder):
    with ResultStore.open(folder, write=False) as store:
        return [row["time_s"] for row in store.read(plan, "summary", columns=["time_s"]).to_pylist()]


def test_repeats_alternate_and_never_overlap(tmp_path):
    plan = plan_of(tmp_path / "log", (1, 2, 3), take_turns=True)
    summary = go(plan, tmp_path / "run")
    assert summary.done == 3
    # The others' turns are no part of a task's time: forecasts add these up.
    assert sum(task.seconds for task in stored_tasks(tmp_path / "run").values()) < summary.seconds
    order = worked(tmp_path / "log")
    assert [sorted(order[i : i + 3]) for i in range(0, 12, 3)] == [[1, 2, 3]] * 4
    assert times(plan, tmp_path / "run") == [4.0, 4.0, 4.0]


def test_without_turns_each_ends_before_the_next_begins(tmp_path):
    plan = plan_of(tmp_path / "log", (1, 2))
    go(plan, tmp_path / "run")
    order = worked(tmp_path / "log")
    assert order in ([1] * 4 + [2] * 4, [2] * 4 + [1] * 4)


def test_a_process_that_ends_costs_the_others_nothing(tmp_path):
    plan = plan_of(tmp_path / "log", (1, 9, 2), take_turns=True)
    summary = go(plan, tmp_path / "run")
    assert (summary.done, summary.failed) == (2, 1)
    assert summary.failures[0].error == "its process ended with code 3 before the task was done"
    assert sorted(worked(tmp_path / "log")) == [1] * 4 + [2] * 4 + [9] * 2


def test_time_in_which_others_work_does_not_count():
    killed = threading.Event()
    limit = _Limit(0.3, killed.set)
    limit.begin()
    with limit.paused():
        assert not killed.wait(0.5)
    assert killed.wait(10)
    assert limit.passed


def test_an_interrupt_keeps_what_each_has(tmp_path):
    log = tmp_path / "log"
    plan = plan_of(log, (1, 2, 3), repeats=1000, take_turns=True)

    def interrupt():
        end = time.monotonic() + 60
        while time.monotonic() < end and not (log.exists() and len(log.read_text().split()) > 12):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    summary = go(plan, tmp_path / "run")
    thread.join()
    assert (summary.exit_code, summary.done) == (130, 0)
    states = [task.state for task in stored_tasks(tmp_path / "run").values()]
    assert states == ["interrupted"] * 3
    assert all(value >= 1 for value in times(plan, tmp_path / "run"))


def test_who_waits_for_a_first_turn_does_not_start_after_an_interrupt(tmp_path):
    plan = plan_of(tmp_path / "log", (1,), take_turns=True)
    worker = Worker(Job(plan, tmp_path, tmp_path), program=("-c", "raise SystemExit(1)"))
    worker.interrupt()
    with pytest.raises(MeasurementError, match=r"^the run was stopped$"):
        worker.perform(plan.tasks[0])


def test_lines_say_whose_they_are_where_several_alternate(tmp_path):
    events = []
    go(plan_of(tmp_path / "log", (1, 2), take_turns=True), tmp_path / "run", on_event=events.append)
    labels = {event.label for event in events if isinstance(event, TaskStarted)}
    assert len(labels) == 2
    notes = [event.text for event in events if isinstance(event, Note)]
    assert sorted(notes) == sorted(f"{label}: a repeat" for label in labels for _ in range(4))
    events.clear()
    go(plan_of(tmp_path / "log", (3,), take_turns=True), tmp_path / "alone", on_event=events.append)
    assert [event.text for event in events if isinstance(event, Note)] == ["a repeat"] * 4


def test_the_rest_of_those_that_take_turns_is_not_forecast(tmp_path):
    events = []
    probe = {"kind": "device_probe", "device": "cpu", "take_turns": True}
    plan = plan_of(tmp_path / "log", (1, 2), take_turns=True, beside=[probe])
    go(plan, tmp_path / "run", on_event=events.append)
    assert next(event for event in events if isinstance(event, RunStarted)).points == 3
    progress = [event.progress for event in events if isinstance(event, TaskDone)]
    # The probe is of no point, and ends first; it counts as one of three all the same.
    assert [(p.points_done, p.points_total, p.remaining_s) for p in progress] == [
        (1, 3, None),
        (2, 3, None),
        (3, 3, 0),
    ]


def test_eight_models_at_most_are_in_memory_together(tmp_path):
    together = plan_of(tmp_path / "log", range(1, 11), take_turns=True)
    assert [len(group) for group in groups(together.tasks)] == [8, 2]
    alone = plan_of(tmp_path / "log", range(1, 4))
    assert [len(group) for group in groups(alone.tasks)] == [1, 1, 1]


def test_who_passes_on_waits_for_all_others():
    turns, seen = Turns(), []

    def work(name):
        with turns:
            for _ in range(3):
                seen.append(name)
                turns.pass_on()

    with turns:
        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for number, thread in enumerate(threads):
            thread.start()
            while len(turns._waiting) < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert "".join(seen) == "abcabcabc"


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"},
        {"kind": "local", "batching": "continuous"},
    ],
)
def test_what_cannot_pass_on_is_refused(target):
    with pytest.raises(ValidationError, match="`take_turns` needs a local target with `batching: static`"):
        experiment(measurements=[{"kind": "live", "target": target, "take_turns": True}])
