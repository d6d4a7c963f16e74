"""Running a plan: what is kept, what runs, in which order, and what a failure costs."""

import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from engine.errors import NothingSelected, StoreError
from engine.plan.compile import compile_plan
from engine.plan.diff import compare
from engine.results.store import ResultStore, stored_tasks
from engine.run.events import Note, RunStarted, TaskDone, TaskFailed, TaskStarted
from engine.run.execute import in_order, run
from engine.run.local import LocalExecutor, worth_workers
from engine.run.stored import open_run
from tests.plan.specs import DEVICE, device, experiment
from tests.results.runs import FailingDisk
from tests.run.pretend import PROGRAM


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "small"


def predictions(devices=2, batches=(1, 2, 4)):
    axes = {
        "hardware": [device(name=f"board-{n}") for n in range(devices)],
        "workload.batch_size": list(batches),
    }
    return compile_plan(experiment(sweep={"axes": axes}))


def metered(trace, batches=(1,), **settings):
    energy = {"kind": "energy", "source": "replay", "trace": trace, **settings}
    sweep = {"axes": {"workload.batch_size": list(batches)}}
    return compile_plan(experiment(measurements=[energy], sweep=sweep))


def go(plan, folder, **options):
    """A run with the pretend worker: its summary and events."""
    events = []
    with ResultStore.open(folder, write=True) as store:
        summary = run(plan, store, executor=LocalExecutor(program=PROGRAM), on_event=events.append, **options)
    return summary, events


def table(plan, folder, *columns):
    with ResultStore.open(folder, write=False) as store:
        return [tuple(row.values()) for row in store.read(plan, "summary", columns=list(columns)).to_pylist()]


def test_a_run_does_what_is_missing_and_keeps_the_rest(folder):
    plan = predictions()
    first, events = go(plan, folder)
    assert (first.done, first.kept, first.failed, first.skipped, first.points_done, first.exit_code) == (
        2, 0, 0, 0, 6, 0,
    )  # fmt: skip
    assert [type(event) for event in events] == [RunStarted, TaskStarted, TaskDone, TaskStarted, TaskDone]
    assert events[0] == RunStarted(tasks=2, points=6, kept=0)
    assert events[1].label == "analytical: 3 points of tiny on board-0"
    last = events[-1].progress
    assert (last.tasks_done, last.tasks_total, last.points_done, last.points_total, last.remaining_s) == (
        2,
        2,
        6,
        6,
        0,
    )
    again, events = go(plan, folder)
    assert (again.done, again.kept, again.exit_code) == (0, 2, 0)
    assert events == [RunStarted(tasks=0, points=0, kept=2)]


def test_a_grown_sweep_runs_only_what_is_new(folder):
    go(predictions(2), folder)
    summary, _ = go(predictions(3), folder)
    assert (summary.done, summary.kept) == (1, 2)


def test_the_folder_tells_what_was_done(folder, tmp_path):
    plan = predictions()
    spec = tmp_path / "spec.yaml"
    spec.write_text("version: 1 # as written\n")
    go(plan, folder, spec=spec, text=spec.read_text())
    assert (folder / "experiment.yaml").read_text() == "version: 1 # as written\n"
    stored = open_run(Path("small"), runs=tmp_path / "runs")
    with stored.store:
        assert stored.plan.fingerprint == plan.fingerprint
        assert stored.store.read(stored.plan, "summary").num_rows == 24
    assert stored.text == "version: 1 # as written\n"
    assert (stored.environment["exit_code"], stored.environment["seed"]) == (0, int(plan.fingerprint[:8], 16))
    assert stored.environment["started"] <= stored.environment["ended"]
    before = (folder / "environment.json").read_bytes()
    go(plan, folder)
    assert (folder / "environment.json").read_bytes() == before, "a run that did nothing leaves no trace"
    go(plan, folder, fresh=True)
    assert len(json.loads((folder / "environment.json").read_text())["sessions"]) == 2


def test_a_run_that_is_not_there_lists_those_that_are(folder, tmp_path):
    go(predictions(), folder)
    with pytest.raises(StoreError) as failure:
        open_run(Path("smal"), runs=tmp_path / "runs")
    assert failure.value.message == "there is no run `smal`"
    assert failure.value.hint == f"runs in `{tmp_path / 'runs'}`: small"


