# ruff: noqa: E501 - log lines are as long as their tools write them
"""Formats by small files of their layout: found by content, numbers equal to the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.measure.run_folder.trees import TEN, put, read, read_text, timings, vllm, whole

TRTLLM_OLD = """\
===========================================================
= STATISTICS
===========================================================
Number of requests:             3000
Average Input Length (tokens):  128.0
Average Output Length (tokens): 128.0
Token Throughput (tokens/sec):  23405.9
Request Throughput (req/sec):   182.8
Total Latency (seconds):        16.4
"""
TRTLLM_NEW = """\
===========================================================
= PERFORMANCE OVERVIEW
===========================================================
Request Throughput (req/sec):                     43.2
Total Output Throughput (tokens/sec):             5540.6
Per User Output Speed [1/TPOT] (tokens/sec/user): 61.5
Average time-to-first-token [TTFT] (ms):          22.5
Average time-per-output-token [TPOT] (ms):        16.2
"""
SERVER = (
    "INFO [ print_timings] prompt eval time     =     120.50 ms /    40 tokens (    3.01 ms per token,   331.95 "
    'tokens per second) | tid="1" timestamp=1772618410 id_slot=0 id_task=3 t_prompt_processing=120.499 '
    "n_prompt_tokens_processed=40\n"
    "INFO [ print_timings] generation eval time =    2000.00 ms /   100 runs   (   20.00 ms per token,    50.00 "
    'tokens per second) | tid="1" timestamp=1772618410 id_slot=0 id_task=3 t_token_generation=2000.001 n_decoded=100\n'
    'INFO [ print_timings]           total time =    2120.50 ms | tid="1" timestamp=1772618410 t_total=2120.5\n'
)
MLPERF = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Offline
Mode     : PerformanceOnly
Samples per second: 12.5
Tokens per second: 3200.0
Result is : VALID
"""
DCGMI = """\
#Entity   POWER    GTEMP
ID
GPU 0     100.5    40
GPU 1     90.0     41
GPU 0     200.5    N/A
GPU 1     190.0    43
"""
POWERMETRICS = """\
*** Sampled system activity (Wed Mar  4 10:00:01 2026 +0100) (1000.00ms elapsed) ***
CPU Power: 2000 mW
GPU Power: 8000 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 10000 mW
**** GPU usage ****
GPU Power: 8111 mW
*** Sampled system activity (Wed Mar  4 10:00:03 2026 +0100) (2000.00ms elapsed) ***
Combined Power (CPU + GPU + ANE): 20000 mW
"""
LATENCIES = (
    "First token average latency: 0.123 sec.\nAverage 2... latency: 0.040 sec.\nInference latency: 5.2 sec.\n"
)


def test_llama_cpp_with_a_log_prefix(tmp_path: Path) -> None:
    text = (
        "0.00.123.456 I llama_perf_context_print: prompt eval time =     100.00 ms /    10 tokens (   10.00 ms per token,   100.00 tokens per second)\n"
        "0.01.223.456 I llama_perf_context_print:        eval time =    1000.00 ms /    50 runs   (   20.00 ms per token,    50.00 tokens per second)\n"
    )
    name, found = read_text(tmp_path, "Once upon a time, eval\n" + text)
    assert name == "llama.cpp timings"
    assert found.results[0].values["output_tokens"] == 51


def test_llama_server_takes_full_precision_and_a_window_in_utc(tmp_path: Path) -> None:
    _, found = read_text(tmp_path, SERVER)
    (result,) = found.results
    assert result.values["ttft_s"] == pytest.approx(0.120499)
    assert result.values["output_tokens"] == 100  # n_decoded counts tokens, whatever the noun
    assert result.window == pytest.approx((1772618410 - 2.1205, 1772618410))
    assert result.zone == "utc"


