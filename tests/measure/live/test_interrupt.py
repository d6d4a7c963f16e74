"""Ctrl-C in mid-measurement: what is there is kept, the exit code is 130, the next run does it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.results.store import stored_tasks
from engine.run.stored import open_run
from engine.testing.stub_server import paced, running
from tests.measure.live.conftest import TINY

ROOT = Path(__file__).resolve().parents[3]


def write_spec(path, base):
    measurement = {
        "kind": "live",
        "target": {"kind": "openai", "base_url": base, "model": "stub"},
        "load": {"concurrency": [2], "requests": 4000},
        "repeats": 1,
        "warmup": "0 s",
        "predict": False,
    }
    spec = {"version": 1, "name": "stopped", "model": TINY, "hardware": "h100-sxm-80gb",
            "quantization": "fp32", "workload": {"prompt_tokens": 16, "output_tokens": 4},
            "measurements": [measurement]}  # fmt: skip
    path.write_text(json.dumps(spec))  # JSON is YAML


def test_an_interrupted_benchmark_keeps_its_requests(tmp_path):
    with running(lambda: paced(0.01, 0.002)) as (base, server):
        write_spec(tmp_path / "spec.yaml", base)
        command = [sys.executable, "-m", "engine", "run", "spec.yaml", "--runs", "runs", "--no-report"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        end = time.monotonic() + 120
        while server.count < 30 and time.monotonic() < end:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted; what was finished is saved" in said
    assert [task.state for task in stored_tasks(tmp_path / "runs" / "stopped").values()] == ["interrupted"]
    stored = open_run(tmp_path / "runs" / "stopped")
    with stored.store:
        requests = stored.store.read(stored.plan, "requests").to_pylist()
        summary = stored.store.read(stored.plan, "summary").to_pylist()
        assert not stored.store.done()
        assert not stored.store.failed()
    outcomes = {row["outcome"] for row in requests}
    assert sum(row["outcome"] == "ok" for row in requests) >= 20
    assert outcomes == {"ok", "cancelled"}
    assert {row["run_phase"] for row in requests if row["outcome"] == "cancelled"} == {"cancelled"}
    assert (summary[0]["status"], summary[0]["reason"]) == ("failed", "interrupted")
    assert summary[0]["error_rate"] == 0
    assert summary[0]["ttft_s"] >= 0.01
