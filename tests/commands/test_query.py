from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_search import SPEC

pytest.importorskip("duckdb", reason="the extra `query` is not installed")

Engine = Callable[..., Any]


def test_answers_on_the_terminal_in_files_and_over_runs(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SPEC, encoding="utf-8")
    assert engine("run", "tiny.yaml", "--no-report").code == 0
    counted = engine("query", "SELECT run, count(*) AS n FROM points GROUP BY run", "tiny")
    assert counted.out.splitlines() == ["run    n", "tiny  16"]
    every = engine("query", "SELECT point FROM points ORDER BY point", "tiny", "--format", "json").out
    assert [row["point"] for row in json.loads(every)] == list(range(16))
    refused = engine("query", "SELECT 1", "tiny", "-o", "answer.csv")
    assert refused.code == 2
    assert refused.err.splitlines() == [
        "error: a file needs a format", "  add `--format csv`, `json` or `parquet`",
    ]  # fmt: skip
    assert engine("query", "SELECT 1 AS one", "tiny", "-o", "answer.csv", "--format", "csv").code == 0
    assert Path("answer.csv").read_text(encoding="utf-8") == "one\n1\n"
    assert engine("query", "SELECT 1", "tiny", "tiny").err == "error: run `tiny` is named twice\n"
    assert engine("query", "SELECT 1 WHERE false", "tiny").err == "no rows\n"
