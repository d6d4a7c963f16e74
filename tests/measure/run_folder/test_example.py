"""The example tree: what ships is what the generator writes, and it shows what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.measure.run_folder import read_run_folder
from engine.measure.run_folder.example import write_example_runs
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from tests.measure.run_folder.trees import read, whole

ROOT = Path(__file__).parents[3]


def test_the_shipped_tree_is_the_generated_one(tmp_path: Path) -> None:
    written = write_example_runs(tmp_path)
    shipped = ROOT / "specs" / "example_runs"
    assert len(written) == 24
    for path in written:
        name = path.relative_to(tmp_path)
        assert (shipped / name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_example_runs(tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        write_example_runs(tmp_path)


def test_every_file_is_read(tmp_path: Path) -> None:
    write_example_runs(tmp_path)
    tables = read(tmp_path)
    assert [row["status"] for row in tables["files"]] == ["read"] * 24
    rows = whole(tables)
    assert len(rows) == 8
    assert rows["llama_70b/batch_4"]["whole_log_throttle_events"] == 1  # it alone reaches 83 C
    # 241 W +- 2 % over the inference of 8.4 s
    assert rows["llama_7b/batch_1"]["average_power_w"] == pytest.approx(241, rel=0.02)


def test_the_spec_predicts_the_runs_the_catalogue_knows() -> None:
    experiment = validate(read_document(ROOT / "specs" / "run_folder.yaml"), Experiment)
    tables = read_run_folder(experiment.measurements[1], base=ROOT / "specs", jobs=1)  # type: ignore[arg-type]
    rows = tables["summary"].to_pylist()
    predicted = {row["point"] for row in rows if row["source"] == "predicted"}
    models = {row["point"]: row["model"] for row in tables["points"].to_pylist()}
    assert sorted({models[point] for point in predicted}) == ["llama_13b", "llama_7b"]
    # Theory from the data sheet alone is a bound: no run is faster than it.
    for row in rows:
        if row["source"] == "predicted" and row["phase"] == "request":
            own = next(r for r in rows if r["point"] == row["point"] and r["source"] == "run_folder")
            assert own["output_tokens_per_s"] < row["output_tokens_per_s"]
