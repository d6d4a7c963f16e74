"""Tables for other tools: the same bytes every time, and nothing a spreadsheet would take for a formula."""

import io
import json

import pyarrow.parquet as pq
import pytest

from engine.errors import StoreError, UsageError
from engine.plan.compile import compile_plan
from engine.results.export import export_table
from engine.results.store import ResultStore
from engine.results.tables import make_table
from tests.plan.specs import experiment
from tests.results.runs import fill, tables_of, the_plan

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    "\0x",
    "plain",
    "a=b",
    'say "hi", twice',
    "",
    None,
]


@pytest.fixture
def findings(tmp_path):
    """A store whose findings hold hostile texts."""
    plan = compile_plan(
        experiment(workload={"batch_size": 1}, measurements=[{"kind": "run_folder", "path": "x"}])
    )
    table = make_table(
        "findings",
        {
            "point": [None] * len(HOSTILE),
            "rule": [text and f"{text}" for text in HOSTILE],
            "finding": HOSTILE,
        },
    )
    with ResultStore.open(tmp_path / "run", write=True) as store:
        store.record(plan.tasks[0], {"findings": table})
        yield plan, store


def test_texts_that_look_like_formulas_are_quoted(tmp_path, findings):
    plan, store = findings
    export_table(plan, store, "findings", out=tmp_path / "f.csv")
    text = (tmp_path / "f.csv").read_bytes().decode()
    cells = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "'\nx", "'\0x", "plain", "a=b",
             'say ""hi"", twice', ""]  # fmt: skip
    lines = [f',"{cell}",,"{cell}",,,\n' for cell in cells]
    assert text == "point,rule,severity,finding,evidence,gain,change\n" + "".join(lines) + ",,,,,,\n"


def test_numbers_stay_numbers(tmp_path):
    plan = compile_plan(experiment())
    values = {
        "point": [0, 0, 0],
        "status": ["ok"] * 3,
        "memory_free_bytes": [-1.5, 1e300, None],
        "tpot_s": [0.1, -0.0, 1 / 3],
    }
    with ResultStore.open(tmp_path / "run", write=True) as store:
        store.record(plan.tasks[0], {"summary": make_table("summary", values)})
        export_table(plan, store, "summary", out=tmp_path / "s.csv")
        export_table(plan, store, "summary", format="json", out=tmp_path / "s.json")
    lines = (tmp_path / "s.csv").read_text().splitlines()
    head = lines[0].split(",")
    cells = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:]]
    assert [(c["memory_free_bytes"], c["tpot_s"]) for c in cells] == [
        ("-1.5", "0.1"), ("1e+300", "-0"), ("", "0.3333333333333333"),
    ]  # fmt: skip
    told = json.loads((tmp_path / "s.json").read_text())
    assert [row["tpot_s"] for row in told] == [0.1, -0.0, 1 / 3]
    assert told[2]["memory_free_bytes"] is None


def test_json_is_an_array_of_rows_with_texts_as_they_are(tmp_path, findings):
    plan, store = findings
    export_table(plan, store, "findings", format="json", out=tmp_path / "f.json")
    assert [row["finding"] for row in json.loads((tmp_path / "f.json").read_bytes())] == HOSTILE
    export_table(plan, store, "samples", format="json", out=tmp_path / "empty.json")
    assert json.loads((tmp_path / "empty.json").read_bytes()) == []


def test_parquet_holds_the_same_table(tmp_path):
    plan = the_plan()
    with ResultStore.open(tmp_path / "run", write=True) as store:
        fill(store, plan)
        for table in ("summary", "points"):
            export_table(plan, store, table, format="parquet", out=tmp_path / "t.parquet")
            assert pq.read_table(tmp_path / "t.parquet").to_pylist() == store.read(plan, table).to_pylist()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_the_bytes_do_not_depend_on_when_tasks_were_done(tmp_path, kind):
    plan = the_plan()
    found = []
    for name, order in (("one", plan.tasks), ("two", plan.tasks[::-1])):
        with ResultStore.open(tmp_path / name, write=True) as store:
            for task in order:
                store.record(task, tables_of(task))
            export_table(plan, store, "summary", format=kind, out=tmp_path / f"{name}.out")
        found.append((tmp_path / f"{name}.out").read_bytes())
    assert found[0] == found[1]


def test_without_a_file_the_table_goes_to_stdout(tmp_path, monkeypatch):
    plan = the_plan()
    shown = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", shown)
    with ResultStore.open(tmp_path / "run", write=True) as store:
        fill(store, plan)
        export_table(plan, store, "summary")
    assert shown.buffer.getvalue().startswith(b"point,source,phase,")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    plan = the_plan()
    with ResultStore.open(tmp_path / "run", write=True) as store:
        with pytest.raises(StoreError) as failure:
            export_table(plan, store, "summary", out=tmp_path / "no" / "s.csv")
        assert failure.value.message.startswith(f"cannot write `{tmp_path / 'no' / 's.csv'}`")
        with pytest.raises(UsageError) as failure:
            export_table(plan, store, "summary", format="xml")
        assert failure.value.hint == "formats: csv, json, parquet"
