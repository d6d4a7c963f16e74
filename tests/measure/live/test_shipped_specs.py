"""The shipped live specs run whole, by the commands that stand in them, made shorter."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import app
from engine.commands.console import Terminal
from engine.run.stored import open_run
from engine.testing.stub_server import paced, running

pytest.importorskip("torch")
pytest.importorskip("transformers")

SPECS = Path(__file__).resolve().parents[3] / "specs"


def documented(name):
    """Arguments of the `engine run` command in the comments of a spec."""
    text = re.sub(r"\\\n#\s*", "", (SPECS / name).read_text())
    (command,) = re.findall(r"^#\s+engine (run .*)$", text, re.MULTILINE)
    return shlex.split(command)


def run(arguments, folder, *more):
    arguments = [str(SPECS / Path(a).name) if a.endswith(".yaml") else a for a in arguments]
    sets = [part for setting in more for part in ("--set", setting)]
    arguments = [*arguments, *sets, "--runs", str(folder), "--no-report"]
    found = CliRunner().invoke(app, arguments, obj=Terminal())
    assert found.exit_code == 0, found.output
    stored = open_run(next(folder.iterdir()))
    with stored.store:
        return stored.store.read(stored.plan, "summary").to_pylist()


def test_three_architectures_at_growing_concurrency(tmp_path):
    arguments = documented("llama_concurrency.yaml")
    rows = run(
        arguments,
        tmp_path,
        "measurements.1.repeats=1",
        "measurements.1.warmup=0 s",
        "measurements.1.load.concurrency=[1, 2]",
        "measurements.1.target.threads=1",
    )
    requests = [row for row in rows if row["source"] == "live" and row["phase"] == "request"]
    assert len(requests) == 3 * 2 * 2  # models, concurrencies, our loop and generate()
    assert {row["status"] for row in requests} == {"ok"}
    assert {row["point"] for row in requests} == {0, 1, 2}
    # Eight tokens of each sequence, of which the last is never written to the cache.
    assert all(row["output_tokens"] == 8 * row["completed_requests"] for row in requests)


def test_a_server_from_one_override(tmp_path):
    """Four at a time, 40 ms each: at most 100 requests/s."""
    arguments = documented("serve_slo_search.yaml")
    with running(lambda: paced(0.02, 0.02 / 3, parallel=4)) as (base, server):
        arguments = [a.replace("http://HOST:PORT/v1", base).replace("NAME", "stub") for a in arguments]
        rows = run(
            arguments,
            tmp_path,
            "workload.output_tokens=4",
            "measurements.0.load.concurrency=[1, 8]",
            "measurements.0.repeats=1",
            "measurements.1.load={pattern: gamma, rate: 20 /s, requests: 20}",
            "measurements.1.repeats=1",
            "measurements.2.load={pattern: rate_search, requests: 40, rate: 400 /s, resolution: 0.5}",
            *(f"measurements.{i}.warmup=0 s" for i in range(3)),
        )
    live = [row for row in rows if row["source"] == "live"]
    assert {row["status"] for row in live} == {"ok"}
    assert server.count > 80
    bracket = [row["reason"] for row in live if "highest rate" in (row["reason"] or "")]
    assert len(bracket) == 1
    names = {row["variant"].split(",")[0] for row in live}
    assert names == {"load.pattern=closed", "load.pattern=gamma", "load.pattern=rate_search"}
