# ruff: noqa: E501 - log lines are as long as their tools write them
"""Formats that are read seldom: small logs in the documented layout, numbers made up here and worked out here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.measure.run_folder.trees import one, put, read, read_text, vllm, whole

DMON = """\
#Date       Time        gpu    pwr  gtemp  mtemp     fb
#YYYYMMDD   HH:MM:SS    Idx      W      C      C     MB
 20260304   10:00:00      0    100     50      -   1000
 20260304   10:00:00      1    200     49      -   2000
#Date       Time        gpu    pwr  gtemp  mtemp     fb
#YYYYMMDD   HH:MM:SS    Idx      W      C      C     MB
 20260304   10:00:01      0    140     55      -   1000
 20260304   10:00:01      1    240     54      -   2000
"""
UPROF = """\
AMDPROFILER POWER PROFILE REPORT
Profile Start Time:,Mar-04-2026_23-59-59,
PROFILE RECORDS
RecordId,Timestamp,socket0-package-power,socket1-package-power,core0-power,
1,23:59:59:500,  100.00,   50.00,   9.00,
2,0:0:0:500,  110.00,   60.00,   9.50,
3,0:0:1:500,  120.00,   70.00,   9.90,
"""
PHASES = """\
Timestamp,Phase,Runtime (s),GPU Energy (mJ),Output Token Limit,Number of Input Tokens,Iteration,Model,Number of GPUs,Prompt,GPU Energy (J)
1772619300.0,model load,30.0,900000,16,24,0,Llama-2-7b,1,"startup",900.0
1772619340.0,start-inference-16-0,9.0,990000,16,24,0,Llama-2-7b,1,"First, with a comma",990.0
1772619350.0,start-inference-16-1,2.0,300000,16,24,1,Llama-2-7b,1,"First, with a comma",300.0
"""
BOARD = """\
model_file,family,quant,threads,repetition,benchmark,sample_id,prompt,expected,response,latency_s,energy_total_j,energy_idle_j,energy_net_j,avg_power_w,prompt_tps,gen_tps,score,confidence,needs_review,parsed,temp_c,throttled_hex,throttle_active,throttle_event
t.gguf,tiny,Q4,4,1,qa,q1,"Two, words",yes,yes,8.0,40.0,16.0,24.0,5.0,20.0,4.0,1,1.0,False,yes,61.0,0x0,False,False
t.gguf,tiny,Q4,4,1,qa,q2,word,yes,no,4.0,20.0,8.0,12.0,5.0,20.0,4.0,0,1.0,False,no,66.0,0x50005,True,True
"""
TRACES = """\
request_id,seq_prompt,seq_generate,total_latency_s,tokens_per_s,peak_alloc_bytes,peak_reserved_bytes,peak_alloc_gb,peak_reserved_gb,backend,model,timestamp,error
0,128,32,4.0,8.0,17179869184,18253611008,16.0,17.0,huggingface,example/llama-8b,1772619300.0,
0,128,32,4.0,8.0,17179869184,18253611008,16.0,17.0,huggingface,example/llama-8b,1772619310.0,
1,128,32,4.0,8.0,17179869184,18253611008,16.0,17.0,huggingface,example/llama-8b,1772619314.0,
"""
PROFILER = json.dumps(
    {
        "baseline": {
            "energy": [40.0, 42.0],
            "power": [80.0, 84.0],
            "duration": [0.5, 0.5],
            "avg_energy": 41.0,
            "avg_power": 82.0,
            "avg_duration": 0.5,
        }
    }
)
MOBILE = json.dumps(
    {
        "metadata": {"model": "llama3.2-1b", "num_tokens": 11, "date": "2026-03-04T10:00:00"},
        "benchmark_results": {"ttft_ms": 200.0, "tbt_ms": 50.0, "tokens_per_sec": 20.0},
        "events": [
            {"name": "ModelLoadStart", "timestamp": "2026-03-04T10:00:01"},
            {"name": "PrefillStart", "timestamp": "2026-03-04T10:00:03"},
            {"name": "DecodingStart", "timestamp": "2026-03-04T10:00:03.2"},
            {"name": "End", "timestamp": "2026-03-04T10:00:03.7"},
        ],
        "timeseries": [
            {
                "timestamp": "2026-03-04T10:00:01",
                "temp_c": 30.0,
                "mem_used_mb": 4000.0,
                "cpu_load_percent": 0.0,
            },
            {
                "timestamp": "2026-03-04T10:00:04",
                "temp_c": 36.0,
                "mem_used_mb": 5000.0,
                "cpu_load_percent": 80.0,
            },
        ],
    }
)
IPMI = """
    Instantaneous power reading:                   412 Watts
    Minimum during sampling period:                280 Watts
    Maximum during sampling period:                455 Watts
    Average power reading over sample period:      398 Watts
    Sampling period:                          00000005 Seconds.
    Power reading state is:                   activated