def test_inf_rates_and_prompt_only_blocks_are_no_generation(tmp_path: Path) -> None:
    text = (
        "llama_print_timings: prompt eval time =  7680.00 ms /   256 tokens (   30.00 ms per token,    33.33 tokens per second)\n"
        "llama_print_timings:        eval time =     0.00 ms /     1 runs   (    0.00 ms per token,      inf tokens per second)\n"
    )
    _, found = read_text(tmp_path, text)
    assert found.results == ()
    assert [note.code for note in found.notes] == ["prompt-only", "no-generation"]


@pytest.mark.parametrize(
    ("text", "seconds", "rate"), [(TRTLLM_OLD, None, 23405.9), (TRTLLM_NEW, 0.0225, 5540.6)]
)
def test_trtllm_units_stand_in_the_labels(
    tmp_path: Path, text: str, seconds: float | None, rate: float
) -> None:
    name, found = read_text(tmp_path, text)
    assert name == "trtllm-bench"
    assert found.results[0].values["throughput_tokens_per_s"] == rate
    assert found.results[0].values.get("ttft_s") == pytest.approx(seconds)


def test_vllm_broken_streaming_leaves_latency_absent(tmp_path: Path) -> None:
    text = vllm(end="20260304-100010", duration=10.0, tokens=100, mean_itl_ms=0.0, mean_tpot_ms=-0.0)
    _, found = read_text(tmp_path, text)
    assert "tpot_s" not in found.results[0].values
    assert "broken-streaming" in {note.code for note in found.notes}


def test_openvino_per_step_latencies_of_batch_two(tmp_path: Path) -> None:
    text = (
        "[ INFO ] [1][P0] Input token size: 64, Output size: 128, Infer count: 64, Generation Time: 3.30s, Latency: 51.56 ms/2tokens\n"
        "[ INFO ] [1][P0] First token lantency: 150.00 ms/2tokens, other tokens lantency: 50.00 ms/2tokens, len of tokens: 64 * 2\n"
    )
    _, found = read_text(tmp_path, text)
    (result,) = found.results
    assert result.values["throughput_tokens_per_s"] == pytest.approx(40.0)  # 2 tokens / 50 ms
    assert result.settings == {"prompt_tokens": 32, "output_tokens": 64, "batch_size": 2}


def test_mlperf_summary_and_detail(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, MLPERF)
    assert name == "MLPerf LoadGen summary"
    assert found.results[0].values["throughput_tokens_per_s"] == 3200.0
    rows = [
        {"key": "result_tokens_per_second", "value": 3200.0},
        {"key": "result_validity", "value": "INVALID"},
        {"key": "power_begin", "value": "03-04-2026 10:00:00.000"},
        {"key": "power_end", "value": "03-04-2026 10:00:10.000"},
    ]
    detail = "".join(f":::MLLOG {json.dumps(row)}\n" for row in rows) + ':::MLLOG {"key": "cut\n'
    _, found = read_text(tmp_path, detail, name="detail.txt")
    assert found.rows_dropped == 1
    assert {note.code for note in found.notes} == {"not-valid", "row-cut"}
    assert found.results[0].window is not None
    assert found.results[0].window[1] - found.results[0].window[0] == 10.0


def test_guidellm(tmp_path: Path) -> None:
    metrics = {
        "output_tokens_per_second": {"successful": {"mean": 500.0}},
        "time_to_first_token_ms": {"successful": {"mean": 80.0}},
        "time_per_output_token_ms": {"successful": {"mean": 20.0}},
        "output_token_count": {"successful": {"mean": 100.0}},
        "prompt_token_count": {"successful": {"mean": 512.0}},
    }
    report = {
        "benchmarks": [
            {
                "metrics": metrics,
                "start_time": 10.0,
                "end_time": 20.0,
                "request_totals": {"successful": 50, "errored": 2},
            }
        ]
    }
    name, found = read_text(tmp_path, json.dumps(report))
    assert name == "GuideLLM JSON"
    (result,) = found.results
    assert (result.values["ttft_s"], result.values["output_tokens"]) == (pytest.approx(0.08), 5000.0)
    assert result.window == (10.0, 20.0)


