"""A run folder keeps what is finished, reads nothing that is not whole, and says what is wrong."""

import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import MeasurementError, StoreError, UsageError
from engine.plan.compile import compile_plan
from engine.results.shards import ROW_GROUP, batches, encode, may_hold
from engine.results.store import ResultStore, stored_tasks
from engine.results.tables import TABLES, make_table
from tests.plan.specs import DEVICE, device, experiment
from tests.results.runs import EXPECTED, fill, rows, tables_of, the_plan


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "small"


def filled(folder, plan=None):
    plan = plan or the_plan()
    with ResultStore.open(folder, write=True) as store:
        fill(store, plan)
    return plan


def test_what_is_recorded_is_read_back(folder):
    plan = filled(folder)
    with ResultStore.open(folder, write=False) as store:
        assert rows(store, plan) == EXPECTED
        assert set(store.done()) == {task.fingerprint for task in plan.tasks}


def test_rows_take_the_numbers_of_the_plan_that_reads_them(folder):
    filled(folder)
    axes = {"hardware": [device(name="other", memory="40 GB"), DEVICE], "workload.batch_size": [1, 2, 4]}
    turned = compile_plan(experiment(sweep={"axes": axes}))
    with ResultStore.open(folder, write=False) as store:
        assert len(store.done()) == 2
        assert rows(store, turned) == EXPECTED
        points = store.read(turned, "points", columns=["point", "hardware"]).to_pylist()
    assert [row["hardware"] for row in points] == ["other"] * 3 + ["board"] * 3


def test_shards_that_a_plan_does_not_have_are_kept_and_not_read(folder):
    plan = filled(folder)
    smaller = compile_plan(experiment(workload={"batch_size": 8}))
    with ResultStore.open(folder, write=True) as store:
        store.record(smaller.tasks[0], tables_of(smaller.tasks[0]))
        assert rows(store, smaller) == [(0, 8.0)]
        assert rows(store, plan) == EXPECTED


def test_the_points_table_comes_from_the_plan(folder):
    plan = filled(folder)
    with ResultStore.open(folder, write=False) as store:
        table = store.read(plan, "points")
    assert table.column_names == [column.name for column in TABLES["points"]]
    assert table.to_pylist()[4] == {
        "point": 4, "model": "tiny", "hardware": "other", "quantization": "plain", "prompt_tokens": 2048,
        "output_tokens": 256, "batch_size": 2, "shared_prefix_tokens": 0, "prefill_chunk_tokens": 0,
        "prefill_tokens_per_step": 0, "tensor": 1, "pipeline": 1, "expert": 1, "data": 1, "devices": 1,
        "settings": None,
    }  # fmt: skip


def test_swept_settings_without_a_column_are_told(folder):
    plan = compile_plan(
        experiment(
            sweep={
                "axes": {
                    "parallelism.tensor": [2],
                    "parallelism.overlap": [0.5],
                    "hardware.memory_bandwidth": ["2 TB/s"],
                }
            }
        )
    )
    with ResultStore.open(folder, write=True) as store:
        (row,) = store.read(plan, "points").to_pylist()
    assert (row["tensor"], row["devices"], row["settings"]) == (2, 2, "parallelism.overlap=0.5")
    assert row["hardware"] == "board{memory_bandwidth=2000000000000 B/s}"


def test_a_failure_is_a_row_for_every_point(folder):
    plan = the_plan()
    with ResultStore.open(folder, write=True) as store:
        store.record(plan.tasks[1], tables_of(plan.tasks[1]))
        store.record_failure(plan.tasks[0], "out of memory", "last line")
        found = store.read(
            plan, "summary", columns=["point", "source", "phase", "status", "reason", "tpot_s"]
        )
        assert found.to_pylist()[:3] == [
            {"point": n, "source": "predicted", "phase": "request", "status": "failed",
             "reason": "out of memory", "tpot_s": None}
            for n in range(3)
        ]  # fmt: skip
        assert found.num_rows == 6
        record = store.failed()[plan.tasks[0].fingerprint]
    assert (record.error, record.tail, record.points) == ("out of memory", "last line", 3)