def test_the_resolved_spec_is_a_spec(folder):
    from engine.spec.document import read_document, validate
    from engine.spec.experiment import Experiment

    plan = compile_plan(
        experiment(
            model="llama-3.1-8b",
            description='quotes " and: colons\nand lines # all of it',
            sweep={"tie": [{"workload.batch_size": 1, "hardware": DEVICE}], "drop": []},
        )
    )
    go(plan, folder)
    document = read_document(folder / "resolved.yaml")
    assert validate(document, Experiment) == plan.experiment


def test_fresh_measures_everything_again(folder):
    plan = predictions()
    go(plan, folder)
    summary, _ = go(plan, folder, fresh=True)
    assert (summary.done, summary.kept) == (2, 0)


def test_kinds_can_be_left_out(folder):
    both = compile_plan(
        experiment(
            measurements=[{"kind": "analytical"}, {"kind": "energy", "source": "replay", "trace": "ok"}]
        )
    )
    summary, _ = go(both, folder, only=["analytical"])
    assert (summary.done, summary.skipped, summary.exit_code) == (1, 1, 0)
    with ResultStore.open(folder, write=True) as store, pytest.raises(NothingSelected) as failure:
        run(both, store, only=["training"])
    assert failure.value.message == "no measurement of kind `training` in this spec"


