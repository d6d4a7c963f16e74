"""The shipped devices against numbers of their makers' data sheets, typed here a second time."""

from collections import Counter

import pytest

from engine.spec.catalog import catalog_files, load_hardware, packaged_root
from engine.spec.hardware import Hardware

DEVICES = {name: load_hardware(name) for name in catalog_files("hardware")}
DATA_SHEETS = [name for name in DEVICES if not name.startswith("document-")]


def test_at_least_seventy_devices_ship() -> None:
    assert len(DATA_SHEETS) == 92
    assert {"AMD", "AWS", "Apple", "Google", "Intel", "NVIDIA", "Qualcomm"} <= {
        DEVICES[name].vendor for name in DATA_SHEETS
    }


@pytest.mark.parametrize(
    ("name", "precision", "peak", "bandwidth", "memory", "power"),
    [
        # NVIDIA A100 data sheet, June 2021: 312 TFLOPS dense, 2,039 GB/s, 400 W.
        ("a100-sxm-80gb", "bf16", 312e12, 2.039e12, 80e9, 400),
        # NVIDIA H100 data sheet, 2023: 1,979 TFLOPS with sparsity, 3.35 TB/s, 700 W.
        ("h100-sxm-80gb", "bf16", 989.4e12, 3.35e12, 80e9, 700),
        # NVIDIA H200 data sheet, 2023: 3,958 TFLOPS of fp8 with sparsity, 4.8 TB/s, 141 GB.
        ("h200-sxm", "fp8", 1978.9e12, 4.8e12, 141e9, 700),
        # NVIDIA L4 data sheet, 2023: 242 TFLOPS with sparsity, 300 GB/s, 72 W.
        ("l4", "fp16", 121e12, 300e9, 24e9, 72),
        # NVIDIA L40S data sheet, 2023: 362.05 TFLOPS, 864 GB/s, 350 W.
        ("l40s", "bf16", 362.05e12, 864e9, 48e9, 350),
        # NVIDIA T4 data sheet, 2019: 130 TOPS of int8, 70 W.
        ("t4", "int8", 130e12, 320e9, 16e9, 70),
        # AMD Instinct MI300X data sheet, 2023: 1307.4 TFLOPS, 5.3 TB/s, 192 GB, 750 W.
        ("mi300x", "fp16", 1307.4e12, 5.3e12, 192e9, 750),
        # AMD Instinct MI250X data sheet, 2021: 383 TFLOPS, 3.2 TB/s (3276.8 GB/s), 560 W.
        ("mi250x", "bf16", 383e12, 3.277e12, 128e9, 560),
        # Intel Gaudi 3 white paper, 2024: 1835 TFLOPS, 3.67 TB/s, 128 GB, 900 W (OAM).
        ("gaudi3", "fp8", 1835e12, 3.67e12, 128e9, 900),
        # NVIDIA Ada whitepaper, 2022: 165.2 TFLOPS with fp32 accumulation, 1008 GB/s, 450 W.
        ("rtx-4090", "fp16", 165.2e12, 1008e9, 24e9, 450),
        # Google Cloud TPU v5e page: 197 TFLOPS, 819 GB/s, 16 GB; no power is published.
        ("tpu-v5e", "bf16", 197e12, 819e9, 16e9, None),
        # AWS Neuron Trainium2 page: 667 dense TFLOPS, 2.9 TB/s, 96 GB; no power is published.
        ("trainium2", "bf16", 667e12, 2.9e12, 96e9, None),
    ],
)
def test_numbers_of_the_data_sheet(
    name: str, precision: str, peak: float, bandwidth: float, memory: float, power: float | None
) -> None:
    device = DEVICES[name]
    assert getattr(device.peak, precision) == peak
    assert (device.memory_bandwidth, device.memory, device.power) == (bandwidth, memory, power)


@pytest.mark.parametrize(
    ("name", "peak", "bandwidth", "ridge"),
    [
        ("document-a100", 19.5e12, 1.555e12, 12.54),
        ("document-h100", 67e12, 3.35e12, 20.0),
        ("document-snapdragon-8-gen-2", 4.35e12, 51.2e9, 84.96),
        ("document-dram-pim", 0.8e12, 0.8e12, 1.0),
        ("document-nand-pim", 0.2e12, 0.2e12, 1.0),
        ("document-xeon-platinum", 2.8e12, 204.8e9, 13.67),
        ("document-m2-ultra", 27.2e12, 800e9, 34.0),
        ("document-mi250x", 47.9e12, 3.28e12, 14.60),
    ],
)
def test_a_preset_has_the_documents_one_peak_at_every_precision(
    name: str, peak: float, bandwidth: float, ridge: float
) -> None:
    device = DEVICES[name]
    assert set(device.peak.model_dump().values()) == {peak}
    assert device.memory_bandwidth == bandwidth
    assert round(peak / bandwidth, 2) == pytest.approx(ridge, abs=0.005)
    assert (device.confidence, device.vendor, device.memory) == ("C", "document", None)
    assert "whatever the precision" in str(device.notes)


def test_waivers_are_exactly_those_that_data_sheets_need() -> None:
    found = {(name, waiver.rule) for name in DATA_SHEETS for waiver in DEVICES[name].waivers}
    assert found == {
        ("b300-sxm", "ratio-int8-bf16"),
        ("gb300-nvl72", "ratio-int8-bf16"),
        ("trainium3", "ratio-fp8-bf16"),
        ("jetson-thor-t5000", "ridge"),
        ("xeon-8480p", "ridge"),
        ("cloud-ai-100-std", "ridge"),
        ("cloud-ai-100-pro", "ridge"),
    }


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_says_where_its_numbers_come_from(name: str) -> None:
    device = DEVICES[name]
    assert "20" in str(device.source)
    assert device.notes
    first = (packaged_root() / "hardware" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/hardware.v1.json"


def test_idle_power_and_throttling_are_left_to_the_device() -> None:
    # Published readings are few and vary by card; measurements read them from the device itself.
    assert "idle_power" not in Hardware.model_fields
    assert [name for name, device in DEVICES.items() if device.slowdown_temperature is not None] == []


def test_unknown_is_absent_and_never_zero() -> None:
    assert DEVICES["snapdragon-8-gen-3"].peak.int8 is None
    assert DEVICES["dgx-spark-gb10"].peak.bf16 is None
    assert DEVICES["xeon-8480p"].memory is None
    assert DEVICES["cerebras-wse3"].peak.model_dump(exclude_none=True) == {}


def test_confidence_is_the_sources() -> None:
    counts = Counter(DEVICES[name].confidence for name in DATA_SHEETS)
    assert counts == {"A": 49, "B": 33, "C": 10}


def test_disputed_numbers_show_their_range() -> None:
    ranges = {(name, one.field): one.values for name in DATA_SHEETS for one in DEVICES[name].ranges}
    assert ranges["b300-sxm", "peak.fp4"] == ["13.5 PFLOP/s", "14 PFLOP/s"]
    assert ranges["b200-sxm", "memory_bandwidth"] == ["7.7 TB/s", "8 TB/s"]
    assert ranges["gb200-nvl72", "memory"] == ["186 GB", "192 GB", "189471 MiB"]