"""
JOB = """\
job:
  start_time: 10-15-00
  details:
    model_name: Llama-2-13b-chat-hf
    batch_size: 32
    prompt-A: /* a comment: with a colon
#include <stdio.h>
"""
BENCHMARK_APP = """\
[ INFO ] Read model took 1000.00 ms
[ INFO ] Compile model took 4000.00 ms
[ INFO ] First inference took 61.00 ms
[ INFO ] Count:            240
[ INFO ] Duration:         12000.00 ms
[ INFO ]    Average:       50.00 ms
[ INFO ] Throughput:       20.00 FPS
"""
GENAI = """\
Load time: 6000.00 ms
Generate time: 2000.00 ± 12.10 ms
TTFT: 100.00 ± 1.10 ms
TPOT: 25.00 ± 0.20 ms
Throughput : 40.00 ± 0.25 tokens/s
"""
TAGGED = "load model,200.0,300.1,520.2,3000,1000\ninference-A-8,500.0,1500.0,1700.5,4000,6000\ninference-A-8,500.0,1500.0,1700.5,6000,6000\n"
NEURON = json.dumps(
    {
        "e2e_model": {"latency_ms_avg": 2000.0, "throughput": 320.0},
        "context_encoding_model": {"latency_ms_avg": 40.0, "throughput": 12800.0},
        "token_generation_model": {"latency_ms_avg": 16.0, "throughput": 62.5},
    }
)
PROMPTS = json.dumps(
    {
        "prompt_performance_data": [
            {
                "index": 0,
                "word_count": 9,
                "sequence_length": 64,
                "baseline_latency_ms": 6000.0,
                "baseline_throughput": 100.0,
            }
        ]
    }
)
LOGS = {
    # Two devices at two times: 300 W, then 380 W; 3000 MiB of memory in both.
    "nvidia-smi dmon": (DMON, {"average_power_w": 340.0, "peak_power_w": 380.0, "energy_j": 340.0, "peak_temperature_c": 55.0, "memory_used_bytes": 3000 * 2**20}),
    # Packages hold the cores: 150, 170 and 190 W over two seconds, past midnight.
    "AMD uProf timechart": (UPROF, {"average_power_w": 170.0, "peak_power_w": 190.0, "energy_j": 340.0, "window_s": 2.0}),
    # The first iteration is a warm-up: 300 J and 16 tokens in 2 s are left.
    "energy per phase CSV": (PHASES, {"energy_j": 300.0, "average_power_w": 150.0, "output_tokens": 16.0, "throughput_tokens_per_s": 8.0, "load_s": 30.0}),
    # Means over two questions.
    "board results CSV": (BOARD, {"energy_j": 30.0, "net_energy_j": 18.0, "average_power_w": 5.0, "throughput_tokens_per_s": 4.0, "peak_temperature_c": 66.0, "throttle_events": 1.0}),
    "mobile profile JSON": (MOBILE, {"ttft_s": 0.2, "tpot_s": 0.05, "throughput_tokens_per_s": 20.0, "generation_s": 0.5, "output_tokens": 11.0, "load_s": 2.0}),
    "ipmitool dcmi": (IPMI, {"average_power_w": 398.0, "peak_power_w": 455.0, "energy_j": None}),
    "OpenVINO benchmark_app": (BENCHMARK_APP, {"requests_per_s": 20.0, "e2e_s": 0.05, "throughput_tokens_per_s": None, "completed_requests": 240.0}),
    "OpenVINO benchmark_genai": (GENAI, {"ttft_s": 0.1, "tpot_s": 0.025, "throughput_tokens_per_s": 40.0, "load_s": 6.0}),
    # 10 W for half a second and 12 W for another; loading is not inference.
    "powermetrics CSV": (TAGGED, {"energy_j": 11.0, "average_power_w": 11.0, "window_s": 1.0}),
    "Neuron benchmark report": (NEURON, {"e2e_s": 2.0, "ttft_s": 0.04, "tpot_s": 0.016, "throughput_tokens_per_s": 62.5, "total_tokens_per_s": 320.0}),
    "Neuron prompt table": (PROMPTS, {"e2e_s": 6.0, "total_tokens_per_s": 100.0}),
    "energy profiler JSON": (PROFILER, {"energy_j": 41.0, "average_power_w": 82.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_numbers_are_those_of_the_text(tmp_path: Path, name: str) -> None:
    text, expected = LOGS[name]
    put(tmp_path, {"llama_7b/batch_1/log.txt": text})
    tables = read(tmp_path)
    assert [(row["format"], row["status"]) for row in tables["files"]] == [(name, "read")]
    (row,) = whole(tables).values()
    assert {metric: row.get(metric) for metric in expected} == pytest.approx(expected)


def test_requests_one_after_another_are_no_concurrency(tmp_path: Path) -> None:
    put(tmp_path, {"llama_8b/traces.csv": TRACES})
    tables = read(tmp_path)
    rates = {row["variant"]: row["throughput_tokens_per_s"] for row in whole(tables).values()}
    # 32 tokens in 4 s; then 64 tokens in 8 s, although each request says 8 tokens/s.
    assert rates == pytest.approx({"llama_8b: concurrency 1": 8.0, "llama_8b: concurrency 2": 8.0})
    assert "ran one after another" in tables["files"][0]["reason"]


def test_powermetrics_is_on_the_clock_of_its_dates(tmp_path: Path) -> None:
    """Twenty seconds of 25 W, of which a serving run used the middle ten: 13:00:05 to 13:00:15 UTC."""
    samples = [
        f"*** Sampled system activity (Wed Mar  4 14:00:{i + 1:02d} 2026 +0100) (1000.00ms elapsed) ***\n"
        "CPU Power: 5000 mW\nGPU Power: 20000 mW\nCombined Power (CPU + GPU + ANE): 25000 mW\n"
        for i in range(20)
    ]
    put(tmp_path, {"llama_7b/p.txt": "\n".join(samples)})
    put(tmp_path, {"llama_7b/r.json": vllm(end="20260304-140015", duration=10.0, tokens=100)})
    (row,) = whole(read(tmp_path, zone="+01:00")).values()
    assert (row["window_s"], row["energy_j"]) == (pytest.approx(10.0), pytest.approx(250.0))
    assert row["whole_log_energy_j"] == pytest.approx(500.0)


def test_a_job_file_names_the_model_and_says_what_it_left_out(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, JOB, name="job.yaml")
    assert (name, found.texts["model"], found.rows_dropped) == ("job information", "Llama-2-13b-chat-hf", 1)


def test_a_serving_run_without_a_finished_request_failed(tmp_path: Path) -> None:
    log = vllm(end="20260304-140015", duration=10.0, tokens=0, completed=0, request_throughput=0.0)
    put(tmp_path, {"llama_7b/batch_1/r.json": log})
    row = one(tmp_path)
    assert (row["status"], row["reason"], row["basis"]) == (
        "failed",
        "none of 4 requests was completed",
        None,
    )
    assert row["error_rate"] == 1.0
