"""Killed at any moment, a run continues: the same bytes as one that was left in peace, nothing done twice."""

import json
import subprocess
import sys

import pytest

from engine.results.export import export_table
from engine.results.store import ResultStore
from tests.run.kill_loop import the_plan
from tests.source_tree import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [(0, 36), (2, 6)], ids=["alone", "workers"])
def test_a_killed_run_continues(tmp_path, workers, kills):
    folder = tmp_path / "killed" / "run"
    (tmp_path / "killed").mkdir()
    command = [sys.executable, "-m", "tests.run.kill_loop", str(folder), str(workers), str(kills), "1"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    seen = json.loads(shown.stdout)
    assert set(seen["codes"]) <= {0, None}, shown.stderr
    assert (seen["codes"][0], seen["codes"][-1]) == (0, 0)
    assert seen["repeated"] == 0
    # Where a moment falls depends on how busy the machine is; with workers there are few of them.
    assert seen["kills"] >= (kills // 3 if workers == 0 else 1)
    assert workers or len(set(seen["progress"])) > 1, "kills came at different stages"
    whole = folder.parent / "whole" / "run"
    assert contents(folder) == contents(whole)
    assert exported(folder, tmp_path) == exported(whole, tmp_path)


def contents(folder):
    """Everything in a run folder that must not depend on how often it was interrupted."""
    kept = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("environment.json", ".lock") and "sqlite" not in path.name
    }
    assert not [name for name in kept if name.endswith(".tmp")]
    return kept


def exported(folder, scratch):
    """A table of a run as CSV."""
    plan = the_plan()
    with ResultStore.open(folder, write=False) as store:
        export_table(plan, store, "summary", out=scratch / "out.csv")
        table = store.read(plan, "summary")
        assert table.num_rows == 12 * 600 * 4
        assert table.column("point").combine_chunks().unique().to_pylist() == list(range(7200))
    return (scratch / "out.csv").read_bytes()