def test_a_success_replaces_a_failure(folder):
    plan = the_plan()
    with ResultStore.open(folder, write=True) as store:
        store.record_failure(plan.tasks[0], "out of memory")
        fill(store, plan)
        assert store.failed() == {}
        assert rows(store, plan) == EXPECTED


def test_points_that_a_reading_brings_along_come_after_the_plans(folder):
    plan = compile_plan(
        experiment(
            sweep={"axes": {"workload.batch_size": [1, 2]}},
            measurements=[
                {"kind": "run_folder", "path": "a"},
                {"kind": "analytical"},
                {"kind": "run_folder", "path": "b"},
            ],
        )
    )
    first, predicted, second = plan.tasks

    def reading(batches):
        count = len(batches)
        return {
            "points": make_table("points", {"point": list(range(count)), "batch_size": batches}),
            "summary": make_table(
                "summary",
                {"point": [*range(count), None], "source": ["run_folder"] * (count + 1),
                 "tpot_s": [float(b) for b in [*batches, 0]]},
            ),
        }  # fmt: skip

    with ResultStore.open(folder, write=True) as store:
        store.record(second, reading([50]))
        store.record(first, reading([30, 40]))
        store.record(predicted, tables_of(predicted))
        assert rows(store, plan, "points", ("point", "batch_size")) == [
            (0, 1),
            (1, 2),
            (2, 30),
            (3, 40),
            (4, 50),
        ]
        assert rows(store, plan) == [
            (2, 30.0), (3, 40.0), (None, 0.0), (0, 1.0), (1, 2.0), (4, 50.0), (None, 0.0),
        ]  # fmt: skip


def test_a_row_that_names_a_point_of_another_task_is_refused(folder):
    plan = the_plan()
    wrong = {"summary": make_table("summary", {"point": [0, 3], "tpot_s": [1.0, 2.0]})}
    with ResultStore.open(folder, write=True) as store:
        with pytest.raises(MeasurementError) as failure:
            store.record(plan.tasks[0], wrong)
        assert store.done() == {}
    assert failure.value.message == (
        "table `summary` names point 3 of a task with 3 points; rows count points from 0"
    )


def test_columns_come_in_the_order_asked_and_absent_ones_are_null(folder):
    plan = filled(folder)
    with ResultStore.open(folder, write=False) as store:
        found = store.read(plan, "summary", columns=["tpot_s", "energy_j", "point"])
        assert found.column_names == ["tpot_s", "energy_j", "point"]
        assert found.column("energy_j").null_count == 6
        assert store.columns(plan, "summary")[-1] == "tpot_s"
        with pytest.raises(UsageError) as failure:
            store.read(plan, "summary", columns=["tpot"])
        assert failure.value.message == "table `summary` has no column `tpot`"
        with pytest.raises(UsageError) as failure:
            store.read(plan, "summaries")
        assert failure.value.message == "no table `summaries`"


def test_an_empty_store_has_empty_tables(folder):
    plan = the_plan()
    with ResultStore.open(folder, write=True) as store:
        for table in TABLES:
            assert store.read(plan, table).num_rows == (6 if table == "points" else 0)


def test_scanning_gives_the_same_rows_in_pieces(folder):
    plan = filled(folder)
    with ResultStore.open(folder, write=False) as store:
        pieces = list(store.scan(plan, "summary", ["point", "tpot_s"]))
    assert [piece.num_rows for piece in pieces] == [3, 3]
    assert [tuple(r.values()) for piece in pieces for r in piece.to_pylist()] == EXPECTED


