"""Whole campaigns in this process: a tiny model on the CPU, with power from the pretend NVML or without."""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EnvironmentMissing
from engine.measure.energy import measure_energy
from engine.measure.registry import Tools
from engine.plan.compile import compile_plan
from engine.spec.experiment import Experiment

pytest.importorskip("torch")
pytest.importorskip("transformers")

TINY = {
    "name": "tiny", "architecture": "llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
}  # fmt: skip
QUICK = {
    "kind": "energy",
    "target": {"kind": "local", "threads": 1, "device": "cpu"},
    "repeats": 2,
    "trials": 2,
    "loop": {"window": "60 ms", "warmup": "5 ms", "cooldown": "0 s", "min_edges": 3, "precision": 0.5},
}


def measured(
    tmp_path: Path, *, workload: tuple[int, int] = (8, 5), pipeline: int = 1, **settings: Any
) -> dict[str, list[dict[str, Any]]]:
    """Tables of one point, as lists of rows."""
    experiment = Experiment.model_validate(
        {
            "version": 1,
            "name": "t",
            "model": TINY,
            "hardware": "h100-sxm-80gb",
            "quantization": "fp32",
            "workload": {"prompt_tokens": workload[0], "output_tokens": workload[1], "batch_size": 2},
            "parallelism": {"pipeline": pipeline},
            # A prediction stands beside: its energies are put next to the metered ones.
            "measurements": [{"kind": "analytical"}, {**QUICK, **settings}],
        }
    )
    _, task = compile_plan(experiment).tasks
    said: list[str] = []
    tables = measure_energy(task.settings, task, Tools(tmp_path, tmp_path, seed=3, say=said.append))
    return {name: table.to_pylist() for name, table in tables.items()} | {"said": said}


def test_time_alone_on_any_machine(tmp_path: Path) -> None:
    found = measured(tmp_path, metrics=["time"], granularity="component", ablation=True)
    phases = {row["phase"]: row for row in found["summary"] if not row["variant"]}
    assert set(phases) == {"load", "tokenize", "prefill", "decode", "detokenize", "request"}
    for row in phases.values():
        assert row["status"] == "ok"
        assert row["reason"] == "only time was measured"
        assert row["time_s"] > 0
        assert row.get("energy_j") is None  # no estimate passes for a measurement
    assert phases["decode"]["time_s_n"] == 2
    components = [row for row in found["components"] if row["layer"] is None]
    names = {row["component"] for row in components}
    assert {"step", "attention", "ffn", "q", "context", "unattributed", "lm_head"} <= names
    assert all(row["energy_j"] is None and row["valid"] for row in components)
    dropped = [row for row in components if row["method"] == "ablation"]
    assert {row["component"] for row in dropped} == {"attention", "ffn"}
    layers = [row for row in found["components"] if row["component"] == "ffn" and row["layer"] is not None]
    assert {row["layer"] for row in layers} == {0, 1, 2}
    assert found["samples"] == []
    assert any("components x 2 trials" in line for line in found["said"])


def test_a_quick_look_is_labelled_as_one(tmp_path: Path) -> None:
    found = measured(tmp_path, metrics=["time"], granularity="layer", method="time_weighted")
    layers = [row for row in found["components"] if row["component"] == "layer"]
    assert {(row["phase"], row["layer"]) for row in layers} == {
        (phase, layer) for phase in ("prefill", "decode") for layer in range(3)
    }
    assert {row["method"] for row in layers} == {"time_weighted"}
    for phase in ("prefill", "decode"):
        top = next(r for r in found["components"] if r["component"] == phase)
        parts = [r for r in found["components"] if r["phase"] == phase and r["parent"] == phase]
        assert sum(r["time_s"] for r in parts) == pytest.approx(top["time_s"])


FIRST = "GPU-00000000-fake-0000-0000-000000000000"
SECOND = "GPU-00000000-fake-0000-0000-000000000001"


def on_device(monkeypatch, *uuids: str) -> None:
    """Let the model on the CPU pass for one on these devices of the pretend library."""
    from engine.measure.energy import devices

    monkeypatch.setattr(devices, "refuse_unmetered", lambda target: None)
    monkeypatch.setattr(devices, "uuids_of", lambda local: uuids)


def test_a_model_on_the_processor_gets_no_energy_of_an_idle_device(tmp_path: Path, nvml, monkeypatch) -> None:
    with pytest.raises(EnvironmentMissing, match="the model would run on `cpu`: NVML and nvidia-smi read"):
        measured(tmp_path, source="nvml")
    found = measured(tmp_path, source="nvml", on_missing="skip")
    (row,) = found["summary"]
    assert (row["status"], row.get("energy_j")) == ("skipped", None)


