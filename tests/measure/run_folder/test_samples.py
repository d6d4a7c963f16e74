"""Real files of every layout, where a folder of them is at hand: ENGINE_SHARED names its parent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.measure.run_folder.formats import format_of
from engine.measure.run_folder.record import Read
from engine.measure.run_folder.text import look
from engine.measure.run_folder.trace import total_power
from tests.measure.run_folder.trees import read, settings, whole

SHARED = os.environ.get("ENGINE_SHARED")
pytestmark = pytest.mark.skipif(SHARED is None, reason="ENGINE_SHARED names no folder of samples")
SAMPLES = Path(SHARED or ".") / "samples"


def sample(name: str, **more: Any) -> Read:
    """What a sample says."""
    path = SAMPLES / name
    source = look(path, path.name, root=SAMPLES)
    form = format_of(source)
    assert form is not None, name
    return form.read(source, settings(SAMPLES, **more))


def powers(name: str, **more: Any) -> list[list[float]]:
    """Power readings of a sample, device by device."""
    return [t.value.tolist() for t in sample(name, **more).traces if t.quantity == "power"]


RESULTS = {
    "llamacpp_timings/v2023-03_no_tps.txt": {"output_tokens": 32, "tpot_s": 0.13478, "ttft_s": 0.92578},
    "llamacpp_timings/c_2023-07_tps.txt": {"output_tokens": 256, "throughput_tokens_per_s": 11.43},
    "llamacpp_timings/c_2024-03_two_blocks.log": {
        "generation_s": 9.271,
        "output_tokens": 128,
        "tpot_s": 0.073,
    },
    "llamacpp_timings/c_2024-12_llama_perf.txt": {"output_tokens": 201, "throughput_tokens_per_s": 49.75},
    "llamacpp_timings/c_2025_server_plain.txt": {"output_tokens": 150, "ttft_s": 0.31},
    "openvino_llm_bench/c_average_2025.txt": {
        "ttft_s": 0.18,
        "tpot_s": 0.05,
        "throughput_tokens_per_s": 20.0,
    },
    "openvino_llm_bench/c_genai_mean_std.txt": {"ttft_s": 0.0962, "throughput_tokens_per_s": 35.09},
    "openvino_benchmark_app/c_result.txt": {"requests_per_s": 20.0, "completed_requests": 240},
    "phi_genai/c_result.txt": {"ttft_s": 0.24, "generation_s": 6.0, "throughput_tokens_per_s": 16.0},
    "serving_text/vllm.txt": {"ttft_s": 7.27956, "output_tokens": 65536, "throughput_tokens_per_s": 434.4},
    "vllm_serving_json/c_result.json": {"ttft_s": 0.275, "tpot_s": 0.0575, "throughput_tokens_per_s": 8.5},
    "neuron_benchmark_report/document_example.json": {"e2e_s": 12.13149, "total_tokens_per_s": 52.76},
    "mobile_profile_json/c_profile.json": {"ttft_s": 0.2, "generation_s": 1.24},
    "pi5_results_csv/c_results.csv": {"energy_j": 60.0, "net_energy_j": 40.0, "throttle_events": 1},
    "energy_per_phase_csv/c_comma.csv": {"energy_j": 81.0, "average_power_w": 162.0},
}


@pytest.mark.parametrize("name", RESULTS)
def test_numbers_equal_the_text(name: str) -> None:
    (result,) = sample(name).results
    for metric, value in RESULTS[name].items():
        assert result.values[metric] == pytest.approx(value, rel=5e-4), metric


def test_llama_bench_rows() -> None:
    rates = {r.label: r.values for r in sample("llamabench/out_2025.csv").results}
    assert rates["tg128"]["throughput_tokens_per_s"] == pytest.approx(119.915244)
    assert rates["pp512"]["prompt_tokens_per_s"] == pytest.approx(7285.676949)
    assert [r.label for r in sample("llamabench/md_2023.md").results] == ["tg128", "tg128", "pp512"]


def test_levels_of_a_concurrency_profile() -> None:
    found = sample("kvprofiler_runtrace/exp1_concurrency_1757158460.csv")
    rates = [round(r.values["throughput_tokens_per_s"], 2) for r in found.results]
    assert rates == [0.83, 0.83]  # wall clock: the requests ran one after another
    assert [round(r.values["sum_of_request_tokens_per_s"], 1) for r in found.results] == [0.8, 1.7]
    assert "serial-requests" in {note.code for note in found.notes}


POWERS = {
    "nvidia_smi_dmon/c_date_time.txt": [[120, 240], [118, 232]],
    "turbostat/c_summary.tsv": [[45, 55, 50], [5, 6, 5.5]],
    "turbostat/c_percpu_time.tsv": [[40, 60]],
    "powermetrics_derived_csv/c_headerless.csv": [[3.04, 3.04, 3.26, 10, 10.6, 10.3]],
    "amd_uprof_timechart_csv/c_midnight.csv": [[100, 102, 110, 120, 118], [110, 112, 120, 130, 128]],
    "hwinfo_csv/c_comma_dup.csv": [[40.5, 48.5, 50]],
    "hwinfo_csv/c_semicolon_cp1252.csv": [[60, 180, 220.5, 210, 90]],
}


@pytest.mark.parametrize("name", POWERS)
def test_watts_equal_hand_reading(name: str) -> None:
    found = powers(name)
    assert [pytest.approx(series) for series in POWERS[name]] == found


def test_midnight_is_crossed() -> None:
    trace = next(t for t in sample("amd_uprof_timechart_csv/c_midnight.csv").traces)
    assert trace.end - trace.start == pytest.approx(0.4)


def test_summaries_without_times() -> None:
    rails = sample("pacs_daq/c_run_pacs-summary.csv", rails={"SOC_POWER_RAIL_NAME": "P_SOC_TOTAL"})
    assert dict(rails.facts) == {"average_power_w": 15, "peak_power_w": 28, "energy_j": 300, "window_s": 20}
    node = sample("ipmi_dcmi/c_reading.txt")
    assert dict(node.facts) == {"average_power_w": 398, "peak_power_w": 455}


@pytest.mark.parametrize("name", ["c_units_cut_tail.csv", "c_nounits_temp_mask.csv", "c_two_gpus.csv"])
def test_nvidia_smi_files_meet_what_is_expected(name: str) -> None:
    expected = json.loads((SAMPLES / "nvidia_smi_csv/expected.json").read_text())[f"nvidia_smi_csv/{name}"]
    traces = list(sample(f"nvidia_smi_csv/{name}").traces)
    power = total_power([t for t in traces if t.quantity == "power"])
    assert power.samples == expected["samples"]
    assert power.end - power.start == pytest.approx(expected["duration_s"], abs=1e-3)
    assert float(power.integral[-1]) == pytest.approx(expected["energy_j"], abs=0.01)
    assert power.mean((power.start, power.end)) == pytest.approx(expected["avg_power_w"], abs=1e-3)
    assert float(power.peak.max()) == pytest.approx(expected["peak_power_w"])
    assert power.interval_s == pytest.approx(expected["median_interval_s"], abs=1e-3)
    if "peak_temp_c" in expected:
        by_name = {t.quantity: t for t in traces}
        assert float(by_name["temperature"].peak.max()) == expected["peak_temp_c"]
        assert float(by_name["memory"].peak.max()) == expected["memory_used_bytes"]
        assert len(by_name["throttle"].edges_s) == expected["throttle_events"]


@pytest.mark.parametrize(
    "run", ["llama_7b/batch_1", "llama_7b/batch_4", "llama_13b/batch_1", "llama_70b/batch_1"]
)
def test_the_tree_of_runs(run: str) -> None:
    expected = json.loads((SAMPLES / "run_tree/expected.json").read_text())["runs"][run]
    tables = read(SAMPLES / "run_tree")
    row = whole(tables)[run]
    assert row["parameters"] == expected["model_params"]
    speed = expected["performance"]
    assert row["output_tokens"] == speed["tokens_generated"]
    for ours, theirs in (
        ("ttft_s", "ttft_ms"),
        ("generation_s", "decode_time_ms"),
        ("tpot_s", "latency_ms_per_token"),
    ):
        if speed.get(theirs) is not None:
            assert row[ours] * 1e3 == pytest.approx(speed[theirs], rel=1e-3)
    log, window = expected["power"]["whole_log"], expected["power"]["window_truth"]
    assert row["whole_log_energy_j"] == pytest.approx(log["energy_j"], abs=0.01)
    assert row["whole_log_power_w"] == pytest.approx(log["avg_power_w"], abs=1e-3)
    assert row["peak_power_w"] == pytest.approx(window["peak_power_w"])
    assert row["energy_j"] == pytest.approx(window["energy_j"], rel=0.05)
    assert row["energy_per_output_token_j"] == pytest.approx(window["energy_per_token_j"], rel=0.05)
    thermal = expected["thermal"]
    if thermal is not None:
        assert row["peak_temperature_c"] == thermal["peak_temp_c"]
        assert row["whole_log_peak_temperature_c"] == thermal["peak_temp_c"]
        assert row["whole_log_average_temperature_c"] == pytest.approx(thermal["avg_temp_c"])
        if thermal["throttle_events"] is not None:
            assert row["whole_log_throttle_events"] == thermal["throttle_events"]


def test_the_tree_keeps_the_run_that_failed() -> None:
    tables = read(SAMPLES / "run_tree")
    row = whole(tables)["foo/batch_2"]
    assert (row["status"], row["parameters"], row["output_tokens"]) == ("failed", None, None)
    mine = {f["rule"] for f in tables["findings"] if f["evidence"].startswith("foo/")}
    assert {"unknown-model", "unknown-format", "no-results", "no-power", "no-thermal"} <= mine