def test_one_phase_can_be_read_alone(folder):
    plan = the_plan()
    task, failing = plan.tasks
    both = make_table(
        "summary",
        {
            "point": [0, 1, 2] * 2,
            "phase": ["request"] * 3 + ["decode"] * 3,
            "tpot_s": [float(n) for n in range(6)],
        },
    )
    with ResultStore.open(folder, write=True) as store:
        store.record(task, {"summary": both})
        store.record_failure(failing, "out of memory")
        found = {
            phase: store.read(plan, "summary", columns=["point", "tpot_s"], phases=[phase]).to_pylist()
            for phase in ("request", "decode", "training")
        }
        assert store.read(plan, "summary", phases=["decode"]).column("phase").unique().to_pylist() == [
            "decode"
        ]
        with pytest.raises(UsageError) as failure:
            store.read(plan, "points", phases=["decode"])
    assert [tuple(row.values()) for row in found["request"]] == [
        (0, 0.0), (1, 1.0), (2, 2.0), (3, None), (4, None), (5, None),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in found["decode"]] == [(0, 3.0), (1, 4.0), (2, 5.0)]
    assert found["training"] == []
    assert failure.value.message == "table `points` has no phases"


def test_rows_say_which_of_two_measurements_they_come_from(folder):
    bound = {"kind": "analytical", "calibration": "none"}
    plan = compile_plan(experiment(measurements=[bound, {**bound, "causal": False}]))
    own = {"point": [0, 0], "variant": [None, "concurrency 4"], "tpot_s": [1.0, 2.0]}
    with ResultStore.open(folder, write=True) as store:
        for task in plan.tasks:
            store.record(task, {"summary": make_table("summary", own)})
        found = rows(store, plan, columns=("variant", "tpot_s"))
        alone = compile_plan(experiment(measurements=[bound]))
        assert rows(store, alone, columns=("variant",)) == [(None,), ("concurrency 4",)]
    assert found == [
        ("causal=True", 1.0),
        ("causal=True, concurrency 4", 2.0),
        ("causal=False", 1.0),
        ("causal=False, concurrency 4", 2.0),
    ]


def test_row_groups_of_other_phases_are_not_touched():
    size = ROW_GROUP
    content = encode(
        make_table(
            "summary", {"point": list(range(2 * size)), "phase": ["decode"] * size + ["request"] * size}
        )
    ).content
    assert [may_hold(pq.ParquetFile(pa.BufferReader(content)), group, ["request"]) for group in (0, 1)] == [
        False,
        True,
    ]
    (batch,) = batches(content, ["point"], phases=["request"])
    assert (batch.num_rows, batch.column("point")[0].as_py()) == (size, size)


# Damage


def shard(folder: Path, plan, number=0) -> Path:
    return folder / "results" / "summary" / f"{plan.tasks[number].fingerprint}.parquet"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def changed(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut_short, changed, emptied, removed])
def test_a_damaged_shard_is_made_again_and_never_read(folder, damage):
    plan = filled(folder)
    whole = shard(folder, plan).read_bytes()
    damage(shard(folder, plan))
    with ResultStore.open(folder, write=True) as store:
        assert set(store.done()) == {plan.tasks[1].fingerprint}
        with pytest.raises(StoreError) as failure:
            store.read(plan, "summary")
        assert failure.value.message == (
            f"`{shard(folder, plan)}` is not what was written: it is missing, cut short or changed"
        )
        assert failure.value.hint == "`engine run` makes it again; everything else is kept"
        fill(store, plan)
        assert rows(store, plan) == EXPECTED
    assert shard(folder, plan).read_bytes() == whole


def test_a_plan_counts_a_cut_shard_as_not_there(folder):
    plan = filled(folder)
    cut_short(shard(folder, plan))
    assert set(stored_tasks(folder)) == {plan.tasks[1].fingerprint}
    assert stored_tasks(folder / "nowhere") == {}


def test_leftovers_of_a_killed_run_are_swept_up(folder):
    plan = filled(folder)
    leftover = shard(folder, plan).with_name(f".{shard(folder, plan).name}.99.abcd.tmp")
    leftover.write_bytes(b"half a shard")
    with ResultStore.open(folder, write=True) as store:
        assert rows(store, plan) == EXPECTED
    assert not leftover.exists()