def test_aiperf_units(tmp_path: Path) -> None:
    report = {
        "request_latency": {"unit": "ms", "avg": 2500.0},
        "time_to_first_token": {"unit": "ms", "avg": 40.0},
        "inter_token_latency": {"unit": "ms", "avg": 12.5},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 640.0},
        "request_count": {"unit": "requests", "avg": 20.0},
        "output_sequence_length": {"unit": "tokens", "avg": 200.0},
    }
    name, found = read_text(tmp_path, json.dumps(report))
    assert name == "AIPerf JSON"
    values = found.results[0].values
    assert (values["e2e_s"], values["tpot_s"], values["output_tokens"]) == (2.5, 0.0125, 4000.0)


def test_optimum_benchmark(tmp_path: Path) -> None:
    stage = {"memory": {"unit": "MB", "max_global_vram": 2000.0}}
    report = {
        "load": {"latency": {"unit": "s", "mean": 3.0}},
        "prefill": {**stage, "latency": {"unit": "s", "mean": 0.1}, "energy": {"unit": "kWh", "gpu": 1e-6, "total": 2e-6}},
        "decode": {**stage, "latency": {"unit": "s", "mean": 2.0}, "throughput": {"unit": "tokens/s", "value": 50.0},
                   "energy": {"unit": "kWh", "gpu": 9e-6, "total": 18e-6}},
        "per_token": {"latency": {"unit": "s", "mean": 0.04}},
    }  # fmt: skip
    name, found = read_text(tmp_path, json.dumps(report))
    assert name == "Optimum-Benchmark JSON"
    values = found.results[0].values
    assert values["energy_j"] == pytest.approx(36.0)  # 1e-5 kWh x 3.6e6
    assert (values["ttft_s"], values["tpot_s"], values["memory_used_bytes"]) == (0.1, 0.04, 2e9)
    # Without the time of a step and without the batch of the configuration nothing tells one from the other.
    _, alone = read_text(
        tmp_path / "alone", json.dumps({k: v for k, v in report.items() if k != "per_token"})
    )
    assert "tpot_s" not in alone.results[0].values


def test_llama_bench_in_every_output(tmp_path: Path) -> None:
    row = {
        "model_type": "llama 7B Q4_0", "model_size": 3825807360, "model_n_params": 6738415616, "n_prompt": 0,
        "n_gen": 128, "n_depth": 512, "test_time": "2026-03-04T10:00:00Z", "avg_ns": 1280000000, "stddev_ns": 1,
        "avg_ts": 100.0, "stddev_ts": 0.1,
    }  # fmt: skip
    names, values = ",".join(row), ",".join(f'"{v}"' for v in row.values())
    texts = ", ".join(f"'{v}'" for v in row.values())
    outputs = {
        "a.json": json.dumps([row]),
        "a.jsonl": json.dumps({**row, "samples_ts": [100.0]}) + "\n",
        "a.csv": f"{names}\n{values}\n",
        "a.sql": f"CREATE TABLE x;\nINSERT INTO llama_bench ({', '.join(row)}) VALUES ({texts});\n",
        "a.md": "| model | size | params | backend | ngl | test | t/s |\n| --- | --: | --: | --- | --: | --- | --: |\n"
        "| llama 7B Q4_0 | 3.56 GiB | 6.74 B | CUDA | 99 | tg128 @ d512 | 100.00 ± 0.10 |\n",
    }
    for name, text in outputs.items():
        form, found = read_text(tmp_path, text, name=name)
        assert form == "llama-bench", name
        (result,) = found.results
        assert (result.label, result.phase) == ("tg128 @ d512", "decode"), name
        assert result.values["throughput_tokens_per_s"] == 100.0, name


def test_dcgmi_and_its_default_interval(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, DCGMI)
    assert name == "dcgmi dmon"
    assert {(t.quantity, t.device): t.value.tolist() for t in found.traces} == {
        ("power", "0"): [100.5, 200.5], ("power", "1"): [90.0, 190.0],
        ("temperature", "0"): [40.0], ("temperature", "1"): [41.0, 43.0],
    }  # fmt: skip
    assert "assumed-interval" in {note.code for note in found.notes}


