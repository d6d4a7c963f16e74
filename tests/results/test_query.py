"""SQL over runs: joins, several runs, types that every format holds, and nothing beyond the tables."""

from contextlib import ExitStack

import pytest

from engine.errors import UsageError
from engine.results.query import query
from engine.results.store import ResultStore
from tests.results.runs import fill, the_plan

pytest.importorskip("duckdb", reason="the extra `query` is not installed")


@pytest.fixture
def runs(tmp_path):
    """Two runs of three batches on two devices; tpot_s is the batch size in both."""
    plan = the_plan()
    with ExitStack() as stores:
        found = {}
        for name in ("first", "second"):
            store = stores.enter_context(ResultStore.open(tmp_path / name, write=True))
            fill(store, plan)
            found[name] = plan, store
        yield found


def test_tables_of_several_runs_join(runs):
    answer = query(
        "SELECT run, hardware, sum(tpot_s) AS total, count(*) AS n"
        " FROM summary JOIN points USING (run, point) GROUP BY ALL ORDER BY ALL",
        runs,
    )
    boards = sorted(set(answer.column("hardware").to_pylist()))
    assert answer.to_pylist() == [
        {"run": run, "hardware": board, "total": 7.0, "n": 3}  # 1 + 2 + 4
        for run in ("first", "second")
        for board in boards
    ]
    assert len(boards) == 2


def test_answers_hold_numbers_truth_values_and_texts_only(runs):
    answer = query(
        "SELECT sum(point) AS points, 0.0/0 AS nothing, 1.5::DECIMAL(5,2) AS part, [1, 2] AS pair,"
        " DATE '2026-11-20' AS day, true AS yes, NULL AS unknown, 1 AS point, 2 AS point FROM points",
        {"first": runs["first"]},
    )
    assert answer.to_pylist() == [
        {
            "points": 15, "nothing": None, "part": 1.5, "pair": "[1, 2]", "day": "2026-11-20", "yes": True,
            "unknown": None, "point": 1, "point_2": 2,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        (
            "SELECT x FROM summary",
            'Referenced column "x" not found in FROM clause',
            "columns nearby: `",
        ),
        ("SELECT * FROM sumary", "Table with name sumary does not exist", "did you mean `summary`?"),
        ("SELEC 1", 'syntax error at or near "SELEC"', None),
        ("DROP TABLE summary", "one `SELECT` is wanted", "`WITH ... SELECT ...` is one too"),
        ("SELECT 1; SELECT 2", "one `SELECT` is wanted", "`WITH ... SELECT ...` is one too"),
        ("", "one `SELECT` is wanted", "`WITH ... SELECT ...` is one too"),
        ("SELECT * FROM '/etc/hostname'", "Table with name /etc/hostname does not exist", "tables: points"),
        (
            "SELECT * FROM read_text('/etc/hostname')",
            'Cannot access file "/etc/hostname" - file system operations are disabled by configuration',
            None,
        ),
    ],
)
def test_what_cannot_be_answered_is_said(runs, sql, message, hint):
    with pytest.raises(UsageError) as failure:
        query(sql, runs)
    assert failure.value.message == message
    assert (failure.value.hint or "").startswith(hint or "")
    assert (failure.value.hint is None) == (hint is None)
