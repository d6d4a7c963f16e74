"""Results read from files are out of date when the files change, and only then."""

import os

import pytest

from engine.plan.compile import compile_plan
from engine.plan.inputs import inputs_digest
from tests.plan.specs import experiment


def task(**measurement):
    (found,) = compile_plan(experiment(measurements=[measurement])).tasks
    return found


@pytest.fixture
def logs(tmp_path):
    """A small tree of logs."""
    for name in ("b/power.csv", "a/log.txt"):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    return tmp_path / "logs"


READING = {"kind": "run_folder", "path": "logs"}


@pytest.mark.parametrize(
    "change",
    [
        lambda logs: (logs / "a/log.txt").write_text("longer than before"),
        lambda logs: (logs / "a/new.txt").write_text(""),
        lambda logs: (logs / "b/power.csv").unlink(),
        lambda logs: (logs / "b/power.csv").rename(logs / "a/power.csv"),
        lambda logs: os.utime(logs / "a/log.txt", (1, 1)),
    ],
    ids=["content", "added", "removed", "moved", "touched"],
)
def test_a_changed_tree_is_seen(tmp_path, logs, change):
    before = inputs_digest(task(**READING), tmp_path)
    assert before == inputs_digest(task(**READING), tmp_path)
    change(logs)
    assert inputs_digest(task(**READING), tmp_path) != before


def test_what_steers_a_measurement_is_compared_by_content(tmp_path):
    replay = task(kind="energy", source="replay", trace="trace.csv")
    trace = tmp_path / "trace.csv"
    trace.write_text("0,100\n")
    before = inputs_digest(replay, tmp_path)
    os.utime(trace, (1, 1))
    assert inputs_digest(replay, tmp_path) == before
    trace.write_text("0,101\n")
    assert inputs_digest(replay, tmp_path) != before


def test_files_that_are_not_there_and_predictions_have_no_digest(tmp_path):
    assert inputs_digest(task(**READING), tmp_path) is None
    assert inputs_digest(task(kind="analytical"), tmp_path) is None


TRAINING = {"kind": "training", "log_file": "train.log", "backend": "node", "devices_per_node": 8}


def test_a_training_run_depends_on_the_model_and_the_device_it_names(tmp_path):
    """Neither is a value of the plan's points: only their files tell that MFU is another by now."""
    (tmp_path / "train.log").write_text("throughput=2.0\n")
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "node.yaml").write_text("name: node\n")
    reading = task(**TRAINING, model="model.json")
    found = [inputs_digest(reading, tmp_path)]
    for name, text in (("model.json", '{"a": 1}'), ("hardware/node.yaml", "name: node\npeak: {}\n")):
        (tmp_path / name).write_text(text)
        found.append(inputs_digest(reading, tmp_path))
        os.utime(tmp_path / name, (1, 1))
        assert inputs_digest(reading, tmp_path) == found[-1]
    assert len(set(found)) == 3
    (tmp_path / "train.log").unlink()
    assert inputs_digest(reading, tmp_path) is None


def test_a_model_alone_is_compared_and_a_wrong_name_is_not_this_ones_concern(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    alone = {"kind": "training", "throughput": 2.0, "backend": "trn1"}
    before = inputs_digest(task(**alone, model="model.json"), tmp_path)
    (tmp_path / "model.json").write_text('{"a": 1}')
    assert inputs_digest(task(**alone, model="model.json"), tmp_path) not in (before, None)
    assert inputs_digest(task(**alone, model="no-such-model"), tmp_path) is None


def test_a_windows_spelling_of_the_folder_is_looked_into_too(tmp_path, logs):
    windows = task(kind="run_folder", path="logs\\a\\")
    before = inputs_digest(windows, tmp_path)
    assert before is not None
    (logs / "a/log.txt").write_text("longer than before")
    assert inputs_digest(windows, tmp_path) != before