def test_powermetrics_takes_the_first_gpu_power_and_the_intervals(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, POWERMETRICS)
    assert name == "powermetrics text"
    (power,) = found.traces
    assert float(power.integral[-1]) == pytest.approx(50.0)  # 10 W x 1 s + 20 W x 2 s


def test_turbostat_joules_need_an_interval(tmp_path: Path) -> None:
    text = "Busy%\tBzy_MHz\tPkg_J\n50.0\t2000\t90.0\n50.0\t2000\t110.0\n"
    _, found = read_text(tmp_path, text, interval="2 s")
    (power,) = found.traces
    assert power.value.tolist() == [45.0, 55.0]


def test_token_latencies_of_a_script(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, LATENCIES)
    assert name == "token latency text"
    assert found.results[0].values["throughput_tokens_per_s"] == pytest.approx(25.0)


def test_a_generic_csv_by_its_columns(tmp_path: Path) -> None:
    text = "time_ms,board_power_mW,die_temp\n" + "".join(
        f"{i * 500},{10000 + i},{50 + i}\n" for i in range(5)
    )
    name, found = read_text(tmp_path, text)
    assert name == "CSV by columns"
    by_name = {t.quantity: t for t in found.traces}
    assert by_name["power"].value.tolist() == pytest.approx([10.0, 10.001, 10.002, 10.003, 10.004])
    assert by_name["power"].end - by_name["power"].start == pytest.approx(2.0)


def test_a_generic_csv_the_spec_explains(tmp_path: Path) -> None:
    text = "when,foo,bar\n" + "".join(f"2026-03-04 10:00:0{i},{i}000,{40 + i}\n" for i in range(4))
    columns = {
        "when": {"quantity": "time"},
        "foo": {"quantity": "power", "unit": "mW", "device": "board"},
        "bar": {"quantity": "temperature"},
    }
    _, found = read_text(tmp_path, text, columns=columns)
    power = next(t for t in found.traces if t.quantity == "power")
    assert (power.device, power.value.tolist()) == ("board", [1.0, 2.0, 3.0])  # 0 W is no reading


def test_own_summary_as_csv(tmp_path: Path) -> None:
    text = (
        "point,source,phase,variant,basis,status,output_tokens_per_s,ttft_s\n"
        "0,live,request,concurrency 4,measured,ok,120.5,0.25\n"
        "0,predicted,request,,bound,ok,200,0.1\n"
        "1,live,request,concurrency 8,measured,failed,,\n"
    )
    name, found = read_text(tmp_path, text)
    assert name == "engine summary"
    assert [r.values for r in found.results] == [
        {"output_tokens_per_s": 120.5, "ttft_s": 0.25, "throughput_tokens_per_s": 120.5}
    ]


LLAMA_BENCH_MD = """\
| model                          |       size |     params | backend    | ngl | fa |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | -: | --------------: | -------------------: |
| llama 7B mostly Q4_0           |   3.56 GiB |     6.74 B | CUDA       |  99 |  1 |           pp512 |      5000.00 ± 10.00 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  99 |  1 |           tg128 |        120.00 ± 0.50 |

build: abc (5000)
"""


def test_llama_bench_pads_its_headers_and_names_the_format_behind_the_model(tmp_path: Path) -> None:
    name, found = read_text(tmp_path, LLAMA_BENCH_MD)
    assert name == "llama-bench"
    first, second = found.results
    assert (first.settings["model"], first.settings["quantization"]) == ("llama 7B", "Q4_0")
    assert (second.settings["model"], second.settings["quantization"]) == ("qwen2 7B", "Q4_K - Medium")
    assert second.values["throughput_tokens_per_s"] == 120.0


