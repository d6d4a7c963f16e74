"""A list of runs says what lies there, whatever state it is in, and reads nothing twice."""

import datetime as dt
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.results import listing
from engine.results.documents import write_documents, write_session
from engine.results.listing import RunList, failures, files_of, read_entry
from engine.results.lock import FolderLock, holder_of
from engine.results.store import ResultStore
from tests.results.runs import fill, the_plan

SESSION = {
    "id": "1",
    "host": "secret-host",
    "started": "2026-03-01T10:00:00Z",
    "ended": "2026-03-01T11:30:00Z",
    "spec_repository": {"commit": "0123456789abcdef", "dirty": True},
}


def make_run(folder: Path, *, session=SESSION, done=True, text="name: small\n", plan=None, **changes) -> Path:
    """A run of two tasks with three points each, finished unless told otherwise."""
    plan = plan or the_plan(**changes)
    with ResultStore.open(folder, write=True) as store:
        write_documents(store, plan, text=text)
        write_session(store, session)
        if done:
            fill(store, plan)
    return folder


def write_report(folder: Path, verdict: str) -> None:
    page = folder / "report" / "report.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f'<!doctype html>\n<head><meta name="description" content="{verdict}">\n')


def only(folder: Path):
    (entry,) = RunList(folder).entries()
    return entry


def test_a_finished_run_says_what_it_is(tmp_path):
    folder = make_run(tmp_path / "one", tags=["nightly", "chat"], description="What it costs")
    write_report(folder, "Best is &#39;board&#39;, 5 &lt; 6.")
    entry = only(tmp_path)
    assert (entry.id, entry.name, entry.state, entry.reason) == ("one", "one", "finished", None)
    assert (entry.points, entry.tasks, entry.done, entry.failed) == (6, 2, 2, 0)
    assert entry.kinds == ("analytical",)
    assert entry.tags == ("nightly", "chat")
    assert entry.devices == ("board", "other")
    assert entry.models == ("tiny",)
    assert entry.when == dt.datetime(2026, 3, 1, 11, 30, tzinfo=dt.UTC)
    assert (entry.commit, entry.dirty) == ("0123456789abcdef", True)
    assert (entry.verdict, entry.report) == ("Best is 'board', 5 < 6.", "there")


def test_the_latest_come_first_and_the_undated_last(tmp_path):
    for name, when in (("b", "2026-03-01"), ("a", "2026-03-01"), ("new", "2026-03-02"), ("none", None)):
        times = {"started": f"{when}T10:00:00Z" if when else None, "ended": None}
        make_run(tmp_path / name, session={**SESSION, **times})
    assert [entry.name for entry in RunList(tmp_path).entries()] == ["new", "a", "b", "none"]


def test_failed_and_missing_tasks_are_told_apart(tmp_path):
    plan = the_plan()
    for name, states in (("all", "ff"), ("some", "df"), ("part", "d-"), ("begun", "f-"), ("none", "--")):
        with ResultStore.open(tmp_path / name, write=True) as store:
            write_documents(store, plan, text=None)
            for task, state in zip(plan.tasks, states, strict=True):
                if state == "d":
                    store.record(task, {})
                elif state == "f":
                    store.record_failure(task, "out of memory")
    found = {entry.name: (entry.state, entry.done, entry.failed) for entry in RunList(tmp_path).entries()}
    assert found == {
        "all": ("failed", 0, 2),
        "some": ("partly failed", 1, 1),
        "part": ("unfinished", 1, 0),
        "begun": ("unfinished", 0, 1),
        "none": ("unfinished", 0, 0),
    }
    assert list(failures(read_entry(tmp_path / "some")).values()) == ["out of memory"]


def test_tasks_of_an_earlier_plan_do_not_count(tmp_path):
    make_run(tmp_path / "one")
    with ResultStore.open(tmp_path / "one", write=True) as store:
        write_documents(store, the_plan(workload={"prompt_tokens": 77}), text=None)
    entry = only(tmp_path)
    assert (entry.state, entry.tasks, entry.done) == ("unfinished", 2, 0)


