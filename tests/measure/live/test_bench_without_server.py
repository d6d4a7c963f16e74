"""`engine bench` against an address where nobody listens."""

from __future__ import annotations

from click.testing import CliRunner

from engine.cli import app
from engine.commands.console import Terminal


def test_a_benchmark_of_nobody_says_why_and_draws_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["bench", "--model", "opt-1.3b", "--base-url", "http://127.0.0.1:9/v1", "-o", "out/x"]
    result = CliRunner().invoke(app, arguments, obj=Terminal(), catch_exceptions=True)
    assert result.exit_code == 4
    assert "nobody listens there" in result.output
    assert "defect" not in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.csv", "x.json"]
