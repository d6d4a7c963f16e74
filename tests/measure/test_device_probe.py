"""The device probe: shapes that tell sites apart first, times that are sane, and a device entry from them."""

from pathlib import Path

import pytest

from engine.measure.device_probe import shapes
from engine.measure.device_probe.sheet import sheet_text
from engine.measure.device_probe.timing import timed
from engine.spec.document import read_document, validate
from engine.spec.hardware import Hardware


def test_the_first_shapes_are_of_different_sites() -> None:
    found = shapes.gemm_shapes(2048)
    sites = {(s["n"], s["k"]) for s in found}
    assert len({(s["n"], s["k"]) for s in found[: len(sites)]}) == len(sites)
    assert max(max(s.values()) for s in found) == 2048
    assert {s["q_len"] for s in shapes.decode_shapes(2048)} == {1}
    assert all(s["q_len"] == s["kv_len"] for s in shapes.prefill_shapes(2048))


def test_times_are_quartiles_of_enough_calls() -> None:
    calls: list[int] = []
    found = timed(calls.append, "cpu")
    # Two calls to warm up, then as many as the limit allows for something that takes no time.
    assert calls == list(range(len(calls)))
    assert found.trials == len(calls) - 2 == 200
    assert 0 <= found.low_s <= found.median_s <= found.high_s


def test_a_device_entry_from_the_best_rates() -> None:
    rows = [
        # 2 x 100 x 200 x 300 FLOP in 1 ms are 12 GFLOP/s.
        {"operator": "gemm", "precision": "fp32", "m": 100, "n": 200, "k": 300, "time_s": 1e-3},
        {"operator": "copy", "precision": "fp32", "bytes": 5e6, "time_s": 1e-3},
    ]
    found = validate(read_document("d.yaml", data=sheet_text('a "b"', "cpu", rows).encode()), Hardware)
    assert found.name == 'a "b"'
    assert found.peak.fp32 == pytest.approx(1.01 * 12e9)
    assert found.memory_bandwidth == pytest.approx(1.01 * 5e9)
    assert found.confidence == "C"


def test_a_small_probe_writes_rows_and_a_sheet(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from engine.measure.device_probe import probe_device
    from engine.measure.registry import Tools
    from engine.spec.device_probe import DeviceProbeSettings

    settings = DeviceProbeSettings.model_validate(
        {
            "kind": "device_probe",
            "device": "cpu",
            "name": "here",
            "budget": 0.01,
            "largest": 256,
            "threads": 1,
            "cold_bytes": 1e6,
            "host": False,
            "sheet": "hardware/here.yaml",
        },
        context={"trusted": True},
    )
    tables = probe_device(settings, None, Tools(spec_folder=tmp_path, scratch=tmp_path))  # type: ignore[arg-type]
    kernels = tables["kernels"].to_pydict()
    assert {"gemm", "prefill_attention", "decode_attention", "elementwise", "copy", "launch"} == set(
        kernels["operator"]
    )
    assert all(time > 0 for time in kernels["time_s"])
    assert set(kernels["device"]) == {"here"}
    assert (tmp_path / "hardware" / "here.yaml").exists()
