"""Two real servers on loopback with models made here: their own clocks must agree with ours."""

from __future__ import annotations

import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from engine.measure.live.dialect import ServerTokenizer
from engine.spec.live import HttpTarget
from tests.measure.live.conftest import TINY

_SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
_LLAMA = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path = sys.argv[1]
p.n_parallel, p.n_ctx, p.port = 2, 2048, 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.warmup, p.verbosity = False, -1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory):
    """Address of llama.cpp's server with a random model."""
    for module in ("xllamacpp", "gguf"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"`{module}` is not installed (extra `dev`)")
    loads = subprocess.run(
        [sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True, check=False
    )
    if loads.returncode:
        pytest.skip(f"llama.cpp does not load here: {loads.stderr.strip().splitlines()[-1]}")
    from tests.measure.live.random_gguf import write_gguf

    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "tiny.gguf", folder / "tokenizer")
    process = subprocess.Popen(
        [sys.executable, "-c", _LLAMA, str(folder / "tiny.gguf")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    address = next((line.strip() for line in process.stdout if line.startswith("http")), None)
    assert address, "llama.cpp's server did not start"
    yield address + "/v1"
    process.stdin.close()
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory):
    """Address and model folder of `transformers serve` with a random model."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "accelerate")):
        pytest.skip("`transformers serve` needs fastapi, uvicorn, accelerate (extra `dev`)")
    from engine.measure.local_model import LocalRequest, build_local_model
    from engine.measure.local_tokenizer import trained_tokenizer
    from engine.spec.model import Model

    folder = tmp_path_factory.mktemp("served")
    local = build_local_model(LocalRequest(Model.model_validate(TINY), device="cpu", threads=1))
    local.module.save_pretrained(str(folder))
    trained_tokenizer(TINY["vocab_size"], cache=folder / "cache").save_pretrained(str(folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "serve", str(folder), "--device", "cpu",
         "--host", "127.0.0.1", "--port", str(port)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for(base + "/health", process)
        yield base + "/v1", str(folder)
    finally:
        process.kill()
        process.wait()


def _wait_for(address, process):
    for _ in range(600):
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail("the server did not become healthy")


def rows_of(tables):
    return [row for row in tables["requests"] if row["run_phase"] != "warmup" and row["outcome"] == "ok"]


def test_times_agree_with_those_of_llama_cpp(measure, llama_cpp):
    """Prefill within 2 ms + 5 %, decode within 3 %: medians, for single requests meet other work."""
    settings = {
        "target": {"kind": "openai", "base_url": llama_cpp, "model": "tiny"},
        "load": {"concurrency": [1], "requests": 12},
        "repeats": 2,
        "warmup": "5 s",
        "predict": False,
    }
    tables = measure(settings, workload={"prompt_tokens": 200, "output_tokens": 64})
    rows = rows_of(tables)
    assert len(rows) == 24
    assert {(row["output_tokens"], row["token_source"], row["finish_reason"]) for row in rows} == {
        (64, "usage", "length")
    }
    assert {row["prompt_tokens"] for row in rows} == {200}
    prefill = [row["first_token_s"] - row["sent_s"] - row["server_prefill_s"] for row in rows]
    limit = 0.002 + 0.05 * statistics.median(row["server_prefill_s"] for row in rows)
    assert abs(statistics.median(prefill)) <= limit
    decode = [(row["last_token_s"] - row["first_token_s"]) / row["server_decode_s"] for row in rows]
    assert statistics.median(decode) == pytest.approx(1, abs=0.03)
    observed = {row["setting"]: row["observed"] for row in tables["observed"]}
    assert observed["server timings"] == "told"
    assert observed["ignore_eos"] == "true"


def test_llama_cpp_counts_tokens_and_its_cache_is_not_hit(measure, llama_cpp):
    tokens = ServerTokenizer(HttpTarget(kind="openai", base_url=llama_cpp, model="tiny"), key=None)
    try:
        assert tokens.count("one two three") > 3
    finally:
        tokens.close()
    settings = {
        "target": {"kind": "openai", "base_url": llama_cpp, "model": "tiny", "endpoint": "completions"},
        "load": {"concurrency": [2], "requests": 8},
        "repeats": 1,
        "warmup": "0 s",
        "predict": False,
    }
    tables = measure(settings, workload={"prompt_tokens": 128, "output_tokens": 16})
    assert {row["prompt_tokens"] for row in rows_of(tables)} == {128}
    assert tables["summary"][0]["cached_prompt_share"] < 0.02
    assert "prefix-cache" not in {finding["rule"] for finding in tables["findings"]}


def test_transformers_serve_refuses_fields_and_ends_without_a_mark(measure, transformers_serve):
    base, model = transformers_serve
    settings = {
        "target": {"kind": "openai", "base_url": base, "model": model},
        "load": {"concurrency": [1, 2], "requests": 4},
        "repeats": 1,
        "warmup": "0 s",
        "predict": False,
        "keep_token_times": True,
    }
    tables = measure(settings, workload={"prompt_tokens": 32, "output_tokens": 8})
    assert {row["error_rate"] for row in tables["summary"]} == {0.0}
    observed = [row["observed"] for row in tables["observed"] if row["setting"] == "dialect"]
    assert observed
    assert "ignore_eos" in observed[0]
    assert {row["token_source"] for row in rows_of(tables)} == {"usage"}
    assert all(row["output_tokens"] <= 8 for row in rows_of(tables))