@pytest.mark.parametrize("uuids, watts", [((FIRST,), 300.0), ((FIRST, SECOND), 350.0)], ids=("one", "two"))
def test_only_the_devices_of_the_model_count_and_several_add_up(
    tmp_path: Path, loaded, fake_environment, monkeypatch, uuids, watts: float
) -> None:
    # Two devices, 300 W and 50 W. The one beside the model is split, and somebody computes on it.
    beside = {"second_mig": 1, "second_pid": 99} if uuids == (FIRST,) else {}
    settings = {"virtual_time": 0, "counter_period": 0.01, "power_period": 0.01, "power_window": 0.01,
                "count": 2, **beside}  # fmt: skip
    for name, value in fake_environment([(1e6, 300.0)], **settings).items():
        monkeypatch.setenv(name, value)
    on_device(monkeypatch, *uuids)
    try:
        found = measured(
            tmp_path, source="nvml", granularity="layer", repeats=1, trials=1, sample_interval="10 ms",
            idle={"window": "1100 ms", "settle": "0 s"}, probe={"duration": "200 ms", "interval": "1 ms"},
            limits={"disagreement": 0.5, "closure": 0.9}, workload=(4, 2),
        )  # fmt: skip
    finally:
        loaded.reset()
    row = next(r for r in found["summary"] if r["phase"] == "request" and not r["variant"])
    assert row["energy_j"] == pytest.approx(watts * row["time_s"], rel=0.1)
    step = next(r for r in found["components"] if r["component"] == "step" and r["phase"] == "decode")
    assert step["valid"], step["reason"]
    assert step["energy_j"] == pytest.approx(watts * step["time_s"], rel=0.2)
    assert {r["device"] for r in found["samples"]} == set(uuids)
    told = next(r["evidence"] for r in found["findings"] if r["rule"] == "setup")
    assert all(uuid in told for uuid in uuids)


def test_energy_through_the_pretend_nvml(tmp_path: Path, loaded, fake_environment, monkeypatch) -> None:
    # A device that always draws 300 W and updates every 10 ms: every energy is 300 W times its time. Windows
    # run on the wall clock, and on a busy machine a reading may come late: bounds are wide.
    settings = {"virtual_time": 0, "counter_period": 0.01, "power_period": 0.01, "power_window": 0.01}
    for name, value in fake_environment([(1e6, 300.0)], **settings).items():
        monkeypatch.setenv(name, value)
    short = {"window": "1500 ms", "settle": "50 ms"}
    on_device(monkeypatch, FIRST)
    try:
        found = measured(
            tmp_path, source="nvml", granularity="component", idle=short, sample_interval="10 ms",
            probe={"duration": "500 ms", "interval": "1 ms"},
            limits={"disagreement": 0.5, "closure": 0.9},
        )  # fmt: skip
    finally:
        loaded.reset()
    idle = [row for row in found["summary"] if row["phase"] == "idle"]
    assert [row["variant"] for row in idle] == ["cold before", "resident before", "resident after"]
    for row in idle:
        assert row["idle_power_w"] == pytest.approx(300.0, rel=0.1)
    phases = {row["phase"]: row for row in found["summary"] if not row["variant"]}
    for name in ("prefill", "decode", "request", "tokenize"):
        row = phases[name]
        assert row["status"] == "ok"
        assert row["energy_j"] == pytest.approx(300.0 * row["time_s"], rel=0.1)
        assert row["net_energy_j"] == pytest.approx(0.0, abs=0.2 * row["energy_j"])
        assert "energy from counter" in row["reason"]
        assert row["energy_systematic_j"] > 0.05 * row["energy_j"]
    assert phases["prefill"]["energy_per_prompt_token_j"] == pytest.approx(phases["prefill"]["energy_j"] / 16)
    assert phases["decode"]["energy_per_output_token_j"] == pytest.approx(phases["decode"]["energy_j"] / 8)
    assert phases["request"]["energy_per_request_j"] == pytest.approx(phases["request"]["energy_j"] / 2)
    # The performance model's energy stands beside the metered one.
    assert phases["decode"]["predicted_energy_j"] > 0
    assert phases["decode"]["thermal_headroom_c"] == 42
    step = next(r for r in found["components"] if r["component"] == "step" and r["phase"] == "decode")
    assert step["energy_j"] == pytest.approx(300.0 * step["time_s"], rel=0.2)
    assert step["n"] >= 1
    steps = [r for r in found["components"] if r["step"] is not None]
    assert [r["step"] for r in steps] == [0, 1, 2, 3]
    assert len(found["samples"]) > 100
    assert {"prefill", "decode", "idle", "component loops"} <= {row["phase"] for row in found["samples"]}
    told = [row["finding"] for row in found["findings"]]
    assert any("recorder:" in text for text in told)
    # With sampling and without, both made here.
    cost = next(text for text in told if text.startswith("sampling: decode took "))
    assert cost.endswith("of its time without a recorder, n = 2 and 2")
    assert re.search(r"took [+-]\d+\.\d\d% \([+-][\d.]+% to [+-][\d.]+%\)", cost)