def test_what_was_read_is_read_again_when_the_files_change(folder, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("1")
    plan = metered("trace.csv")
    spec = tmp_path / "spec.yaml"
    assert go(plan, folder, spec=spec)[0].done == 1
    assert go(plan, folder, spec=spec)[0].kept == 1
    trace.write_text("2")
    changed = compare(plan, stored_tasks(folder), spec_folder=tmp_path).verdicts[0]
    assert (changed.fate, changed.why) == ("again", "files that `energy` reads changed")
    assert go(plan, folder, spec=spec)[0].done == 1
    trace.unlink()
    assert go(plan, folder, spec=spec)[0].kept == 1, "results stand where their source is gone"


# Measured tasks, each in a process of its own


def test_a_measured_task_runs_in_a_process_of_its_own(folder):
    plan = metered("say", batches=(3,))
    summary, events = go(plan, folder)
    assert summary.done == 1
    assert Note("warming up") in events
    assert table(plan, folder, "point", "source", "energy_j") == [(0, "metered", 3.0)]


def test_measured_tasks_run_in_random_order(folder, tmp_path):
    mark = tmp_path / "mark"
    plan = metered(f"mark:{mark}", batches=(1, 2, 3))
    _, events = go(plan, folder)
    order = [int(line) for line in mark.read_text().split()]
    assert sorted(order) == [1, 2, 3]
    started = [event.label for event in events if isinstance(event, TaskStarted)]
    assert [label.split("batch ")[1].split(",")[0] for label in started] == [str(n) for n in order]
    assert table(plan, folder, "point", "energy_j") == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_the_order_is_that_of_the_recorded_seed():
    tasks = metered("ok", batches=range(1, 21)).tasks
    orders = [[task.fingerprint for task in in_order(tasks, seed)] for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == {task.fingerprint for task in tasks}
    assert orders[0] != [task.fingerprint for task in tasks]
    predicted = predictions(5).tasks
    assert in_order(predicted, 5) == list(predicted)


@pytest.mark.parametrize(
    ("trace", "error", "tail"),
    [
        ("fail", "no power can be read (give a trace)", None),
        ("defect", "ZeroDivisionError: division by zero", "1 / 0"),
        (
            "crash",
            "its process was killed (SIGKILL); the system may have run out of memory",
            "the last words",
        ),
        ("exit", "its process ended with code 7 before the task was done", None),
    ],
)
def test_a_failed_task_is_a_row_and_the_run_goes_on(folder, trace, error, tail):
    energy = {"kind": "energy", "source": "replay"}
    plan = compile_plan(experiment(measurements=[{**energy, "trace": trace}, {**energy, "trace": "ok"}]))
    summary, events = go(plan, folder)
    assert (summary.done, summary.failed, summary.exit_code) == (1, 1, 4)
    (failed,) = [event for event in events if isinstance(event, TaskFailed)]
    assert failed.error == error
    assert (tail is None and failed.tail is None) or tail in failed.tail
    assert sorted(table(plan, folder, "status", "reason")) == [("failed", error), ("ok", None)]
    # Later runs leave it alone and say so, until they are asked to try again.
    again, _ = go(plan, folder)
    assert (again.done, again.kept, again.failed, again.exit_code) == (0, 1, 1, 4)
    assert (again.failures[0].earlier, again.failures[0].error) == (True, error)
    retried, _ = go(plan, folder, retry_failed=True)
    assert (retried.done, retried.kept, retried.failed) == (0, 1, 1)
    assert retried.failures[0].earlier is False


@pytest.mark.parametrize("trace", ["ok", "crash", "exit"])
def test_no_temporary_file_outlives_a_worker(folder, tmp_path, monkeypatch, trace):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    go(metered(trace), folder)
    assert list(scratch.iterdir()) == []


def test_what_a_failed_task_measured_is_kept(folder):
    plan = metered("partly")
    summary, _ = go(plan, folder)
    assert (summary.failed, summary.failures[0].error, summary.exit_code) == (
        1,
        "the second half is missing",
        4,
    )
    assert table(plan, folder, "phase", "status", "energy_j") == [("prefill", "ok", 7.0)]
    (shard,) = (folder / "results" / "summary").iterdir()
    shard.write_bytes(b"cut")
    assert table(plan, folder, "status", "reason") == [("failed", "the second half is missing")]


def test_what_a_library_prints_spoils_nothing(folder):
    summary, _ = go(metered("noise"), folder)
    assert (summary.done, summary.failed) == (1, 0)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_a_task_that_takes_too_long_is_stopped_with_its_children(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.run.turns.time_limit_s", lambda settings: 1.5)
    pids = tmp_path / "pids"
    summary, events = go(metered(f"hang:{pids}"), folder)
    assert (summary.done, summary.failed) == (0, 1)
    assert events[-1].error == "took longer than 1.5 s"
    told = pids.read_text().split() if pids.exists() else []
    wait_until(lambda: not any(alive(int(pid)) for pid in told))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_what_is_there_and_stops_the_rest(folder, tmp_path, number):
    pids = tmp_path / "pids"
    plan = compile_plan(
        experiment(
            measurements=[
                {"kind": "energy", "source": "replay", "trace": f"hang:{pids}"},
                {"kind": "analytical"},
            ]
        )
    )

    def interrupt():
        wait_until(pids.exists)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    summary, _ = go(plan, folder)
    thread.join()
    assert (summary.done, summary.skipped, summary.exit_code) == (1, 1, 130)
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))
    assert json.loads((folder / "environment.json").read_text())["sessions"][0]["exit_code"] == 130


# Workers for predictions


def test_workers_give_the_same_bytes(folder, tmp_path):
    plan = predictions(4)
    with ResultStore.open(folder, write=True) as store:
        summary = run(plan, store, executor=LocalExecutor(workers=2))
    assert (summary.done, summary.failed) == (4, 0)
    with ResultStore.open(tmp_path / "alone", write=True) as store:
        run(plan, store, executor=LocalExecutor(workers=0))
    assert shards(folder) == shards(tmp_path / "alone")


def test_a_file_beside_the_user_stands_in_for_no_library(folder, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    with ResultStore.open(folder, write=True) as store:
        summary = run(predictions(2), store, executor=LocalExecutor(workers=2))
    assert (summary.done, summary.failed) == (2, 0)


def shards(folder):
    return {path.name: path.read_bytes() for path in (folder / "results").rglob("*.parquet")}


def test_a_few_hundred_points_start_no_workers():
    assert worth_workers(predictions(7, range(1, 101)).tasks) == 0


def test_many_points_do(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    axes = {"workload.batch_size": list(range(1, 1001)), "workload.prompt_tokens": list(range(1, 1001))}
    tasks = compile_plan(experiment(sweep={"axes": axes})).tasks
    assert worth_workers(tasks) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert worth_workers(tasks) == 0


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(folder):
    plan = predictions(4)
    # The folder, two documents and the session take 1 + 3 x 3 calls, each task 4: the third task fails.
    with ResultStore.open(folder, write=True, disk=FailingDisk(1 + 9 + 2 * 4 + 2)) as store:
        with pytest.raises(StoreError, match="no space is left"):
            run(plan, store)
        assert len(store.done()) == 2
    summary, _ = go(plan, folder)
    assert (summary.done, summary.kept) == (2, 2)