def test_a_shard_that_was_never_registered_does_not_count(folder):
    plan = the_plan()
    with ResultStore.open(folder, write=True) as store:
        drafts = store.draft(plan.tasks[0], tables_of(plan.tasks[0]))
        drafts[0].path.rename(shard(folder, plan))
        assert store.done() == {}
        assert rows(store, plan) == []


def test_a_damaged_registry_is_explained_and_set_aside_by_fresh(folder):
    plan = filled(folder)
    path = folder / "registry.sqlite"
    path.write_bytes(b"not a database, but long enough to look like something was there" * 20)
    for write in (True, False):
        with pytest.raises(StoreError) as failure:
            ResultStore.open(folder, write=write)
        assert failure.value.message == f"`{path}` cannot be read: file is not a database"
        assert failure.value.hint == (
            "put a copy of it back, or run with `--fresh`, which sets it aside; shards stay"
        )
        assert failure.value.exit_code == 3
    with ResultStore.open(folder, write=True, fresh=True) as store:
        fill(store, plan)
        assert rows(store, plan) == EXPECTED
    assert (folder / "registry.sqlite.damaged-1").exists()


def test_a_registry_damaged_inside_is_found_too(folder):
    filled(folder)
    path = folder / "registry.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="cannot be read"), ResultStore.open(folder, write=False) as store:
        store.done()
    ResultStore.open(folder, write=True, fresh=True).close()


def test_a_registry_without_tables_is_begun_anew(folder):
    plan = filled(folder)
    for path in folder.glob("registry.sqlite*"):
        path.unlink()
    (folder / "registry.sqlite").touch()
    with ResultStore.open(folder, write=True) as store:
        assert store.done() == {}
        fill(store, plan)
        assert rows(store, plan) == EXPECTED


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ("2", "update the engine, or choose another folder with `--runs`"),
        ("old", "choose another folder with `--runs`"),
    ],
)
def test_another_format_is_refused(folder, found, hint):
    filled(folder)
    connection = sqlite3.connect(folder / "registry.sqlite")
    with connection:
        connection.execute("UPDATE meta SET value = ?", (found,))
    connection.close()
    for write in (True, False):
        with pytest.raises(StoreError) as failure:
            ResultStore.open(folder, write=write)
        assert failure.value.message == f"`{folder}` has store format {found}, this engine reads 1"
        assert failure.value.hint == hint


# Folders


def test_a_folder_that_is_no_run_is_not_read(tmp_path):
    with pytest.raises(StoreError) as failure:
        ResultStore.open(tmp_path / "nowhere", write=False)
    assert failure.value.message == f"there is no run folder `{tmp_path / 'nowhere'}`"
    with pytest.raises(StoreError) as failure:
        ResultStore.open(tmp_path, write=False)
    assert failure.value.message == f"`{tmp_path}` is not a run folder: it has no `registry.sqlite`"


def test_other_peoples_files_are_not_written_beside(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError) as failure:
        ResultStore.open(tmp_path, write=True)
    assert (
        failure.value.message
        == f"`{tmp_path}` holds other files, such as `thesis.tex`, and no `registry.sqlite`"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError) as failure:
        ResultStore.open(tmp_path / "runs" / "small", write=True)
    assert failure.value.message == f"cannot write `{tmp_path / 'runs' / 'small'}`: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError) as failure:
        ResultStore.open(tmp_path / "run", write=True)
    assert failure.value.message == f"cannot write `{tmp_path / 'run'}`: permission is denied"
    assert failure.value.hint == "make the folder writable, or choose another with `--runs`"


def test_results_are_given_up_without_being_lost(folder):
    plan = filled(folder)
    with ResultStore.open(folder, write=True) as store:
        store.give_up(plan.tasks[:1])
        assert set(store.done()) == {plan.tasks[1].fingerprint}
        assert rows(store, plan) == EXPECTED[3:]
        assert shard(folder, plan).exists()
        assert store.records()[plan.tasks[0].fingerprint].state == "stale"