def no_power(monkeypatch) -> None:
    """No driver, whatever other tests have loaded."""
    import pynvml

    from engine.measure.energy import nvidia_smi

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    monkeypatch.setattr(
        nvidia_smi.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError())
    )


def test_power_that_was_asked_for_and_is_missing_is_an_error(tmp_path: Path, monkeypatch) -> None:
    no_power(monkeypatch)
    with pytest.raises(EnvironmentMissing) as caught:
        measured(tmp_path)
    assert caught.value.message == (
        "no power can be read here: NVML cannot be used: nvml shared library not found; "
        "the program `nvidia-smi` is not there"
    )
    assert "`metrics: [time]`" in caught.value.hint


def test_or_it_is_skipped_with_the_reason_when_the_spec_says_so(tmp_path: Path, monkeypatch) -> None:
    no_power(monkeypatch)
    found = measured(tmp_path, on_missing="skip")
    (row,) = found["summary"]
    assert row["status"] == "skipped"
    assert row["reason"].startswith("no power can be read here")
    assert row.get("energy_j") is None


class Numbered:
    """A source whose driver numbers processes as the host does."""

    name = "nvml"
    devices = ()

    def __init__(self) -> None:
        self.pids: list[int] = []

    def users(self):
        return {"GPU-0": set(self.pids)}


def test_our_own_process_is_known_by_when_it_came() -> None:
    from engine.measure.energy.campaign import _Campaign
    from engine.measure.energy.source import HostClock
    from engine.spec.energy import EnergySettings

    source = Numbered()
    campaign = _Campaign(EnergySettings(kind="energy"), HostClock(), source, lambda _: None)
    source.pids = [4_000_001]  # the number of this process outside of its container
    campaign.own |= campaign.users()["GPU-0"]
    assert not campaign.disturbed()
    source.pids = [4_000_001, 4_000_007]
    assert campaign.disturbed()


def test_a_loop_without_a_counter_takes_the_power_the_recorder_saw() -> None:
    import numpy as np

    from engine.measure.energy.campaign import with_power
    from engine.measure.energy.trace import LoopReads, channel
    from engine.measure.energy.trials import evaluate
    from engine.spec.energy import EnergyLimits

    ends = np.arange(1.0, 6.0, 0.02)
    loop = LoopReads("ffn", "decode", 0, ends, np.arange(len(ends)) * 100.0, None)
    seen = [channel("0", np.arange(0, 7, 0.1), {"power_w": np.full(70, 400.0)})]
    trial = evaluate(with_power(loop, seen), period_s=0.1, limits=EnergyLimits())
    assert trial.method == "instant power"
    assert trial.energy_j == pytest.approx(400.0 * 0.02 / 100)


@pytest.mark.parametrize("granularity, method", [("component", "loop"), ("layer", "time_weighted")])
def test_layers_on_two_devices_are_metered_like_those_on_one(
    tmp_path: Path, monkeypatch, granularity: str, method: str
) -> None:
    # Two names for one processor: layers get their hooks and groups, nothing has to cross.
    monkeypatch.setattr("engine.measure.local_model.devices_for", lambda *_: ("cpu", "cpu:1"))
    ablation = {"ablation": True} if method == "loop" else {}
    found = measured(
        tmp_path, pipeline=2, metrics=["time"], granularity=granularity, method=method, **ablation
    )
    observed = {row["setting"]: row["observed"] for row in found["observed"]}
    assert observed["model placement"] == "cpu layers 0 to 1, cpu:1 layers 2 to 2"
    steps = {row["component"] for row in found["components"] if row["phase"] == "decode"}
    assert ({"attention", "ffn"} if granularity == "component" else {"layer"}) <= steps
    told = [row["finding"] for row in found["findings"] if "2 devices" in row["finding"]]
    text = (
        "layers lie on 2 devices: loops run without CUDA graphs, kernels have gaps between them, and an "
        "energy is the sum over the devices, those that wait included"
    )
    assert told == ([text] if method == "loop" else [])


def test_what_is_refused_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="spreads its layers over 2 devices and torch sees 1"):
        measured(tmp_path, pipeline=2, metrics=["time"])