def test_a_run_is_running_while_somebody_holds_it(tmp_path):
    folder = make_run(tmp_path / "one", done=False)
    listed = RunList(tmp_path)
    assert listed.entries()[0].state == "unfinished"
    lock = FolderLock(folder / ".lock")
    (entry,) = listed.entries()
    assert (entry.state, entry.holder["pid"]) == ("running", os.getpid())
    lock.release()
    assert listed.entries()[0].state == "unfinished"


def test_a_killed_holder_holds_nothing(tmp_path):
    note = {"pid": 2**22 + 1, "host": os.uname().nodename, "since": "", "command": ""}
    (tmp_path / ".lock").write_text(json.dumps(note))
    assert holder_of(tmp_path / ".lock") is None
    # The number was given to another process since: the kernel knows that it holds nothing.
    (tmp_path / ".lock").write_text(json.dumps({**note, "pid": os.getpid()}))
    assert holder_of(tmp_path / ".lock") is None
    assert holder_of(tmp_path / "nothing") is None


def test_a_run_that_has_only_just_begun_is_running(tmp_path):
    with ResultStore.open(tmp_path / "one", write=True):
        entry = only(tmp_path)
        assert (entry.state, entry.reason, entry.points) == ("running", None, None)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("plan.json", None, "`plan.json` is missing"),
        ("plan.json", b"{}", "`plan.json` is not what was written"),
        ("plan.json", b'{"format": 1, "na', "Unterminated string starting at"),
        ("plan.json", b"[" * 100_000, "cannot be read: "),
        ("plan.json", b"\xff\xfe\xff", "cannot be read: "),
        ("registry.sqlite", None, "`registry.sqlite` is missing: which results count is not known"),
        ("registry.sqlite", b"not a database" * 100, "cannot be read: file is not a database"),
    ],
)
def test_a_damaged_run_is_a_row_with_its_reason(tmp_path, name, content, reason):
    folder = make_run(tmp_path / "one")
    make_run(tmp_path / "two")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    found = {entry.name: entry for entry in RunList(tmp_path).entries()}
    assert found["one"].state == "damaged"
    assert reason in found["one"].reason
    assert found["two"].state == "finished"


def test_a_cut_plan_is_noticed_even_in_its_last_part(tmp_path):
    folder = make_run(tmp_path / "one")
    plan = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(plan[:-20])
    assert only(tmp_path).state == "damaged"


def test_another_format_of_the_registry_is_a_reason(tmp_path):
    folder = make_run(tmp_path / "one")
    connection = sqlite3.connect(folder / "registry.sqlite")
    connection.execute("UPDATE meta SET value = '7'")
    connection.commit()
    connection.close()
    assert only(tmp_path).reason == f"`{folder}` has store format 7, this engine reads 1"


def test_values_of_wrong_types_count_as_absent(tmp_path):
    folder = make_run(tmp_path / "one")
    plan = json.loads((folder / "plan.json").read_text())
    plan["points"] = "many"
    plan["tasks"] = [7, {"fingerprint": ["x"]}]
    plan["entries"] = []
    plan["experiment"] = {"tags": 5, "measurements": [1, {"kind": {}}], "report": [], "model": {"name": "m"}}
    (folder / "plan.json").write_text(json.dumps(plan))
    strange = {"started": 5, "ended": "yesterday", "spec_repository": "x", "host": {"a": []}}
    (folder / "environment.json").write_text(json.dumps({"sessions": [strange]}))
    entry = only(tmp_path)
    assert (entry.state, entry.points, entry.tags, entry.kinds) == ("unfinished", None, (), ())
    assert (entry.models, entry.devices, entry.when, entry.commit) == (("m",), (), None, None)


