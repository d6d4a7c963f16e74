"""What a user sees when a run folder cannot be read or written: a message, an exit code, nothing lost."""

import errno
import json

import pytest

from engine.cli import main
from engine.results import store as store_module
from tests.results.runs import FailingDisk

SPEC = """\
version: 1
name: small
model: llama-3.1-8b
hardware: h100-sxm-80gb
sweep:
  axes:
    hardware: [h100-sxm-80gb, h200-sxm]
    workload.batch_size: [1, 2]
measurements:
  - kind: analytical
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `engine` in an empty folder with a spec: (exit code, what stderr says)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*arguments])
        return end.value.code, capsys.readouterr().err

    return call


RUN = ("run", "spec.yaml", "--no-report")


def exported(command, tmp_path):
    """The summary as CSV bytes."""
    assert command("export", "small", "summary", "-o", "out.csv")[0] == 0
    return (tmp_path / "out.csv").read_bytes()


@pytest.mark.parametrize(
    ("number", "reason", "hint"),
    [
        (errno.ENOSPC, "no space is left", "free some space and run again: what is finished is kept"),
        (errno.EROFS, "the file system is read-only", "choose a writable folder with `--runs`"),
        (errno.EACCES, "permission is denied", "make the folder writable, or choose another with `--runs`"),
    ],
)
def test_a_disk_that_refuses(command, tmp_path, monkeypatch, number, reason, hint):
    assert command(*RUN)[0] == 0
    whole = exported(command, tmp_path)
    for call in (1, 14):
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "Disk", lambda call=call: FailingDisk(call, number))
            code, shown = command(*RUN, "--fresh")
        assert code == 3
        assert shown.splitlines()[-2:] == [shown.splitlines()[-2], f"  {hint}"]
        assert shown.splitlines()[-2].startswith("error: cannot write `runs/small")
        assert shown.splitlines()[-2].endswith(f"`: {reason}")
        assert "Traceback" not in shown
        assert command(*RUN)[0] == 0
        assert exported(command, tmp_path) == whole


def test_a_registry_that_is_no_database(command, tmp_path):
    assert command(*RUN)[0] == 0
    whole = exported(command, tmp_path)
    (tmp_path / "runs" / "small" / "registry.sqlite").write_bytes(b"\0garbage" * 4000)
    for arguments in (RUN, ("export", "small", "summary"), ("plan", "spec.yaml")):
        code, shown = command(*arguments)
        assert code == 3
        assert shown.splitlines() == [
            "error: `runs/small/registry.sqlite` cannot be read: file is not a database",
            "  put a copy of it back, or run with `--fresh`, which sets it aside; shards stay",
        ]
    assert command(*RUN, "--fresh")[0] == 0
    assert exported(command, tmp_path) == whole


def test_a_half_written_shard(command, tmp_path):
    assert command(*RUN)[0] == 0
    whole = exported(command, tmp_path)
    shard = min((tmp_path / "runs" / "small" / "results" / "summary").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    code, shown = command("export", "small", "summary")
    assert code == 3
    path = f"runs/small/results/summary/{shard.name}"
    assert shown.splitlines() == [
        f"error: `{path}` is not what was written: it is missing, cut short or changed",
        "  `engine run` makes it again; everything else is kept",
    ]
    code, shown = command(*RUN)
    assert code == 0
    assert "2 points in " in shown, "only the damaged half is made again"
    assert exported(command, tmp_path) == whole


def test_a_plan_that_is_cut_short(command, tmp_path):
    assert command(*RUN)[0] == 0
    path = tmp_path / "runs" / "small" / "plan.json"
    path.write_bytes(path.read_bytes()[:50])
    code, shown = command("export", "small", "summary")
    assert code == 3
    assert shown.startswith("error: `runs/small/plan.json` cannot be read: ")
    assert shown.splitlines()[-1] == "  `engine run` with the same spec writes it again"
    assert command(*RUN)[0] == 0
    assert command("export", "small", "summary", "-o", "out.csv")[0] == 0


def test_a_record_of_runs_that_is_cut_short_costs_no_results(command, tmp_path):
    assert command(*RUN)[0] == 0
    path = tmp_path / "runs" / "small" / "environment.json"
    path.write_bytes(path.read_bytes()[:50])
    assert command("export", "small", "summary", "-o", "out.csv")[0] == 0
    assert command(*RUN, "--fresh")[0] == 0
    assert path.with_name("environment.json.damaged").exists()
    assert len(json.loads(path.read_text())["sessions"]) == 1


def test_a_run_that_is_not_there(command, tmp_path):
    assert command(*RUN)[0] == 0
    code, shown = command("export", "smal", "summary")
    assert code == 3
    assert shown.splitlines() == ["error: there is no run `smal`", "  runs in `runs`: small"]


def test_a_folder_with_other_files(command, tmp_path):
    (tmp_path / "runs" / "small").mkdir(parents=True)
    (tmp_path / "runs" / "small" / "thesis.tex").write_text("years of work")
    code, shown = command(*RUN)
    assert code == 3
    assert shown.splitlines()[0] == (
        "error: `runs/small` holds other files, such as `thesis.tex`, and no `registry.sqlite`"
    )
    assert (tmp_path / "runs" / "small" / "thesis.tex").read_text() == "years of work"
