"""What the document of the concurrency profiler promised, one test a row of the list (71 to 92)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from engine.cli import app
from engine.commands.console import Terminal
from engine.errors import EnvironmentMissing
from engine.measure.live import oom
from engine.measure.live.model_card import (
    active_claim,
    card_of,
    card_page,
    memory_table,
    most_requests,
    recommended_gb,
    tokens_for_band,
)
from engine.measure.live.traces import (
    CSV_COLUMNS,
    document_metrics,
    level_results,
    read_traces,
    spoken,
    traces_csv,
    traces_json,
)
from engine.spec.catalog import load_model, load_quantization
from engine.spec.live import LiveSettings
from engine.spec.workload import Workload

# The document's own run: three requests on a CPU, the last two one after the other.
RECORDED = """\
request_id,seq_prompt,seq_generate,total_latency_s,tokens_per_s,peak_alloc_bytes,peak_reserved_bytes,\
peak_alloc_gb,peak_reserved_gb,backend,model,timestamp,error
0,129,32,38.74939560890198,0.8258193320736227,0,0,0.0,0.0,huggingface,x/llama-8b,1757158558.096368,
0,129,32,38.39948487281799,0.8333445124586027,0,0,0.0,0.0,huggingface,x/llama-8b,1757158596.8462238,
1,129,32,38.51629114151001,0.8308172737201264,0,0,0.0,0.0,huggingface,x/llama-8b,1757158635.2458348,
"""
TINY = """\
name: tiny
architecture: llama
hidden_size: 64
num_hidden_layers: 2
num_attention_heads: 4
num_key_value_heads: 2
intermediate_size: 128
vocab_size: 1000
max_position_embeddings: 512
"""


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "recorded.csv"
    path.write_text(RECORDED)
    return path


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, list(arguments), obj=Terminal(), catch_exceptions=True)

    return run


def spec_of(result):
    from ruamel.yaml import YAML

    assert result.exit_code == 0, result.output
    return YAML(typ="safe").load(result.output)


def llama():
    return load_model("meta-llama/Llama-3.1-8B-Instruct"), load_quantization("bf16")


def test_71_command_line_of_the_document_and_its_defaults(command):
    found = spec_of(
        command("bench", "--model", "meta-llama/Llama-3.1-8B-Instruct", "--concurrency", "1", "2",
                "--prompt-toks", "128", "--gen-toks", "32", "--verbose", "--print-spec")
    )  # fmt: skip
    assert found["measurements"][-1]["load"] == {"concurrency": [1, 2]}
    assert found["workload"] == {"prompt_tokens": 128, "output_tokens": 32}
    default = spec_of(command("bench", "--print-spec"))
    assert default["model"] == "facebook/opt-1.3b"
    assert default["measurements"][-1]["load"] == {"concurrency": [1, 2, 4, 8]}
    assert default["workload"] == {"prompt_tokens": 512, "output_tokens": 64}
    refused = command("bench", "--dtype", "fp13")
    assert "'fp13' is not one of 'bf16', 'fp16', 'fp32'" in str(refused.exception) + refused.output
    assert refused.exit_code != 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "meta-llama/Llama-3.1-8B-Instruct", "--concurrency", "2", "--prompt-toks", "512",
         "--gen-toks", "128"),
        ("--model", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "--concurrency", "1", "--prompt-toks", "256",
         "--gen-toks", "64"),
    ],
)  # fmt: skip
def test_72_optimal_and_conservative_commands(command, arguments):
    found = spec_of(command("bench", *arguments, "--print-spec"))
    assert found["workload"]["output_tokens"] == int(arguments[-1])


@pytest.mark.parametrize(("free", "code", "risk"), [(100e9, 0, "low"), (18e9, 1, "medium"), (8e9, 3, "high")])
def test_73_exit_status_tells_the_risk_and_nobody_is_asked(command, monkeypatch, free, code, risk):
    # Needed at c=1: 16.06 GB + 0.08 + 0.04 + 0.6 of context = 16.78 GB; 90 % of 18 GB is 16.2 GB.
    given = oom.Available(free, "cuda", "given")
    monkeypatch.setattr(oom, "available_memory", lambda device="auto", **_: given)
    result = command("bench", "--model", "llama-3.1-8b", "--concurrency", "1", "--check-oom")
    assert result.exit_code == code
    assert f"concurrency 1: {risk} risk" in result.output


def test_74_weights_and_cache_by_the_formula():
    model, form = llama()
    check = oom.check_memory(
        model, form, Workload(prompt_tokens=512, output_tokens=64), sequences=4,
        available=oom.Available(24e9, "cuda", "given"),
    )  # fmt: skip
    assert check.weights_bytes == 16_060_522_496  # 8,030,261,248 x 2
    assert check.kv_cache_bytes == 131_072 * 576 * 4
    assert round(check.weights_bytes / 1e9, 2) == 16.06
    assert round(check.weights_bytes / 2**30, 2) == 14.96
    # The document's "16 GB" against a device of 16 GiB is a comparison of different units.
    assert round(16e9 / 2**30, 1) == 14.9


def test_75_rule_of_the_reference_beside_the_formula(command, monkeypatch):
    rule = oom.document_rule(
        "meta-llama/Llama-3.1-8B-Instruct", prompt_tokens=512, output_tokens=64, concurrency=4, gpu_gib=80.0
    )
    assert round(rule.total_gb, 2) == 52.86  # 16 + 0.001 x 16 x 576 x 4
    assert rule.risk == "low"  # 52.86 / 80 = 0.66
    assert [
        oom.document_rule("8b", prompt_tokens=512, output_tokens=64, concurrency=4, gpu_gib=g).risk
        for g in (70.0, 55.0)
    ] == ["medium", "high"]
    monkeypatch.setattr(
        oom, "available_memory", lambda device="auto", **_: oom.Available(80e9, "cuda", "given")
    )
    shown = command("bench", "--model", "llama-3.1-8b", "--concurrency", "4", "--check-oom").output
    assert "formula: weights + cache 16.36 GB = 15.24 GiB" in shown
    assert 'rule of the document: 52.86 "GB"' in shown


def test_layers_over_two_devices_are_checked_for_the_fuller_one(command, monkeypatch):
    asked = []

    def given(device="auto", *, devices=1):
        asked.append(devices)
        return oom.Available(85e9, "cuda", "given", devices)

    monkeypatch.setattr(oom, "available_memory", given)
    call = ("bench", "--model", "llama-3.3-70b", "--concurrency", "1", "--check-oom")
    assert command(*call).exit_code == 3
    spread = command(*call, "--devices", "2")
    assert (spread.exit_code, asked) == (0, [1, 2])
    assert "low risk: over 2 devices the fullest needs 71." in spread.output


def test_76_memory_table_and_the_context_that_gives_the_bands():
    model, form = llama()
    rows = memory_table(model, form, tokens_per_request=576)
    assert [round(row.total_bytes / 1e9, 2) for row in rows] == [16.14, 16.21, 16.36]
    bands = {(2, 18e9): 7629, (2, 20e9): 15259, (4, 22e9): 11444, (4, 26e9): 19073}
    for (concurrency, total), tokens in bands.items():
        # (18e9 - 16e9) / (131072 x 2) = 7629.4
        found = tokens_for_band(
            total, base_bytes=16e9, cache_bytes_per_token=131_072, concurrency=concurrency
        )
        assert round(found) == tokens
    assert recommended_gb(rows[0].total_bytes) == 24
    assert recommended_gb(34e9) == 48
    assert recommended_gb(400e9) is None


def test_77_experts_must_all_be_held(command):
    card = card_of(load_model("meta-llama/Llama-4-Scout-17B-16E-Instruct"), load_quantization("bf16"))
    assert 210e9 < card.weights_bytes < 220e9
    assert card.active_parameters < 17.5e9
    warning = active_claim(card, 34e9)
    assert warning is not None
    assert warning.startswith("warning [active-parameters]: 34 GB is the size of the 16 billion parameters")
    assert active_claim(card, 218e9) is None
    assert active_claim(card_of(*llama()), 16e9) is None
    shown = command("info", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "--claimed", "34 GB").output
    assert "[active-parameters]" in shown


def test_78_79_80_81_levels_of_the_documents_own_run(recorded):
    one, two = level_results(read_traces(recorded))
    assert (two.completed, two.total) == (2, 2)
    assert f"{one.average_latency_s:.3f}" == "38.749"
    assert f"{two.average_latency_s:.3f}" == "38.458"
    assert (f"{one.sum_of_rates:.1f}", f"{two.sum_of_rates:.1f}") == ("0.8", "1.7")
    # 64 tokens in 38.516 + (635.246 - 596.846) s
    assert (f"{one.wall_rate:.2f}", f"{two.wall_rate:.2f}") == ("0.83", "0.83")
    assert (one.serial, two.serial) == (False, True)
    assert "warning [serial-execution]" in spoken(two)
    assert "Completed 2/2 requests" in spoken(two, document=True)


def test_82_no_memory_on_a_cpu_is_not_zero(recorded):
    result = level_results(read_traces(recorded))[0]
    assert result.peak_bytes is None
    assert "peak memory not measured" in spoken(result)
    assert "💾 Peak memory: 0.00 GB (CPU mode)" in spoken(result, document=True)


def test_83_failures_are_counted_and_their_text_kept(tmp_path):
    head = RECORDED.splitlines()[0]
    failed = '0,0,0,0.0,0.0,0,0,0.0,0.0,unknown,unknown,1772619310.0,"first line\nsecond, with a comma"'
    good = "{},128,32,2.0,16.0,17179869184,18253611008,16.0,17.0,huggingface,x/y,{},"
    all_failed = tmp_path / "failed.csv"
    all_failed.write_text("\n".join([head, failed, failed, failed]) + "\n")
    traces = read_traces(all_failed)
    assert document_metrics(traces) == {
        "total_requests": 3, "successful_requests": 0, "failed_requests": 3, "error_rate": 1.0,
    }  # fmt: skip
    assert traces[0].error == "first line\nsecond, with a comma"
    assert traces_csv(traces) == all_failed.read_text().replace("0,0,0.0,0.0,unk", "0,0,0.0,0.0,unk")
    one = tmp_path / "one.csv"
    one.write_text(
        "\n".join([head, good.format(0, 1772619300.0), failed, good.format(1, 1772619310.1)]) + "\n"
    )
    metrics = document_metrics(read_traces(one))
    assert (metrics["failed_requests"], metrics["total_requests"]) == (1, 3)
    assert metrics["peak_alloc_gb"] == 16.0


def test_84_both_rules_for_percentiles(recorded):
    traces = read_traces(recorded)
    document = document_metrics(traces)
    interpolated = document_metrics(traces, rule="interpolated")
    assert document["p95_latency_s"] == 38.74939560890198  # sorted[int(3 x 0.95)] = sorted[2]
    # 38.51629 + 0.9 x (38.74940 - 38.51629): position 2 x 0.95 = 1.9
    assert interpolated["p95_latency_s"] == pytest.approx(38.51629114 + 0.9 * 0.23310447, abs=1e-7)
    same = [t for t in traces if t.request_id == 1] * 7
    assert document_metrics(same) == document_metrics(same, rule="interpolated")


def test_85_traces_go_through_without_loss(recorded, tmp_path):
    traces = read_traces(recorded)
    assert traces_csv(traces) == RECORDED
    written = tmp_path / "traces.json"
    written.write_text(traces_json(traces, timestamp=1757158673.7624364))
    again = read_traces(written)
    assert traces_json(again, timestamp=1757158673.7624364) == written.read_text()
    assert list(json.loads(written.read_text())) == ["traces", "metrics", "timestamp"]
    assert len(CSV_COLUMNS) == 13


def test_86_87_figures_over_concurrency(command, recorded, tmp_path):
    result = command("bench", "--from-trace", str(recorded), "-o", "out/run")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "run_fig1_mem_vs_concurrency.png",
        "run_fig1_mem_vs_concurrency.svg",
        "run_fig2_tps_vs_concurrency.png",
        "run_fig2_tps_vs_concurrency.svg",
    ]
    assert "not measured" in (tmp_path / "out" / "run_fig1_mem_vs_concurrency.svg").read_text()
    assert "sum of per-request rates" in (tmp_path / "out" / "run_fig2_tps_vs_concurrency.svg").read_text()


def test_88_comparison_and_page_are_computed(command):
    result = command("info", "meta-llama/Llama-3.1-8B-Instruct", "llama-4-scout", "facebook/opt-1.3b")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| ") and line.count("|") == 7]
    assert [[cell.strip() for cell in row.strip("|").split("|")][:4] for row in rows[1:]] == [
        ["llama-3.1-8b", "8.03 B", "16.06 GB (14.96 GiB)", "24 GB"],
        ["llama-4-scout", "107.77 B", "215.54 GB (200.74 GiB)", "288 GB"],
        ["opt-1.3b", "1.32 B", "2.63 GB (2.45 GiB)", "8 GB"],
    ]
    assert rows[3].endswith("| not measured | testing, edge devices |")
    assert "- **Parameters**: 8.03 billion (8,030,261,248)" in card_page(card_of(*llama()))


def test_89_largest_concurrency_and_what_binds(command):
    model, form = llama()
    count, limit = most_requests(model, form, tokens_per_request=640, memory_bytes=24e9)
    # 24e9 - 16,060,522,496 leaves 7.94e9; a request takes 640 x 131072 B of cache and its activations.
    assert 80 <= count <= (24e9 - 16_060_522_496) / (640 * 131_072)
    assert limit == "memory"
    shown = command("info", "llama-3.1-8b", "-p", "512", "-g", "128", "--memory", "24 GB").output
    assert f"in 24 GB: at most {count} requests of 640 tokens at once (limit: memory)" in shown
    assert most_requests(model, form, tokens_per_request=640, memory_bytes=12e9) == (
        0, "weights alone are too large",
    )  # fmt: skip


def test_90_a_missing_token_is_named_and_a_given_one_never_written(monkeypatch):
    from engine.measure.local_model import LocalRequest, _cannot_load
    from engine.results.environment import environment

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    request = LocalRequest(load_model("llama-3.1-8b"), weights="meta-llama/Llama-3.1-8B-Instruct")
    gated = OSError("You are trying to access a gated repo.\n401 Client Error")
    error = _cannot_load(request, gated)
    assert isinstance(error, EnvironmentMissing)
    assert error.message == (
        "the weights `meta-llama/Llama-3.1-8B-Instruct` need an access token and `HF_TOKEN` is not set"
    )
    token = "hf_" + "Canary" * 6
    monkeypatch.setenv("HF_TOKEN", token)
    told = _cannot_load(request, OSError(f"401 for https://huggingface.co?token={token}"))
    assert token not in str(told) + json.dumps(environment())


def test_91_figures_over_length_and_of_a_mix(command, tmp_path):
    rows = [RECORDED.splitlines()[0]]
    for length in (128, 1024):
        for i in range(3):
            rows.append(
                f"{i},{length},32,{length / 100},{3200 / length},{length * 10**7},{length * 10**7},0,0,"
                f"huggingface,x/y,{1757158558 + i},"
            )
    path = tmp_path / "lengths.csv"
    path.write_text("\n".join(rows) + "\n")
    assert command("bench", "--from-trace", str(path), "-o", "l/run").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "l").glob("*.png")) == [
        "run_fig3_latency_vs_seqlen.png",
        "run_fig4_mem_vs_seqlen.png",
        "run_fig5_mixed_lengths.png",
    ]
    found = spec_of(command("bench", "--seqlens", "128", "256", "512", "--print-spec"))
    assert found["sweep"] == {"axes": {"workload.prompt_tokens": [128, 256, 512]}}
    mixed = spec_of(command("bench", "--short", "128", "--long", "2048", "--print-spec"))
    assert mixed["measurements"][-1]["load"] == {"concurrency": [2], "prompt_lengths": [128, 2048]}
    assert "sweep" not in mixed


def test_92_environment_as_text_and_json(command):
    text = command("doctor")
    data = json.loads(command("doctor", "--format", "json").output)
    names = {finding["what"] for finding in data}
    assert {"python", "torch", "transformers"} <= names
    assert "python" in text.output
    code = (
        "import importlib.metadata as m\n"
        "real = m.version\n"
        "def version(name):\n"
        "    if name == 'torch':\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
        "from engine.results.environment import environment\n"
        "print(environment()['packages']['torch'])\n"
    )
    absent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert absent.stdout.strip() == "None"


def test_a_local_benchmark_from_the_command_line(command, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.yaml").write_text(TINY)
    result = command(
        "bench", "--model", "tiny.yaml", "--concurrency", "1", "2", "--prompt-toks", "16", "--gen-toks", "4",
        "--dtype", "fp32", "--device", "cpu", "--repeats", "2", "-o", "out/run", "--verbose",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "concurrency 2 (static batch): completed 4/4" in result.output
    assert "Completed 4/4 requests" in result.output
    traces = read_traces(tmp_path / "out" / "run.csv")
    assert [(t.concurrency, t.request_id) for t in traces] == [(1, 0), (1, 0), (2, 0), (2, 1), (2, 0), (2, 1)]
    assert {(t.seq_prompt, t.seq_generate, t.peak_alloc_bytes) for t in traces} == {(16, 4, None)}
    assert len(list((tmp_path / "out").glob("run_fig*"))) == 4
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_server_benchmarked_from_the_command_line(command, tmp_path):
    from engine.testing.stub_server import paced, running

    with running(lambda: paced(0.005, 0.001)) as (base, _):
        result = command(
            "bench", "--model", "opt-1.3b", "--served-model", "stub", "--base-url", base,
            "--concurrency", "1", "3", "--prompt-toks", "16", "--gen-toks", "4", "--repeats", "2",
            "--output-dir", "data", "-o", "run", "--verbose",
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "concurrency 3: completed 32/32" in result.output
    assert "peak memory not measured (the server's own)" in result.output
    assert "Peak memory: not measured" in result.output
    assert "CPU mode" not in result.output
    traces = read_traces(tmp_path / "data" / "run.json")
    assert {(t.concurrency, t.backend, t.seq_generate) for t in traces} == {
        (1, "openai", 4),
        (3, "openai", 4),
    }
    assert not level_results(traces)[1].serial
    assert "(the server's own)" in spoken(level_results(traces)[0])
    # Read back, a level has the rates that were printed of it: of three at once, and of its own repeats.
    printed = re.findall(r"throughput ([0-9.]+) ± .*?\(document\): ([0-9.]+)\)", result.output)
    for level, (wall, rates) in zip(level_results(traces), printed, strict=True):
        assert level.wall_rate == pytest.approx(float(wall), rel=1e-3)
        assert level.sum_of_rates == pytest.approx(float(rates), rel=1e-3)


@pytest.mark.parametrize(
    ("driver", "gib", "name"),
    [
        ("NVIDIA H200", 140.4, "h200-sxm"),
        ("NVIDIA H100 80GB HBM3", 79.6, "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", 79.6, "h100-pcie-80gb"),
        ("NVIDIA H100 NVL", 93.6, "h100-nvl-94gb"),
        ("NVIDIA A100-SXM4-80GB", 79.3, "a100-sxm-80gb"),
        ("NVIDIA A100-PCIE-40GB", 39.4, "a100-pcie-40gb"),
        ("NVIDIA GeForce RTX 4090", 24.0, "rtx-4090"),
        ("NVIDIA L40S", 45.0, "l40s"),
        ("Tesla T4", 14.8, "t4"),
        ("NVIDIA Imaginary 9", 24.0, None),
    ],
)
def test_what_the_driver_calls_a_device(driver, gib, name):
    from engine.commands.bench_spec import device_named
    from engine.spec.catalog import load_hardware

    found = device_named(driver, int(gib * 1024**3))
    assert (found is None) == (name is None)
    if name is not None and found is not None:
        assert load_hardware(found) == load_hardware(name)


def test_a_random_model_for_a_server(command, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    from engine.perfmodel.parameters import count_parameters

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(TINY)
    result = command("make-model", "tiny.yaml", "served", "--dtype", "fp32")
    assert result.exit_code == 0, result.output
    again = load_model(str(tmp_path / "served" / "config.json"))
    shape = load_model(str(tmp_path / "tiny.yaml"))
    assert count_parameters(again).total == count_parameters(shape).total
    assert len(AutoTokenizer.from_pretrained(str(tmp_path / "served"))) == 1000
    assert (tmp_path / "served" / "model.safetensors").stat().st_size > 4 * count_parameters(shape).total
    twice = command("make-model", "tiny.yaml", "served")
    assert str(twice.exception) in ("`served` is not empty", "2")


def test_the_printed_spec_is_a_spec(command, tmp_path):
    text = command(
        "bench", "--model", "llama-3.1-8b", "--base-url", "http://127.0.0.1:8000/v1", "--api-key-env", "KEY",
        "--print-spec",
    ).output  # fmt: skip
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert command("check", str(path)).exit_code == 0
    settings = LiveSettings.model_validate(
        {"kind": "live", "target": {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1", "model": "m"}}
    )
    assert settings.repeats == 5
