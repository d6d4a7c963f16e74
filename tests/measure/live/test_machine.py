"""What disturbs a measurement is said with its numbers; a pretend driver answers for the GPU."""

from __future__ import annotations

import os
import sys
import types

import pytest

from engine.measure.live import oom
from engine.measure.live.findings import other_device
from engine.measure.live.machine import GpuProbe, host_rss_peak, look, noise
from engine.measure.live.records import Machine, Repeat
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.workload import Workload

QUIET = {
    "load_average": 0.5, "steal_s": 10.0, "cpu_total_s": 1000.0, "cpu_clock_hz": None, "gpu_clock_hz": None,
    "gpu_temperature_c": None, "switches": 0,
}  # fmt: skip


@pytest.fixture
def driver(monkeypatch):
    """A driver with one process on device 2."""

    class NVMLError(Exception):
        pass

    process = types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=3_000)
    nvml = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: f"index {index}",
        nvmlDeviceGetHandleByUUID=lambda name: f"uuid {name}",
        nvmlDeviceGetClockInfo=lambda _handle, _kind: 1980,
        nvmlDeviceGetTemperature=lambda _handle, _sensor: 51,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=5_000, free=len(handle)),
        nvmlDeviceGetComputeRunningProcesses=lambda _handle: [process],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


@pytest.mark.parametrize(("visible", "handle"), [("2,3", "index 2"), ("GPU-abc", "uuid GPU-abc")])
def test_the_device_asked_is_the_one_torch_sees(driver, monkeypatch, visible, handle):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert oom.visible_device(driver) == handle
    probe = GpuProbe(devices=1)
    assert (probe.clock_hz(), probe.temperature_c()) == (1.98e9, 51.0)
    assert (probe.used_bytes(), probe.process_bytes()) == (5_000, 3_000)


def test_several_devices_are_one_deployment(driver, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver.nvmlDeviceGetClockInfo = lambda handle, _kind: {"index 0": 1980, "index 1": 1755}[handle]
    driver.nvmlDeviceGetTemperature = lambda handle, _sensor: {"index 0": 51, "index 1": 64}[handle]
    probe = GpuProbe(devices=2)
    driver.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(
        used={"index 0": 5_000, "index 1": 7_000}[handle]
    )
    # The slowest clock, the hottest die, and the memory of the fullest device.
    assert (probe.clock_hz(), probe.temperature_c()) == (1.755e9, 64.0)
    assert (probe.used_bytes(), probe.process_bytes()) == (7_000, 3_000)


def test_memory_is_counted_for_the_fullest_device():
    """Llama-3.1-70B in bf16: 141 GB of weights do not fit into 85 GB, half of its layers do."""
    model, form = load_model("llama-3.1-70b"), load_quantization("bf16")
    load = Workload(prompt_tokens=128, output_tokens=128)
    free = oom.Available(85e9, "cuda", "given")
    alone = oom.check_memory(model, form, load, sequences=1, available=free)
    assert (alone.verdict, alone.largest_concurrency) == ("does_not_fit", 0)
    assert alone.weights_bytes == 70_553_706_496 * 2
    both = oom.check_memory(model, form, load, sequences=1, available=free, devices=2)
    # 40 of 80 layers of 855,654,400 numbers each, and the larger end: head and last norm.
    assert both.weights_bytes == 2 * (40 * 855_654_400 + 128_256 * 8192 + 8192)
    assert both.kv_cache_bytes == pytest.approx(alone.kv_cache_bytes / 2)
    assert both.verdict == "fits"
    assert both.sentence.startswith("over 2 devices the fullest needs 71.")


def test_without_a_driver_nothing_is_known():
    probe = GpuProbe(devices=0)
    assert (probe.clock_hz(), probe.used_bytes(), probe.process_bytes()) == (None, None, None)
    state = look(probe)
    assert state.gpu_clock_hz is None
    assert host_rss_peak() > 10e6


def found(monkeypatch, *, busy_threads=0, **after):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    before = Machine(**QUIET)
    later = Machine(**{**QUIET, "cpu_total_s": 1100.0, **after})
    return noise([Repeat(0, [], 0, 1, before, later), Repeat(1, [], 1, 2, later, later)],
                 busy_threads=busy_threads)  # fmt: skip


def test_a_quiet_machine_has_no_findings(monkeypatch):
    assert found(monkeypatch) == []


def test_stolen_time(monkeypatch):
    # 5 of 100 CPU seconds
    assert found(monkeypatch, steal_s=15.0) == [
        ("stolen-time", "the host of this virtual machine took 5.0% of its CPU time")
    ]


def test_clocks_that_move(monkeypatch):
    monkeypatch.setitem(QUIET, "gpu_clock_hz", 1.98e9)
    assert found(monkeypatch, gpu_clock_hz=1.4e9) == [
        ("clock-drift", "the GPU clock moved between 1400 and 1980 MHz")
    ]


def test_others_on_the_machine_but_not_ourselves(monkeypatch):
    monkeypatch.setitem(QUIET, "load_average", 7.0)
    assert found(monkeypatch, busy_threads=4) == []
    assert found(monkeypatch) == [
        ("busy-machine", "load average reached 7.0 on 4 cores; others ran here too")
    ]


def test_the_largest_concurrency_is_where_memory_ends():
    model, form = load_model("llama-3.1-8b"), load_quantization("bf16")
    work = Workload(prompt_tokens=512, output_tokens=64)

    def check(sequences, free):
        available = oom.Available(free, "cuda", "given")
        return oom.check_memory(model, form, work, sequences=sequences, available=available)

    largest = check(1, 24e9).largest_concurrency
    assert check(largest, 24e9).needed_bytes <= 24e9 < check(largest + 1, 24e9).needed_bytes
    assert check(largest, 24e9).verdict == "tight"
    assert check(largest + 1, 24e9).verdict == "does_not_fit"
    assert check(1, 24e9).verdict == "fits"
    assert (check(1, 10e9).largest_concurrency, check(1, 10e9).limit) == (0, "weights alone are too large")
    assert check(1, 1e15).limit == "none below 65,536 requests"


@pytest.mark.parametrize(("hardware", "seen", "ran"), [
    ("h100-sxm-80gb", {"device": "cpu"}, "this machine's processor"),
    ("h100-sxm-80gb", {"device": "cuda", "device name": "NVIDIA A100-SXM4-80GB"}, "`NVIDIA A100-SXM4-80GB`"),
    ("h100-sxm-80gb", {"device": "cuda", "device name": "NVIDIA H100 80GB HBM3"}, None),
    ("rtx-4090", {"device": "cuda", "device name": "NVIDIA GeForce RTX 4090"}, None),
    ("l40s", {"device": "cuda", "device name": "NVIDIA L40"}, "`NVIDIA L40`"),
    ("epyc-9654", {"device": "cpu"}, None),
    ("jetson-thor-t5000", {"device": "cuda", "device name": "NVIDIA Thor"}, None),
    ("h100-sxm-80gb", {"model": "served"}, None),
])  # fmt: skip
def test_a_model_that_ran_elsewhere_is_told(hardware, seen, ran):
    rows = [{"setting": name, "observed": value} for name, value in seen.items()]
    found = list(other_device(load_hardware(hardware), rows))
    told = [f"the spec names {load_hardware(hardware).name}, and the model ran on {ran}"] if ran else []
    assert [finding["finding"] for finding in found] == told
    assert all(finding["severity"] == "error" for finding in found)