def test_names_of_entries_are_those_of_the_whole_plan(tmp_path):
    hostile = 'a": {\n   "b'
    folder = make_run(tmp_path / "one")
    plan = json.loads((folder / "plan.json").read_text())
    plan["entries"]["hardware"] = {hostile: {}, 'quote"d': {"x": {"deep": {}}}, "plain": {"y": {}}}
    (folder / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")
    assert only(tmp_path).devices == (hostile, 'quote"d', "plain", "board", "other")


def test_a_report_from_before_the_results_is_stale(tmp_path):
    folder = make_run(tmp_path / "one")
    write_report(folder, "Old.")
    os.utime(folder / "report" / "report.html", (1, 1))
    assert (only(tmp_path).report, only(tmp_path).verdict) == ("stale", "Old.")
    write_report(folder, "New.")
    assert (only(tmp_path).report, only(tmp_path).verdict) == ("there", "New.")


def test_what_did_not_change_is_not_read_again(tmp_path, monkeypatch):
    for name in ("one", "two"):
        make_run(tmp_path / name)
    read: list[str] = []
    monkeypatch.setattr(
        listing, "read_entry", lambda folder: (read.append(folder.name), read_entry(folder))[1]
    )
    listed = RunList(tmp_path)
    before = listed.entries()
    assert sorted(read) == ["one", "two"]
    assert listed.entries() == before
    assert len(read) == 2
    write_report(tmp_path / "one", "Now there is one.")
    assert [entry.verdict for entry in listed.entries()] == ["Now there is one.", None]
    assert read[2:] == ["one"]


def test_what_a_run_has_written_a_moment_ago_is_seen(tmp_path):
    plan = the_plan()
    with ResultStore.open(tmp_path / "one", write=True) as store:
        write_documents(store, plan, text=None)
        listed = RunList(tmp_path)
        assert (listed.entries()[0].done, listed.entries()[0].tasks) == (0, 2)
        store.record(plan.tasks[0], {})
        assert listed.entries()[0].done == 1
        store.record_failure(plan.tasks[1], "no")
        assert (listed.entries()[0].failed, listed.entries()[0].state) == (1, "running")
    assert listed.entries()[0].state == "partly failed"


def test_no_table_is_opened(tmp_path):
    make_run(tmp_path / "one")
    code = (
        "import sys; from pathlib import Path; from engine.results.listing import RunList\n"
        "entries = RunList(Path(sys.argv[1])).entries()\n"
        "print(entries[0].state, sorted({'pyarrow', 'pandas', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "finished []\n"


def test_looking_leaves_no_trace(tmp_path):
    folder = make_run(tmp_path / "one")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    only(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_folders_are_no_runs(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").write_text("")
    assert RunList(tmp_path).entries() == ()


def test_ids_are_safe_in_addresses(tmp_path):
    make_run(tmp_path / "<b>x y")
    entry = only(tmp_path)
    assert entry.name == "<b>x y"
    assert entry.id == listing.plain_id("<b>x y")
    assert listing.plain_id("<b>x y").startswith("run-")


def test_files_leave_out_what_is_hidden_or_leads_away(tmp_path):
    folder = make_run(tmp_path / "one")
    (folder / "away").symlink_to("/etc/passwd")
    (folder / "gone").symlink_to(tmp_path, target_is_directory=True)
    names = [name for name, _ in files_of(folder)]
    assert names[:3] == ["environment.json", "experiment.yaml", "plan.json"]
    assert not {"away", ".lock"} & set(names)
    assert not any(name.startswith("gone") for name in names)


@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [
        (
            "nowhere",
            "there is no folder `nowhere`",
            "`engine run SPEC` makes `runs`; `--runs DIR` names another folder of runs",
        ),
        ("a-file", "`a-file` is no folder", "`--runs DIR` names a folder of runs"),
        ("one", "`one` is one run; `--runs` names the folder that holds runs", "`--runs {parent}`"),
    ],
)
def test_what_holds_no_runs_is_a_mistake(tmp_path, monkeypatch, folder, message, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    make_run(Path("one"))
    with pytest.raises(UsageError) as failure:
        RunList(Path(folder))
    assert failure.value.message == message
    assert failure.value.hint == hint.format(parent=tmp_path)