def test_newer_llama_cpp_prints_the_size_of_the_file(tmp_path: Path) -> None:
    text = (
        "print_info: file size   = 4.58 GiB (4.89 BPW)\nprint_info: model params     = 8.03 B\n" + timings()
    )
    _, found = read_text(tmp_path, text)
    assert found.facts["weights_bytes"] == pytest.approx(4.58 * 2**30)


def test_guidellm_time_per_output_token_leaves_the_first_token_out(tmp_path: Path) -> None:
    metrics = {
        "time_per_output_token_ms": {"successful": {"mean": 18.7}},  # counts the wait for the first token too
        "inter_token_latency_ms": {"successful": {"mean": 17.7}},
        "time_to_first_token_ms": {"successful": {"mean": 150.0}},
        "request_latency": {"successful": {"mean": 2.4}},
    }
    report = {"benchmarks": [{"metrics": metrics, "request_totals": {"successful": 99, "errored": 1}}]}
    put(tmp_path, {"llama_8b/report.json": json.dumps(report)})
    (row,) = whole(read(tmp_path)).values()
    assert row["tpot_s"] == pytest.approx(0.0177)
    assert row["generation_s"] == pytest.approx(2.25)  # 2.4 s - 150 ms
    assert row["error_rate"] == pytest.approx(0.01)  # 1 of 100


def test_aiperf_times_are_the_window(tmp_path: Path) -> None:
    report = {
        "request_latency": {"unit": "ms", "avg": 1000.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 515.0},
        "start_time": "2026-03-04T10:00:00",
        "end_time": "2026-03-04T10:00:20",
    }
    _, found = read_text(tmp_path, json.dumps(report))
    assert (found.results[0].window, found.results[0].zone) == ((TEN, TEN + 20), "local")


def test_vllm_lists_give_the_latency_of_whole_requests(tmp_path: Path) -> None:
    lists = {"ttfts": [0.1, 0.3], "itls": [[0.05] * 10, [0.05] * 20]}
    text = vllm(end="20260304-100100", duration=30.0, tokens=32, requests=2, **lists)
    _, found = read_text(tmp_path, text, name="r.json")
    assert found.results[0].values["e2e_s"] == pytest.approx((0.6 + 1.3) / 2)  # first token + gaps
    cut = vllm(end="20260304-100100", duration=30.0, tokens=32, requests=3, **lists)  # one request is missing
    _, found = read_text(tmp_path, cut, name="cut.json")
    assert "e2e_s" not in found.results[0].values


def test_trtllm_counts_tokens_and_names_the_quantization(tmp_path: Path) -> None:
    setup = "= PYTORCH BACKEND\n=====\nDtype:\t\tbfloat16\nQuantization:\t\tFP8\n\n=====\n"
    text = setup + TRTLLM_NEW + "Total Latency (ms): 10000.0\n"
    _, found = read_text(tmp_path, text)
    assert found.texts["quantization"] == "fp8"
    assert found.results[0].values["output_tokens"] == pytest.approx(55_406)  # 5540.6 tokens/s x 10 s
    data = "= DATASET DETAILS\nNumber of Sequences:  300\n\nAVG:   128.0   64.0   192.0\n"
    _, found = read_text(tmp_path, text + data, name="data.txt")
    assert found.results[0].values["output_tokens"] == 19_200  # 64 x 300
    assert found.results[0].settings["prompt_tokens"] == 128


def test_dcgmi_counts_cycles_of_the_memory_and_cells_without_a_value(tmp_path: Path) -> None:
    rows = ["#Entity   POWER   DRAMA", "ID"]
    rows += [
        f"GPU 0     {300.0 if 10 <= i < 20 else 60.0}   {0.5 if 10 <= i < 20 else 0.0}" for i in range(30)
    ]
    put(tmp_path, {"llama_7b/d.txt": "\n".join([*rows, "GPU 0     N/A   0.0"]) + "\n"})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    # Half of the peak while it ran, up to the half intervals at the ends of the window: 4.875 of 10 s.
    assert row["bandwidth_utilization"] == pytest.approx(0.4875)
    assert "cells without a value: 1 of power" in tables["files"][0]["warnings"]


