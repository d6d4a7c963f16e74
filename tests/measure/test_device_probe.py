"""The device probe: shapes that tell sites apart first, times that are sane, and a device entry from them."""

import time
from pathlib import Path

import pytest

from engine.measure.device_probe import shapes
from engine.measure.device_probe.host import Products
from engine.measure.device_probe.noise import Reference
from engine.measure.device_probe.sheet import sheet_text
from engine.measure.device_probe.timing import Timed, clock_for, mean_of, timed
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
    found = timed(calls.append, "cpu", read=Ticks(3e-3))
    # Two calls to warm up, then 3 ms each until 20 ms are spent; data rotates with every call.
    assert calls == list(range(2 + 7))
    assert found.trials == 7
    assert found.low_s == pytest.approx(3e-3)
    assert found.high_s == pytest.approx(3e-3)


def test_short_calls_are_timed_several_at_once() -> None:
    calls: list[int] = []
    found = timed(calls.append, "cpu", read=Ticks(2e-6))
    # 2 us a call are too short for a clock: 20 at once until the most trials are done.
    assert calls == list(range(2 + 20 * 200))
    assert found.trials == 200
    assert found.median_s == pytest.approx(2e-6 / 20)


class Ticks:
    """A clock that moves by one step each time it is read twice."""

    def __init__(self, step_s: float) -> None:
        self.reads, self.step_s = 0, step_s

    def __call__(self) -> float:
        self.reads += 1
        return self.step_s * (self.reads // 2)


def test_the_mean_of_the_rounds_counts() -> None:
    found = mean_of([Timed(3.0, 2.0, 4.0, 5), Timed(1.0, 0.9, 1.1, 7), Timed(5.0, 1.5, 9.0, 6)])
    assert found == Timed(3.0, 0.9, 9.0, 18)


def test_products_are_timed_where_they_run_and_taken_out() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    # Whatever happens between two reads takes 1 ms: two products, and three stretches around them.
    products = Products.of(module, Beats())
    for _ in range(2):
        result, beside_s = products.beside(lambda: module(torch.ones(1, 2)))
        assert result.shape == (1, 1)
        assert beside_s == pytest.approx(3e-3)
        assert products.spent_s == pytest.approx(2e-3)


class Beats:
    """A clock that moves by a millisecond each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


def test_one_thread_of_a_cpu_is_timed_by_its_processor() -> None:
    assert clock_for("cpu", 1) is time.thread_time
    assert clock_for("cpu", None) is time.perf_counter
    assert clock_for("cuda", 1) is time.perf_counter


@pytest.mark.parametrize(("slow", "told"), [((), False), ((2, 3, 4, 5), True)])
def test_a_busy_machine_is_told(slow: tuple[int, ...], told: bool) -> None:
    # A reference of 1 ms that takes 3 ms in some moments; each moment reads the clock six times.
    clock = Disturbed(slow)
    reference = Reference(lambda _: None, clock)
    for _ in range(6):
        reference.look()
    found = reference.finding()
    assert (found is not None and "disturbed in 67% of 6 moments" in found["evidence"]) is told


class Disturbed:
    """A clock under which a call takes 1 ms, and 3 ms in the moments given."""

    def __init__(self, slow: tuple[int, ...]) -> None:
        self.slow, self.reads, self.now = slow, 0, 0.0

    def __call__(self) -> float:
        if self.reads % 2:
            self.now += 3e-3 if self.reads // 6 in self.slow else 1e-3
        self.reads += 1
        return self.now


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