def test_pcm_counts_the_first_interval(tmp_path: Path) -> None:
    rows = [f"2026-03-04;10:00:{i:02d}.000;0.83;100.0" for i in range(12)]
    text = "System;;;\nDate;Time;L3HIT;Proc Energy (Joules)\n" + "\n".join(rows) + "\n"
    put(tmp_path, {"llama_7b/pcm.csv": text})
    (row,) = whole(read(tmp_path)).values()
    # Twelve rows bound eleven intervals; the energy of the first row's own interval has no known length.
    assert (row["window_s"], row["energy_j"]) == (11.0, pytest.approx(1100.0))


def test_hwinfo_memory_of_the_system_and_margin_of_the_processor(tmp_path: Path) -> None:
    head = "Date,Time,CPU Package Power [W],CPU Package [C],Core Distance to TjMAX (avg) [C],Physical Memory Used [MB],\n"
    rows = "".join(f"4.3.2026,10:00:0{i}.000,45.0,{60 + i},{40 - i},8192,\n" for i in range(5))
    put(tmp_path, {"llama_7b/hw.csv": head.replace("[C]", "[°C]") + rows})
    (row,) = whole(read(tmp_path)).values()
    assert row["memory_used_bytes"] == 8192 * 2**20
    assert row["thermal_headroom_c"] == 36.0  # 40 - 4


def test_the_die_beside_the_power_is_the_one_that_counts(tmp_path: Path) -> None:
    head = "Date,Time,GPU Power [W],GPU Temperature [°C],CPU Package [°C],\n"
    rows = "".join(f"4.3.2026,10:00:0{i}.000,200.0,60,90,\n" for i in range(5))
    put(tmp_path, {"llama_7b/hw.csv": head + rows})
    tables = read(tmp_path)
    (row,) = whole(tables).values()
    assert (row["peak_temperature_c"], row["average_temperature_c"]) == (60.0, 60.0)
    assert tables["files"][0]["devices"] == 1


def test_rails_in_milliwatts(tmp_path: Path) -> None:
    text = "Rail Name,Max (mW),Average (mW)\nP_SOC_TOTAL,28000,15000\nRun Time,20,20\n"
    _, found = read_text(tmp_path, text)
    assert (found.facts["average_power_w"], found.facts["peak_power_w"], found.facts["energy_j"]) == (
        15,
        28,
        300,
    )


def test_vllm_without_a_server(tmp_path: Path) -> None:
    text = '{"elapsed_time": 10.0, "num_requests": 100, "total_num_tokens": 25600, "requests_per_second": 10.0, "tokens_per_second": 2560.0}'
    name, found = read_text(tmp_path, text, name="throughput.json")
    assert (name, found.results[0].seconds) == ("vLLM offline JSON", 10.0)
    assert found.results[0].values == {
        "total_tokens_per_s": 2560.0,
        "requests_per_s": 10.0,
        "completed_requests": 100.0,
    }  # prompt tokens are in the 2560, so it is no generation speed
    text = '{"avg_latency": 2.0, "latencies": [1.9, 2.1], "percentiles": {"50": 2.0}}'
    _, found = read_text(tmp_path, text, name="latency.json")
    assert found.results[0].values == {"e2e_s": 2.0}


def test_total_memory_is_not_in_use_and_memory_is_not_the_die(tmp_path: Path) -> None:
    text = (
        "timestamp,Temperature (Sensor junction) (C),Temperature (Sensor memory) (C),Socket Power (W),"
        "VRAM Total Memory (B),VRAM Total Used Memory (B)\n"
        + "".join(f"177261840{i},60,90,250,68000000000,17000000000\n" for i in range(5))
    )
    put(tmp_path, {"llama_7b/rocm.csv": text})
    (row,) = whole(read(tmp_path)).values()
    assert (row["memory_used_bytes"], row["peak_temperature_c"]) == (17e9, 60.0)
